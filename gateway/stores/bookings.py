"""News, written in one transaction: calls, sessions, charges, objects, and the intent they are of.

What is to be posted is decided by `gateway.core.ledger`. Here the sums it needs are read and what
it says is written, in the same transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from gateway.core.ledger import (
    Balance,
    Booking,
    Charge,
    Posted,
    Posting,
    balances_of,
    reconcile,
    reconcile_scope,
    terms_of,
)
from gateway.core.model import Meter, Micros, ObjectId, Scope
from gateway.core.sessions import Call, SessionTerms, windows
from gateway.stores import intents, reads, rows

_ADD_POSTED = """
INSERT INTO balances VALUES (:account, :unit, :period, :window_start, :change, 0)
ON CONFLICT DO UPDATE SET posted = posted + excluded.posted
"""

# Which of two reports of one call stands must not depend on which was heard first: the better known
# one does, and among equals the earlier one.
_LEARN = """
INSERT INTO calls (
    scope_upstream, scope_kind, scope_id, key, at, confidence, rank, reason,
    team, team_key, upstream, surface, deployment, model, request, run, response
) VALUES (
    :scope_upstream, :scope_kind, :scope_id, :key, :at, :confidence, :rank, :reason,
    :team, :team_key, :upstream, :surface, :deployment, :model, :request, :run, :response
)
ON CONFLICT DO UPDATE SET
    at = excluded.at, confidence = excluded.confidence, rank = excluded.rank,
    reason = excluded.reason, team = excluded.team, team_key = excluded.team_key,
    upstream = excluded.upstream, surface = excluded.surface, deployment = excluded.deployment,
    model = excluded.model, request = excluded.request, run = excluded.run,
    response = excluded.response
