"""The tables of the SQLite ledger, and how a file comes to have them.

Every table is STRICT and holds integers, text and one blob (a key's digest). Times are
microseconds since the epoch, UTC; money is nano-USD. Steps are only ever added at the end, never
edited: a ledger that was made with the first release must arrive at the same tables as a new one.
"""

from __future__ import annotations

import sqlite3

from sqlite_utils.db import Database
from sqlite_utils.migrations import Migrations

from gateway.ports import StoreUnavailable

MIGRATIONS = Migrations("gateway")
STEPS = frozenset({"first", "terms"})

_FIRST = (
    """
    CREATE TABLE keys (
        public TEXT PRIMARY KEY,
        digest BLOB NOT NULL,
        team TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        revoked_at INTEGER
    ) STRICT
    """,
    """
    CREATE TABLE objects (
        upstream TEXT NOT NULL,
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        team TEXT NOT NULL,
        at INTEGER NOT NULL,
        deleted_at INTEGER,
        PRIMARY KEY (upstream, kind, id)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE INDEX objects_owned ON objects (upstream, kind, team, at) WHERE deleted_at IS NULL
    """,
    """
    CREATE TABLE intents (
        id TEXT PRIMARY KEY,
        at INTEGER NOT NULL,
        boot TEXT NOT NULL,
        operation TEXT NOT NULL,
        team TEXT NOT NULL,
        team_key TEXT NOT NULL,
        upstream TEXT NOT NULL,
        surface TEXT NOT NULL,
        deployment TEXT,
        model TEXT,
        request TEXT NOT NULL,
        origin_run TEXT,
        origin_response TEXT,
        quote TEXT NOT NULL,
        claims TEXT NOT NULL,
        tools_may_call INTEGER NOT NULL,
        previous TEXT,
        thread TEXT,
        run TEXT,
        response TEXT,
        state TEXT NOT NULL,
        status INTEGER,
        looks INTEGER NOT NULL,
        look_at INTEGER,
        closed_at INTEGER
    ) STRICT
    """,
    "CREATE INDEX intents_run ON intents (upstream, run) WHERE run IS NOT NULL",
    "CREATE INDEX intents_response ON intents (upstream, response) WHERE response IS NOT NULL",
    "CREATE INDEX intents_thread ON intents (upstream, thread) WHERE thread IS NOT NULL",
    "CREATE INDEX intents_unsettled ON intents (at) WHERE closed_at IS NULL",
    "CREATE INDEX intents_due ON intents (look_at) WHERE closed_at IS NULL",
    """
    CREATE TABLE postings (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        fact TEXT NOT NULL,
        revision INTEGER NOT NULL,
        kind TEXT NOT NULL,
        recorded_at INTEGER NOT NULL,
        at INTEGER NOT NULL,
        meter TEXT NOT NULL,
        quantity INTEGER NOT NULL,
        nano_usd INTEGER NOT NULL,
        price_id TEXT NOT NULL,
        confidence TEXT NOT NULL,
        reason TEXT,
        team TEXT NOT NULL,
        team_key TEXT NOT NULL,
        upstream TEXT NOT NULL,
        surface TEXT NOT NULL,
        deployment TEXT,
        model TEXT,
        request TEXT NOT NULL,
        run TEXT,
        response TEXT,
        scope_upstream TEXT,
        scope_kind TEXT,
        scope_id TEXT,
        UNIQUE (fact, revision)
    ) STRICT
    """,
    """
    CREATE INDEX postings_scope ON postings (scope_upstream, scope_kind, scope_id)
    WHERE scope_id IS NOT NULL
    """,
    "CREATE INDEX postings_request ON postings (request)",
    "CREATE INDEX postings_at ON postings (at)",
    """
    CREATE TRIGGER postings_are_never_changed BEFORE UPDATE ON postings
    BEGIN SELECT RAISE(ABORT, 'postings are never changed'); END
    """,
    """
    CREATE TRIGGER postings_are_never_deleted BEFORE DELETE ON postings
    BEGIN SELECT RAISE(ABORT, 'postings are never deleted'); END
    """,
    """
    CREATE TABLE calls (
        scope_upstream TEXT NOT NULL,
        scope_kind TEXT NOT NULL,
        scope_id TEXT NOT NULL,
        key TEXT NOT NULL,
        at INTEGER NOT NULL,
        confidence TEXT NOT NULL,
        rank INTEGER NOT NULL,
        reason TEXT,
        team TEXT NOT NULL,
        team_key TEXT NOT NULL,
        upstream TEXT NOT NULL,
        surface TEXT NOT NULL,
        deployment TEXT,
        model TEXT,
        request TEXT NOT NULL,
        run TEXT,
        response TEXT,
        PRIMARY KEY (scope_upstream, scope_kind, scope_id, key)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX calls_response ON calls (scope_upstream, response, scope_id)",
    """
    CREATE TABLE sessions (
        scope_upstream TEXT NOT NULL,
        scope_kind TEXT NOT NULL,
        scope_id TEXT NOT NULL,
        starts_at INTEGER NOT NULL,
        ends_at INTEGER NOT NULL,
        calls INTEGER NOT NULL,
        fact TEXT NOT NULL,
        team TEXT NOT NULL,
        team_key TEXT NOT NULL,
        nano_usd INTEGER NOT NULL,
        confidence TEXT NOT NULL,
        PRIMARY KEY (scope_upstream, scope_kind, scope_id, starts_at)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX sessions_team ON sessions (team, starts_at)",
    "CREATE INDEX sessions_end ON sessions (ends_at, starts_at, team)",
    """
    CREATE TABLE balances (
        account TEXT NOT NULL,
        unit TEXT NOT NULL,
        period TEXT NOT NULL,
        window_start INTEGER NOT NULL,
        posted INTEGER NOT NULL,
        reserved INTEGER NOT NULL CHECK (reserved >= 0),
        PRIMARY KEY (account, unit, period, window_start)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE decisions (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        request TEXT NOT NULL,
        at INTEGER NOT NULL,
        team TEXT NOT NULL,
        operation TEXT NOT NULL,
        rule TEXT NOT NULL,
        verdict TEXT NOT NULL,
        status INTEGER NOT NULL,
        file_sha256 TEXT,
        file_bytes INTEGER,
        file_type TEXT
    ) STRICT
    """,
    "CREATE INDEX decisions_request ON decisions (request)",
)


# What a container was asked for and which conversation a response is in, and what it takes to add a
# call to the last session of a scope without looking at the others.
_TERMS = (
    "ALTER TABLE calls ADD COLUMN memory TEXT",
    "ALTER TABLE intents ADD COLUMN memory TEXT",
    "ALTER TABLE intents ADD COLUMN conversation TEXT",
    "ALTER TABLE sessions ADD COLUMN last_at INTEGER",
    "CREATE INDEX calls_at ON calls (scope_upstream, scope_kind, scope_id, at, key)",
    """
    CREATE INDEX intents_conversation ON intents (upstream, conversation)
    WHERE conversation IS NOT NULL
    """,
)


@MIGRATIONS()
def first(db: Database) -> None:
    """Make the tables of the first release."""
    for statement in _FIRST:
        db.execute(statement)


@MIGRATIONS()
def terms(db: Database) -> None:
    """Remember what sessions of other terms than the plain ones depend on."""
    for statement in _TERMS:
        db.execute(statement)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to the newest tables. The caller holds the ledger's lock file.

    Raises:
        StoreUnavailable: a newer release has been here; its tables are not ours to guess.
    """
    db = Database(connection, execute_plugins=False)
    newer = {step.name for step in MIGRATIONS.applied(db)} - STEPS
    if newer:
        raise StoreUnavailable(
            f"the ledger has steps this release does not know (`{', '.join(sorted(newer))}`); "
            "run the release that made them, or a later one"
        )
    MIGRATIONS.apply(db)
