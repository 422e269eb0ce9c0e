"""Deletions that wait: a thread or response disappears for its team at once, and at Azure later.

What a run cost is read from its steps. If its thread were deleted before that, nobody could tell.
So the deletion is journalled, the object gets a tombstone and is gone for everybody who asks
here, and the settlement carries the deletion out once nothing is left to be read.
"""

from __future__ import annotations

import orjson

from gateway.answer import Answer
from gateway.core.ledger import Booking, Intent, IntentState, Outcome
from gateway.core.model import ObjectId, ObjectKind
from gateway.core.operations import Operation
from gateway.exchange import Asked
from gateway.house import House

_DEFERRED = {ObjectKind.THREAD: "thread.deleted", ObjectKind.RESPONSE: "response"}


def is_deferred(operation: Operation) -> bool:
    """Return whether a deletion has to wait for the settlement."""
    return operation.deletes in _DEFERRED


async def defer_deletion(house: House, asked: Asked, answer: Answer) -> None:
    """Journal the deletion, hide the object, and tell the caller that it is gone."""
    kind = asked.operation.deletes
    if kind is None:
        raise ValueError("not a deletion")
    name = asked.match.values[kind]
    origin = asked.origin()
    is_thread = kind is ObjectKind.THREAD
    intent = Intent(
        id=asked.id,
        at=asked.at,
        operation=asked.operation.name,
        origin=origin,
        thread=name if is_thread else None,
        response=None if is_thread else name,
    )
    await house.store.defer(
        intent,
        Booking(
            at=asked.at,
            terms=house.rules.rates.book.terms,
            intent=asked.id,
            outcome=Outcome(IntentState.AWAITING, look_at=asked.at),
            deleted=(ObjectId(asked.upstream, kind, name),),
        ),
    )
    body = orjson.dumps({"id": name, "object": _DEFERRED[kind], "deleted": True})
    await answer.whole(200, [(b"content-type", b"application/json")], body)
