"""News, written in one transaction: calls, sessions, charges, objects, and the intent they are of.

What is to be posted is decided by `gateway.core.ledger`. Here the sums it needs are read and what
it says is written, in the same transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gateway.core.ledger import (
    Balance,
    Booking,
    Charge,
    Posted,
    Posting,
    balances_of,
    reconcile,
    reconcile_windows,
)
from gateway.core.model import Micros, ObjectId, Scope
from gateway.core.sessions import Call, Window, fact_of, windows
from gateway.core.terms import Schedule, in_force
from gateway.stores import intents, reads, rows

_ADD_POSTED = """
INSERT INTO balances VALUES (:account, :unit, :period, :window_start, :change, 0)
ON CONFLICT DO UPDATE SET posted = posted + excluded.posted
"""

# Which of two reports of one call stands must not depend on which was heard first: the better known
# one does, and among equals the earlier one.
_LEARN = """
INSERT INTO calls (
    scope_upstream, scope_kind, scope_id, key, at, confidence, rank, reason, memory,
    team, team_key, upstream, surface, deployment, model, request, run, response
) VALUES (
    :scope_upstream, :scope_kind, :scope_id, :key, :at, :confidence, :rank, :reason, :memory,
    :team, :team_key, :upstream, :surface, :deployment, :model, :request, :run, :response
)
ON CONFLICT DO UPDATE SET
    at = excluded.at, confidence = excluded.confidence, rank = excluded.rank,
    reason = excluded.reason, memory = excluded.memory, team = excluded.team,
    team_key = excluded.team_key, upstream = excluded.upstream, surface = excluded.surface,
    deployment = excluded.deployment,
    model = excluded.model, request = excluded.request, run = excluded.run,
    response = excluded.response
WHERE excluded.rank > calls.rank OR (excluded.rank = calls.rank AND excluded.at < calls.at)
"""

# With a lone max(), SQLite takes the bare columns from the row that has it: the last revision.
_POSTED_OF_FACT = """
SELECT *, max(revision), sum(quantity) AS quantity_sum, sum(nano_usd) AS nano_usd_sum
FROM postings WHERE fact = ? GROUP BY fact
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

_LAST_SESSION = """
SELECT * FROM sessions WHERE scope_upstream = ? AND scope_kind = ? AND scope_id = ?
ORDER BY starts_at DESC LIMIT 1
"""

_BEGAN_BEFORE = """
SELECT max(starts_at) FROM sessions
WHERE scope_upstream = ? AND scope_kind = ? AND scope_id = ? AND starts_at <= ?
"""

_FACTS_FROM = """
SELECT fact FROM sessions
WHERE scope_upstream = ? AND scope_kind = ? AND scope_id = ? AND starts_at >= ?
"""

_FORGET_SESSIONS = """
DELETE FROM sessions
WHERE scope_upstream = ? AND scope_kind = ? AND scope_id = ? AND starts_at >= ?
"""

