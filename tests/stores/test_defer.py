"""A deletion that waits: its intent and its tombstone are one transaction."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core.ledger import Booking, IntentState, Outcome, OwnedObject
from tests.stores.making import FILE, NOON, TERMS, intent, opened

pytestmark = pytest.mark.anyio


async def test_intent_and_tombstone_are_written_together(tmp_path: Path) -> None:
    store = await opened(tmp_path / "x.db")
    await store.book(Booking(NOON, TERMS, created=(OwnedObject(FILE, "risk", NOON),)))
    look = Outcome(IntentState.AWAITING, look_at=NOON)
    await store.defer(intent(), Booking(NOON, TERMS, intent="req-1", outcome=look, deleted=(FILE,)))

    assert await store.owners([FILE]) == {}
    assert [each.id for each in await store.due(at=NOON, limit=9)] == ["req-1"]
    await store.close()


async def test_neither_is_written_if_one_cannot_be(tmp_path: Path) -> None:
    store = await opened(tmp_path / "x.db")
    await store.book(Booking(NOON, TERMS, created=(OwnedObject(FILE, "risk", NOON),)))
    look = Outcome(IntentState.AWAITING, look_at=NOON)
    booking = Booking(NOON, TERMS, intent="req-1", outcome=look, deleted=(FILE,))
    with pytest.raises(ValueError, match="no-such-intent"):
        await store.defer(intent(), replace(booking, intent="no-such-intent"))

    assert await store.owners([FILE]) == {FILE: "risk"}
    assert await store.intent("req-1") is None
    await store.close()
