"""Every question the ledger answers, as a function of a connection that may only read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from gateway.core.ledger import LOOK_AHEAD_MAX, Intent, Period, Unit, window_start
from gateway.core.model import Micros, ObjectId, ObjectKind, Scope
from gateway.core.sessions import Call
from gateway.ports import KeyRecord, LedgerRow, SessionRow
from gateway.stores import rows

LEDGER_PAGE = 500

_OWNER = """
SELECT team FROM objects WHERE upstream = ? AND kind = ? AND id = ? AND deleted_at IS NULL
"""

_OWNED = """
SELECT id, at FROM objects
WHERE upstream = ? AND kind = ? AND team = ? AND deleted_at IS NULL
ORDER BY at DESC, id DESC
"""

_CALLS = """
SELECT * FROM calls WHERE scope_upstream = ? AND scope_kind = ? AND scope_id = ?
ORDER BY at, key
"""

_CALLS_FROM = """
SELECT * FROM calls WHERE scope_upstream = ? AND scope_kind = ? AND scope_id = ? AND at >= ?
ORDER BY at, key
"""

_CALL = """
SELECT * FROM calls WHERE scope_upstream = ? AND scope_kind = ? AND scope_id = ? AND key = ?
"""

_BALANCES = """
SELECT unit, period, posted, reserved FROM balances
WHERE account = ?
AND ((period = ? AND window_start = ?) OR (period = ? AND window_start = ?)
     OR (period = ? AND window_start = ?))
"""

_SESSIONS_OF_ALL = """
SELECT * FROM sessions ORDER BY starts_at DESC, scope_upstream, scope_kind, scope_id
"""

_SESSIONS_OF_TEAM = """
SELECT * FROM sessions WHERE team = ?
ORDER BY starts_at DESC, scope_upstream, scope_kind, scope_id
"""


def owners(connection: sqlite3.Connection, objects: Iterable[ObjectId]) -> dict[ObjectId, str]:
    """Return the team of each object that is known and not deleted."""
    found: dict[ObjectId, str] = {}
    for item in objects:
        row = connection.execute(_OWNER, (item.upstream, item.kind.value, item.id)).fetchone()
        if row is not None:
            found[item] = row["team"]
    return found


def owned(
    connection: sqlite3.Connection, *, upstream: str, kind: ObjectKind, team: str
) -> list[tuple[str, Micros]]:
    """Return ids and creation times of a team's living objects of one kind, newest first."""
    found = connection.execute(_OWNED, (upstream, kind.value, team))
    return [(row["id"], row["at"]) for row in found]


def calls(connection: sqlite3.Connection, scope: Scope) -> list[Call]:
    """Return every known call of a scope, in time order."""
    found = connection.execute(_CALLS, _name(scope))
    return [rows.call_of(row) for row in found]


def intent(connection: sqlite3.Connection, request: str) -> Intent | None:
    """Return an intent by its request id."""
    return _one(connection.execute("SELECT * FROM intents WHERE id = ?", (request,)))


def intent_of_run(connection: sqlite3.Connection, *, upstream: str, run: str) -> Intent | None:
    """Return the intent that started a run: the oldest one that names it."""
    query = "SELECT * FROM intents WHERE upstream = ? AND run = ? ORDER BY at, id LIMIT 1"
    return _one(connection.execute(query, (upstream, run)))


def intent_of_response(
    connection: sqlite3.Connection, *, upstream: str, response: str
) -> Intent | None:
    """Return the intent that made a response: the oldest one that names it."""
    query = "SELECT * FROM intents WHERE upstream = ? AND response = ? ORDER BY at, id LIMIT 1"
    return _one(connection.execute(query, (upstream, response)))


def containers_of(connection: sqlite3.Connection, *, upstream: str, response: str) -> list[str]:
    """Return the containers that calls of a response named."""
    query = """
    SELECT DISTINCT scope_id FROM calls
    WHERE scope_upstream = ? AND response = ? AND scope_kind = 'container' ORDER BY scope_id
    """
    return [name for (name,) in connection.execute(query, (upstream, response))]


_CONTAINERS_IN = """
SELECT calls.scope_id, max(calls.at) AS latest FROM intents
JOIN calls ON calls.scope_upstream = intents.upstream AND calls.response = intents.response
JOIN objects ON objects.upstream = intents.upstream AND objects.kind = 'item'
    AND objects.id = calls.key AND objects.deleted_at IS NULL
WHERE intents.upstream = ? AND intents.conversation = ? AND calls.scope_kind = 'container'
GROUP BY calls.scope_id ORDER BY latest DESC, calls.scope_id LIMIT ?
"""


def containers_in(
    connection: sqlite3.Connection, *, upstream: str, conversation: str, limit: int
) -> list[str]:
    """Return the containers that calls in a conversation named, the latest call's first."""
    found = connection.execute(_CONTAINERS_IN, (upstream, conversation, limit))
    return [name for name, _ in found]


