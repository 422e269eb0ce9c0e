"""Promises: journalled with what they hold, moved along, closed once.

Like everything that writes, these functions run inside a savepoint that is rolled back when they
raise, so they may write first and refuse afterwards.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from gateway.core.ledger import Booking, Claim, Intent, IntentState, OverCap
from gateway.core.model import Micros
from gateway.stores import rows


class NotReserved(Exception):
    """A claim did not fit; the savepoint takes back what was written before it."""

    def __init__(self, over: OverCap) -> None:
        super().__init__(over.claim.rule)
        self.over = over


_JOURNAL = """
INSERT INTO intents (
    id, at, boot, operation, team, team_key, upstream, surface, deployment, model, request,
    origin_run, origin_response, quote, claims, tools_may_call, previous, conversation, memory,
    thread, run, response, state, looks
) VALUES (
    :id, :at, :boot, :operation, :team, :team_key, :upstream, :surface, :deployment, :model,
    :request, :origin_run, :origin_response, :quote, :claims, :tools_may_call, :previous,
    :conversation, :memory, :thread, :run, :response, :state, :looks
)
"""

_TAKE = """
UPDATE balances SET reserved = reserved + :bound
WHERE account = :account AND unit = :unit AND period = :period AND window_start = :window_start
AND posted + reserved + :bound <= :cap
"""

_MAKE = "INSERT OR IGNORE INTO balances VALUES (:account, :unit, :period, :window_start, 0, 0)"

_STANDING = """
SELECT posted, reserved FROM balances
WHERE account = :account AND unit = :unit AND period = :period AND window_start = :window_start
"""

_RELEASE = """
UPDATE balances SET reserved = reserved - :bound
WHERE account = :account AND unit = :unit AND period = :period AND window_start = :window_start
"""

_HEAR = """
UPDATE intents SET
    thread = coalesce(:thread, thread), run = coalesce(:run, run),
    response = coalesce(:response, response)
WHERE id = :id
"""

# An intent that waits but was not told until when is due at once: a hold must never be forgotten.
_MOVE = """
UPDATE intents SET
    state = :state, status = coalesce(:status, status),
    looks = looks + (state <> 'open' AND :closed_at IS NULL),
    look_at = coalesce(:look_at, look_at, :at), closed_at = :closed_at
WHERE id = :id
"""


def reserve(
    connection: sqlite3.Connection, intent: Intent, claims: Sequence[Claim], *, boot: str
) -> None:
    """Journal an intent and take its claims.

    Raises:
        NotReserved: a claim does not fit; what earlier claims of this request took counts.
        ValueError: there is an intent of that id.
    """
    values = rows.values_of_intent(intent, claims) | {"boot": boot}
    try:
        connection.execute(_JOURNAL, values)
    except sqlite3.IntegrityError as error:
        raise ValueError(f"there is an intent `{intent.id}` already") from error
    for claim in claims:
        _take(connection, claim)


def _take(connection: sqlite3.Connection, claim: Claim) -> None:
    name = rows.values_of_balance(claim.balance)
    values = name | {"bound": claim.bound, "cap": claim.cap}
    if connection.execute(_TAKE, values).rowcount == 1:
        return
    is_new = connection.execute(_MAKE, name).rowcount == 1
    if is_new and connection.execute(_TAKE, values).rowcount == 1:
        return
    posted, reserved = connection.execute(_STANDING, name).fetchone()
    raise NotReserved(OverCap(claim=claim, posted=posted, reserved=reserved))


def void(connection: sqlite3.Connection, intent: str, *, at: Micros) -> None:
    """Close an intent that nobody has taken in hand, if there is one."""
    row = connection.execute("SELECT * FROM intents WHERE id = ?", (intent,)).fetchone()
    if row is not None and row["closed_at"] is None:
        _move(connection, row, state=IntentState.VOID, at=at)


def hear(connection: sqlite3.Connection, intent: str, booking: Booking) -> None:
    """Let an intent learn ids and move on; a closed one learns, but stays closed.

    Raises:
        ValueError: there is no intent of that id.
    """
    row = connection.execute("SELECT * FROM intents WHERE id = ?", (intent,)).fetchone()
    if row is None:
        raise ValueError(f"there is no intent `{intent}` to book for")
    heard = {"thread": booking.thread, "run": booking.run, "response": booking.response}
    if any(value is not None for value in heard.values()):
        connection.execute(_HEAR, heard | {"id": intent})
    outcome = booking.outcome
    if outcome is not None and row["closed_at"] is None:
        _move(
            connection,
            row,
            state=outcome.state,
            at=booking.at,
            look_at=outcome.look_at,
            status=outcome.status,
        )


def _move(
    connection: sqlite3.Connection,
    row: sqlite3.Row,
    *,
    state: IntentState,
    at: Micros,
    look_at: Micros | None = None,
    status: int | None = None,
) -> None:
    """Move an intent that is not closed; closing it gives back what it holds, which is once."""
    values: rows.Values = {
        "id": row["id"],
        "state": state.value,
        "status": status,
        "look_at": look_at,
        "at": at,
        "closed_at": at if state.is_closed else None,
    }
    connection.execute(_MOVE, values)
    if state.is_closed:
        for claim in rows.claims_of(row):
            values = rows.values_of_balance(claim.balance) | {"bound": claim.bound}
            connection.execute(_RELEASE, values)