WHERE excluded.rank > calls.rank OR (excluded.rank = calls.rank AND excluded.at < calls.at)
"""

# With a lone max(), SQLite takes the bare columns from the row that has it: the last revision.
_POSTED_OF_FACT = """
SELECT *, max(revision), sum(quantity) AS quantity_sum, sum(nano_usd) AS nano_usd_sum
FROM postings WHERE fact = ? GROUP BY fact
"""

_POSTED_OF_SCOPE = """
SELECT *, max(revision), sum(quantity) AS quantity_sum, sum(nano_usd) AS nano_usd_sum
FROM postings WHERE scope_upstream = ? AND scope_kind = ? AND scope_id = ? AND meter = ?
GROUP BY fact
"""

_POST = """
INSERT INTO postings (
    fact, revision, kind, recorded_at, at, meter, quantity, nano_usd, price_id, confidence, reason,
    team, team_key, upstream, surface, deployment, model, request, run, response,
    scope_upstream, scope_kind, scope_id
) VALUES (
    :fact, :revision, :kind, :recorded_at, :at, :meter, :quantity, :nano_usd, :price_id,
    :confidence, :reason, :team, :team_key, :upstream, :surface, :deployment, :model, :request,
    :run, :response, :scope_upstream, :scope_kind, :scope_id
)
"""

_FORGET_SESSIONS = """
DELETE FROM sessions WHERE scope_upstream = ? AND scope_kind = ? AND scope_id = ?
"""

_KEEP_SESSION = """
INSERT INTO sessions VALUES (
    :scope_upstream, :scope_kind, :scope_id, :starts_at, :ends_at, :calls, :fact, :team, :team_key,
    :nano_usd, :confidence
)
"""

_DELETE_OBJECT = """
UPDATE objects SET deleted_at = ?
WHERE upstream = ? AND kind = ? AND id = ? AND deleted_at IS NULL
"""


def book(
    connection: sqlite3.Connection, booking: Booking, *, recorded_at: Micros
) -> tuple[Posting, ...]:
    """Write one booking and return the postings it made.

    Raises:
        KeyError: there are no terms for the kind of a scope.
        ValueError: there is no intent of that id.
    """
    lines: list[Posting] = []
    connection.executemany(_LEARN, [rows.values_of_call(call) for call in booking.calls])
    for scope in dict.fromkeys(call.scope for call in booking.calls):
        terms = terms_of(booking.terms, scope.kind)
        lines += _book_scope(connection, scope, terms, recorded_at=recorded_at)
    for charge in booking.charges:
        lines += _book_charge(connection, charge, recorded_at=recorded_at)
    _add_to_balances(connection, lines)
    _book_objects(connection, booking)
    if booking.intent is not None:
        intents.hear(connection, booking.intent, booking)
    return tuple(lines)


def _book_scope(
    connection: sqlite3.Connection, scope: Scope, terms: SessionTerms, *, recorded_at: Micros
) -> list[Posting]:
    calls = reads.calls(connection, scope)
    name = (scope.upstream, scope.kind.value, scope.id)
    meter = Meter.CODE_INTERPRETER_SESSION.value
    posted: dict[str, Posted] = {
        row["fact"]: rows.posted_of(row)
        for row in connection.execute(_POSTED_OF_SCOPE, (*name, meter))
    }
    lines = reconcile_scope(calls, terms, posted)
    _post(connection, lines, recorded_at=recorded_at)
    nano_usd = {fact: before.nano_usd for fact, before in posted.items()}
    for line in lines:
        fact = line.charge.fact
        nano_usd[fact] = nano_usd.get(fact, 0) + line.charge.nano_usd
    _keep_sessions(connection, scope, calls, terms, nano_usd)
    return lines


def _keep_sessions(
    connection: sqlite3.Connection,
    scope: Scope,
    calls: Iterable[Call],
    terms: SessionTerms,
    nano_usd: dict[str, int],
) -> None:
    connection.execute(_FORGET_SESSIONS, (scope.upstream, scope.kind.value, scope.id))
    for window in windows(calls, terms):
        values: rows.Values = {
            **rows.values_of_scope(scope),
            "starts_at": window.start,
            "ends_at": window.end,
            "calls": window.calls,
            "fact": window.fact,
            "team": window.opener.origin.team,
            "team_key": window.opener.origin.key,
            "nano_usd": nano_usd.get(window.fact, 0),
            "confidence": window.opener.confidence.value,
        }
        connection.execute(_KEEP_SESSION, values)


def _book_charge(
    connection: sqlite3.Connection, charge: Charge, *, recorded_at: Micros
) -> list[Posting]:
    row = connection.execute(_POSTED_OF_FACT, (charge.fact,)).fetchone()
    lines = reconcile([charge], {} if row is None else {charge.fact: rows.posted_of(row)})
    _post(connection, lines, recorded_at=recorded_at)
    return lines


def _post(connection: sqlite3.Connection, lines: Iterable[Posting], *, recorded_at: Micros) -> None:
    for line in lines:
        connection.execute(_POST, rows.values_of_posting(line) | {"recorded_at": recorded_at})


def _add_to_balances(connection: sqlite3.Connection, lines: Iterable[Posting]) -> None:
    changes: dict[Balance, int] = {}
    for line in lines:
        for balance, change in balances_of(line):
            changes[balance] = changes.get(balance, 0) + change
    for balance, change in changes.items():
        if change != 0:
            values = rows.values_of_balance(balance) | {"change": change}
            connection.execute(_ADD_POSTED, values)


def _book_objects(connection: sqlite3.Connection, booking: Booking) -> None:
    for created in booking.created:
        item = created.object
        connection.execute(
            "INSERT OR IGNORE INTO objects VALUES (?, ?, ?, ?, ?, NULL)",
            (item.upstream, item.kind.value, item.id, created.team, created.at),
        )
    connection.executemany(
        _DELETE_OBJECT, [_deletion(item, booking.at) for item in booking.deleted]
    )


def _deletion(item: ObjectId, at: Micros) -> tuple[Micros, str, str, str]:
    return (at, item.upstream, item.kind.value, item.id)