def calls_from(connection: sqlite3.Connection, scope: Scope, since: Micros) -> list[Call]:
    """Return every known call of a scope at or after `since`, in time order."""
    found = connection.execute(_CALLS_FROM, (*_name(scope), since))
    return [rows.call_of(row) for row in found]


def first_call(connection: sqlite3.Connection, scope: Scope) -> Call | None:
    """Return the first known call of a scope."""
    row = connection.execute(f"{_CALLS} LIMIT 1", _name(scope)).fetchone()
    return None if row is None else rows.call_of(row)


def call(connection: sqlite3.Connection, scope: Scope, key: str) -> Call | None:
    """Return a known call by its name."""
    row = connection.execute(_CALL, (*_name(scope), key)).fetchone()
    return None if row is None else rows.call_of(row)


def _name(scope: Scope) -> tuple[str, str, str]:
    return (scope.upstream, scope.kind.value, scope.id)


def due(connection: sqlite3.Connection, *, at: Micros, limit: int) -> list[Intent]:
    """Return unsettled intents whose time to be looked at has come, oldest first.

    One that is to be looked at later than any look is put off was put off by a clock that has been
    set back since: its time has come too.
    """
    query = """
    SELECT * FROM intents WHERE closed_at IS NULL AND (look_at <= ? OR look_at > ?)
    ORDER BY look_at, at, id LIMIT ?
    """
    values = (at, at + LOOK_AHEAD_MAX, limit)
    return [rows.intent_of(row) for row in connection.execute(query, values)]


def orphans(connection: sqlite3.Connection, *, boot: str) -> list[Intent]:
    """Return intents in state OPEN that were made under another boot, oldest first."""
    query = """
    SELECT * FROM intents WHERE closed_at IS NULL AND state = 'open' AND boot <> ? ORDER BY at, id
    """
    return [rows.intent_of(row) for row in connection.execute(query, (boot,))]


def unsettled_on(
    connection: sqlite3.Connection, *, upstream: str, thread: str | None, response: str | None
) -> list[Intent]:
    """Return the intents that are not closed and name this thread, or this response."""
    query = """
    SELECT * FROM intents WHERE closed_at IS NULL AND upstream = ?
    AND (thread = ? OR response = ?) ORDER BY at, id
    """
    found = connection.execute(query, (upstream, thread, response))
    return [rows.intent_of(row) for row in found]


def unsettled(connection: sqlite3.Connection) -> tuple[int, Micros | None]:
    """Return how many intents are not closed, and the time of the oldest."""
    query = "SELECT count(*), min(at) FROM intents WHERE closed_at IS NULL"
    count, oldest = connection.execute(query).fetchone()
    return count, oldest


def keys(connection: sqlite3.Connection) -> list[KeyRecord]:
    """Return all keys, oldest first."""
    found = connection.execute("SELECT * FROM keys ORDER BY created_at, public")
    return [rows.key_of(row) for row in found]


def balances(
    connection: sqlite3.Connection, account: str, at: Micros
) -> dict[tuple[str, str], tuple[int, int]]:
    """Return ``(unit, period) -> (posted, reserved)`` in the windows that hold `at`.

    Every unit and period is there; what was never touched is ``(0, 0)``.
    """
    found = {(unit.value, period.value): (0, 0) for unit in Unit for period in Period}
    windows = [part for period in Period for part in (period.value, window_start(period, at))]
    for row in connection.execute(_BALANCES, (account, *windows)):
        found[row["unit"], row["period"]] = (row["posted"], row["reserved"])
    return found


def ledger_page(connection: sqlite3.Connection, *, after: int) -> list[LedgerRow]:
    """Return the next `LEDGER_PAGE` postings behind number `after`; fewer only at the end."""
    query = "SELECT * FROM postings WHERE number > ? ORDER BY number LIMIT ?"
    return [rows.ledger_row_of(row) for row in connection.execute(query, (after, LEDGER_PAGE))]


def postings_of_request(connection: sqlite3.Connection, request: str) -> list[LedgerRow]:
    """Return the postings one request of ours caused, in order."""
    query = "SELECT * FROM postings WHERE request = ? ORDER BY number"
    return [rows.ledger_row_of(row) for row in connection.execute(query, (request,))]


def sessions(connection: sqlite3.Connection, *, team: str | None) -> Sequence[SessionRow]:
    """Return the sessions as they stand, newest first; of all teams for None."""
    if team is None:
        found = connection.execute(_SESSIONS_OF_ALL)
    else:
        found = connection.execute(_SESSIONS_OF_TEAM, (team,))
    return [rows.session_of(row) for row in found]


def open_sessions(connection: sqlite3.Connection, at: Micros) -> dict[str, int]:
    """Return how many sessions are open at `at`, by team."""
    query = """
    SELECT team, count(*) FROM sessions WHERE ends_at > ? AND starts_at <= ? GROUP BY team
    """
    return dict(connection.execute(query, (at, at)).fetchall())


def _one(found: sqlite3.Cursor) -> Intent | None:
    row = found.fetchone()
    return None if row is None else rows.intent_of(row)