_KEEP_SESSION = """
INSERT INTO sessions (
    scope_upstream, scope_kind, scope_id, starts_at, ends_at, calls, fact, team, team_key, nano_usd,
    confidence, last_at
) VALUES (
    :scope_upstream, :scope_kind, :scope_id, :starts_at, :ends_at, :calls, :fact, :team, :team_key,
    :nano_usd, :confidence, :last_at
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
    for scope, news in _learn(connection, booking.calls).items():
        schedule = booking.terms.of_scope(scope)
        lines += _book_scope(connection, scope, news, schedule, recorded_at=recorded_at)
    for charge in booking.charges:
        lines += _book_charge(connection, charge, recorded_at=recorded_at)
    _add_to_balances(connection, lines)
    _book_objects(connection, booking)
    if booking.intent is not None:
        intents.hear(connection, booking.intent, booking)
    return tuple(lines)


@dataclass(slots=True)
class _News:
    """What changed in one scope: the calls, and the earliest time at which anything did.

    `is_new` stays true while every one of them was never known before.
    """

    calls: list[Call] = field(default_factory=list)
    at: Micros | None = None
    is_new: bool = True

    def add(self, call: Call, known_at: Micros | None) -> None:
        """Take a call that changed; `known_at` is when it was thought to have been."""
        self.calls.append(call)
        times = [at for at in (self.at, call.at, known_at) if at is not None]
        self.at = min(times)
        self.is_new = self.is_new and known_at is None


def _learn(connection: sqlite3.Connection, calls: Iterable[Call]) -> dict[Scope, _News]:
    """Write down the calls; return what that changed, by scope."""
    changed: dict[Scope, _News] = {}
    for call in calls:
        known = reads.call(connection, call.scope, call.key)
        if connection.execute(_LEARN, rows.values_of_call(call)).rowcount == 1:
            news = changed.setdefault(call.scope, _News())
            news.add(call, None if known is None else known.at)
    return changed


def _book_scope(
    connection: sqlite3.Connection,
    scope: Scope,
    news: _News,
    schedule: Schedule,
    *,
    recorded_at: Micros,
) -> list[Posting]:
    """Bring the sessions of a scope to its calls, from the last one that news can change."""
    name, news_at = (scope.upstream, scope.kind.value, scope.id), news.at or 0
    begun = _last_window(connection, scope, schedule) if news.is_new else None
    if begun is not None and news_at > begun.start:
        since, found = begun.start, windows(news.calls, schedule, begun=begun)
    else:
        since = connection.execute(_BEGAN_BEFORE, (*name, news_at)).fetchone()[0] or 0
        first = reads.first_call(connection, scope)
        found = windows(reads.calls_from(connection, scope, since), schedule, first=first)
    facts = {fact: None for (fact,) in connection.execute(_FACTS_FROM, (*name, since))}
    facts |= {window.fact: None for window in found}
    posted = _posted(connection, facts)
    lines = reconcile_windows(found, posted)
    _post(connection, lines, recorded_at=recorded_at)
    connection.execute(_FORGET_SESSIONS, (*name, since))
    _keep_sessions(connection, scope, found, _amounts(posted, lines))
    return lines


def _last_window(connection: sqlite3.Connection, scope: Scope, schedule: Schedule) -> Window | None:
    """Return the last session of a scope, if it is known when it was last used."""
    name = (scope.upstream, scope.kind.value, scope.id)
    row = connection.execute(_LAST_SESSION, name).fetchone()
    if row is None or row["last_at"] is None:
        return None
    opener = reads.call(connection, scope, row["fact"].removeprefix(fact_of(scope, "")))
    first = reads.first_call(connection, scope)
    if opener is None or first is None:
        return None
    return Window(
        start=row["starts_at"],
        end=row["ends_at"],
        opener=opener,
        calls=row["calls"],
        last=row["last_at"],
        terms=in_force(schedule, row["starts_at"]),
        memory=first.memory,
    )


def _posted(connection: sqlite3.Connection, facts: Iterable[str]) -> dict[str, Posted]:
    found: dict[str, Posted] = {}
    for fact in facts:
        row = connection.execute(_POSTED_OF_FACT, (fact,)).fetchone()
        if row is not None:
            found[fact] = rows.posted_of(row)
    return found


def _amounts(posted: dict[str, Posted], lines: Iterable[Posting]) -> dict[str, int]:
    """Return what each fact comes to once these lines are posted."""
    nano_usd = {fact: before.nano_usd for fact, before in posted.items()}
    for line in lines:
        fact = line.charge.fact
        nano_usd[fact] = nano_usd.get(fact, 0) + line.charge.nano_usd
    return nano_usd


def _keep_sessions(
    connection: sqlite3.Connection,
    scope: Scope,
    found: Sequence[Window],
    nano_usd: dict[str, int],
) -> None:
    for window in found:
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
            "last_at": window.last,
        }
        connection.execute(_KEEP_SESSION, values)


def _book_charge(
    connection: sqlite3.Connection, charge: Charge, *, recorded_at: Micros
) -> list[Posting]:
    lines = reconcile([charge], _posted(connection, [charge.fact]))
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
