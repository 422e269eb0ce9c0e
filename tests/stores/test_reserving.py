"""Promises are journalled with what they hold, and what they hold is given back once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from anyio import create_task_group

from gateway.core.ledger import (
    Intent,
    IntentState,
    Outcome,
    OverCap,
    Period,
    QuoteLine,
    Unit,
)
from gateway.core.model import Meter
from gateway.stores import SqliteStore
from tests.stores.making import MINUTE, NOON, THREAD, call, claim, intent, news

DAY_SESSIONS = (Unit.SESSIONS, Period.DAY)


async def standing(store: SqliteStore, account: str = "team:risk") -> tuple[int, int]:
    """Return ``(posted, reserved)`` sessions of the day."""
    return (await store.balances(account, NOON))[DAY_SESSIONS]


async def test_of_256_at_the_edge_of_a_cap_of_7_exactly_7_pass(store: SqliteStore) -> None:
    wanted = [store.reserve(intent(f"req-{n}"), [claim(cap=7)]) for n in range(256)]
    answers = await asyncio.gather(*wanted)
    assert sum(answer is None for answer in answers) == 7
    assert await standing(store) == (0, 7)
    assert (await store.unsettled())[0] == 7


async def test_posted_and_reserved_never_exceed_the_cap_while_holds_turn_into_charges(
    store: SqliteStore,
) -> None:
    passed: list[int] = []

    async def caller(first: int) -> None:
        for n in range(first, first + 8):
            if await store.reserve(intent(f"req-{n}"), [claim(cap=7)]) is None:
                passed.append(n)
                assert sum(await standing(store)) <= 7
                opens = call(0, scope=replace(THREAD, id=f"thread_{n}"))
                settled = Outcome(IntentState.SETTLED)
                await store.book(news(opens, intent=f"req-{n}", outcome=settled))
            assert sum(await standing(store)) <= 7

    async with create_task_group() as group:
        for first in range(0, 64, 8):
            group.start_soon(caller, first)
    assert len(passed) == 7
    assert await standing(store) == (7, 0)
    assert (await store.unsettled())[0] == 0


async def test_a_claim_that_does_not_fit_writes_nothing(store: SqliteStore) -> None:
    fits, does_not = claim(account="org", cap=100), claim(bound=8, cap=7)
    over = await store.reserve(intent(), [fits, does_not])
    assert over == OverCap(claim=does_not, posted=0, reserved=0)
    assert await store.intent("req-1") is None
    assert await standing(store, "org") == (0, 0)
    assert await standing(store) == (0, 0)


async def test_a_claim_that_fills_the_cap_to_the_brim_fits(store: SqliteStore) -> None:
    assert await store.reserve(intent("a"), [claim(bound=7, cap=7)]) is None
    over = await store.reserve(intent("b"), [claim(bound=1, cap=7)])
    assert over == OverCap(claim=claim(bound=1, cap=7), posted=0, reserved=7)


async def test_what_was_posted_counts_against_the_cap(store: SqliteStore) -> None:
    await store.book(news(call(0), call(60)))
    assert await store.reserve(intent("a"), [claim(cap=3)]) is None
    over = await store.reserve(intent("b"), [claim(cap=3)])
    assert over == OverCap(claim=claim(cap=3), posted=2, reserved=1)


async def test_several_claims_on_one_balance_add_up(store: SqliteStore) -> None:
    over = await store.reserve(intent("a"), [claim(bound=4, cap=7), claim(bound=4, cap=7)])
    assert over == OverCap(claim=claim(bound=4, cap=7), posted=0, reserved=4)
    assert await standing(store) == (0, 0)
    assert await store.reserve(intent("b"), [claim(bound=4, cap=8)] * 2) is None
    assert await standing(store) == (0, 8)
    await store.book(news(intent="b", outcome=Outcome(IntentState.SETTLED)))
    assert await standing(store) == (0, 0)


async def test_an_intent_comes_back_as_it_was_promised(store: SqliteStore) -> None:
    line = QuoteLine(meter=Meter.OUTPUT_TOKENS, quantity=9, nano_usd=12, price_id="p")
    promised = replace(
        intent(), quote=(line, line), tools_may_call=True, thread="thread_1", response="resp_1"
    )
    promised = replace(promised, origin=replace(promised.origin, run="run_of_origin"))
    await store.reserve(promised, [])
    assert await store.intent("req-1") == promised


async def test_the_same_intent_twice_is_a_bug_and_is_named(store: SqliteStore) -> None:
    await store.reserve(intent(), [claim()])
    with pytest.raises(ValueError, match="there is an intent `req-1` already"):
        await store.reserve(intent(), [claim()])
    assert await standing(store) == (0, 1)


async def test_closing_gives_back_what_was_held_exactly_once(store: SqliteStore) -> None:
    await store.reserve(intent("a"), [claim(bound=2)])
    await store.reserve(intent("b"), [claim(bound=3)])
    settled = news(intent="a", outcome=Outcome(IntentState.SETTLED, status=200))
    await store.book(settled)
    assert await standing(store) == (0, 3)
    await store.book(settled)
    await store.book(news(intent="a", outcome=Outcome(IntentState.VOID)))
    assert await standing(store) == (0, 3)


async def test_a_closed_intent_stays_closed_but_still_learns_and_still_corrects(
    store: SqliteStore,
) -> None:
    await store.reserve(intent(), [claim()])
    await store.book(news(intent="req-1", outcome=Outcome(IntentState.VOID)))
    late = news(call(0), intent="req-1", outcome=Outcome(IntentState.AWAITING, look_at=NOON))
    assert len(await store.book(replace(late, run="run_1"))) == 1
    closed = await store.intent_of_run(upstream="east", run="run_1")
    assert closed == replace(intent(), run="run_1", state=IntentState.VOID)
    assert await store.due(at=NOON, limit=10) == []


async def test_an_intent_learns_ids_and_is_found_by_them(store: SqliteStore) -> None:
    await store.reserve(intent(), [])
    await store.book(replace(news(intent="req-1"), thread="thread_1", run="run_1"))
    await store.book(replace(news(intent="req-1"), response="resp_1"))
    learnt = replace(intent(), thread="thread_1", run="run_1", response="resp_1")
    assert await store.intent_of_run(upstream="east", run="run_1") == learnt
    assert await store.intent_of_response(upstream="east", response="resp_1") == learnt
    assert await store.intent_of_run(upstream="west", run="run_1") is None


async def test_the_intent_that_started_a_run_is_the_oldest_that_names_it(
    store: SqliteStore,
) -> None:
    for name, at in (("later", NOON + MINUTE), ("first", NOON)):
        await store.reserve(intent(name, at=at), [])
        await store.book(replace(news(intent=name), run="run_1"))
    found = await store.intent_of_run(upstream="east", run="run_1")
    assert found is not None
    assert found.id == "first"


async def test_news_of_an_intent_nobody_made_is_a_bug_and_writes_nothing(
    store: SqliteStore,
) -> None:
    with pytest.raises(ValueError, match="there is no intent `req-9` to book for"):
        await store.book(news(call(0), intent="req-9"))
    assert await standing(store) == (0, 0)


async def test_intents_are_due_when_their_time_has_come_oldest_first(store: SqliteStore) -> None:
    for name, minute in (("c", 3), ("a", 1), ("b", 2)):
        await store.reserve(intent(name), [])
        waits = Outcome(IntentState.AWAITING, look_at=NOON + minute * MINUTE)
        await store.book(news(intent=name, outcome=waits))
    assert [found.id for found in await store.due(at=NOON + 2 * MINUTE, limit=9)] == ["a", "b"]
    assert [found.id for found in await store.due(at=NOON + 9 * MINUTE, limit=2)] == ["a", "b"]


async def test_an_intent_that_waits_for_no_stated_time_is_due_at_once(store: SqliteStore) -> None:
    await store.reserve(intent(), [])
    await store.book(news(intent="req-1", outcome=Outcome(IntentState.UNKNOWN)))
    assert [found.id for found in await store.due(at=NOON, limit=9)] == ["req-1"]


async def test_each_further_wait_counts_as_a_look(store: SqliteStore) -> None:
    async def looks() -> int:
        found: Intent | None = await store.intent("req-1")
        assert found is not None
        return found.looks

    await store.reserve(intent(), [])
    waits = news(intent="req-1", outcome=Outcome(IntentState.AWAITING, look_at=NOON))
    seen = [await looks()]
    for _ in range(3):
        await store.book(waits)
        seen.append(await looks())
    assert seen == [0, 0, 1, 2]


async def test_a_caller_who_gives_up_while_waiting_leaves_nothing_held(
    store: SqliteStore,
) -> None:
    waiting = asyncio.gather(*(store.reserve(intent(f"r{n}"), [claim()]) for n in range(3)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    # Whatever was queued before this write is done when it is answered.
    await store.reserve(intent("behind"), [claim()])
    assert await standing(store) == (0, 1)
    assert (await store.unsettled())[0] == 1


async def test_giving_up_on_a_promise_made_twice_leaves_the_first_one_alone(
    store: SqliteStore,
) -> None:
    await store.reserve(intent(), [claim()])
    waiting = asyncio.gather(store.reserve(intent(), [claim()]))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await store.reserve(intent("behind"), [])
    assert await standing(store) == (0, 1)
    assert await store.intent("req-1") == intent()


async def test_what_is_unsettled_on_a_thread_or_response_is_what_names_it_and_is_not_closed(
    store: SqliteStore,
) -> None:
    async def ids(*, thread: str | None = None, response: str | None = None) -> list[str]:
        found = await store.unsettled_on(upstream="east", thread=thread, response=response)
        return [one.id for one in found]

    await store.reserve(replace(intent("late", at=NOON + 1), thread="t"), [])
    await store.reserve(replace(intent("closed"), thread="t"), [])
    await store.book(news(intent="closed", outcome=Outcome(IntentState.SETTLED)))
    await store.reserve(intent("learns"), [])
    await store.book(replace(news(intent="learns"), thread="t", response="r"))
    await store.reserve(intent("names nothing"), [])
    assert await ids(thread="t") == ["learns", "late"]
    assert await ids(response="r") == ["learns"]
    assert await ids() == []
    assert await store.unsettled_on(upstream="west", thread="t") == []


async def test_unsettled_names_the_oldest(store: SqliteStore) -> None:
    assert await store.unsettled() == (0, None)
    await store.reserve(intent("b", at=NOON + MINUTE), [])
    await store.reserve(intent("a", at=NOON), [])
    assert await store.unsettled() == (2, NOON)
