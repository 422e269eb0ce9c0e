"""What is kept as it was said: decisions and team keys."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict

from gateway.core.model import Micros
from gateway.ports import Decision, KeyRecord

_DECIDE = """
INSERT INTO decisions (
    request, at, team, operation, rule, verdict, status, file_sha256, file_bytes, file_type
) VALUES (
    :request, :at, :team, :operation, :rule, :verdict, :status, :file_sha256, :file_bytes,
    :file_type
)
"""


def decide(connection: sqlite3.Connection, decision: Decision) -> None:
    """Keep a decision for the audit."""
    connection.execute(_DECIDE, asdict(decision))


def add_key(connection: sqlite3.Connection, record: KeyRecord) -> None:
    """Keep a new key.

    Raises:
        ValueError: there is a key of that public part.
    """
    values = (record.public, record.digest, record.team, record.created_at, record.revoked_at)
    try:
        connection.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?)", values)
    except sqlite3.IntegrityError as error:
        raise ValueError(f"there is a key `{record.public}` already") from error


def revoke_key(connection: sqlite3.Connection, public: str, at: Micros) -> bool:
    """Revoke a key; return False if there is none or it was revoked before."""
    query = "UPDATE keys SET revoked_at = ? WHERE public = ? AND revoked_at IS NULL"
    return connection.execute(query, (at, public)).rowcount == 1
