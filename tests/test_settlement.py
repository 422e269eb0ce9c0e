"""The settlement: what Azure does not tell must not keep the rest waiting, nor wait for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.booking import Bookkeeper
from gateway.core.billing import Rates
from gateway.core.ledger import Booking, Intent, IntentState, Outcome, QuoteLine
from gateway.core.model import SECOND, Meter, Micros, Origin, Surface
from gateway.ports import StoreUnavailable
from gateway.pricebook import shipped_price_book
from gateway.settlement import Settlement
from gateway.stores import SqliteStore, open_store
from gateway.telemetry import Telemetry
from gateway.upstream import AzureUpstream, Credential, UpstreamTarget
from tests.street.living import eventually

pytestmark = pytest.mark.anyio

START: Micros = 1_790_000_000 * SECOND
ORIGIN = Origin("blue", "key", "azure", Surface.DATED, "gpt-4o", "gpt-4o", "gw-1")
RATES = Rates(shipped_price_book(), {})


class HandClock:
    at = START

    def now(self) -> Micros:
        return self.at


class Bench:
    """A settlement over a real store, with `answer` in Azure's place."""

    def __init__(self, store: SqliteStore, clock: HandClock) -> None:
        self.store, self.clock = store, clock
        self.answer: Callable[[httpx.Request], Any] = lambda _: httpx.Response(500)
        target = UpstreamTarget("azure", "https://azure.example", Credential("api-key", "k"))
        upstream = AzureUpstream({"azure": target}, httpx.MockTransport(self._asked))
        self.settlement = Settlement(
            store,
            upstream,
            clock,
            lambda: RATES,
            lambda: "2024-05-01-preview",
            lambda _: "/openai",
            reads_per_s=10_000,
        )
        self.settlement.bookkeeper = Bookkeeper(
            store, clock, Telemetry(), lambda: RATES, self.settlement.wake
        )

    async def _asked(self, request: httpx.Request) -> httpx.Response:
        found = self.answer(request)
        reply: httpx.Response = await found if asyncio.iscoroutine(found) else found
        return reply

    async def awaited(self, number: int) -> None:
        """Journal a run whose end nobody told."""
        name = f"gw-{number}"
        quote = (QuoteLine(Meter.INPUT_TOKENS, 100, 250_000, "gpt-4o@x"),)
        intent = Intent(
            name, self.clock.at, "runs.create", ORIGIN, quote, thread=f"thread_{number}"
        )
        await self.store.reserve(intent, ())
        look = Outcome(IntentState.AWAITING, look_at=self.clock.at)
        terms = RATES.book.terms
        run = f"run_{number}"
        await self.store.book(Booking(self.clock.at, terms, intent=name, outcome=look, run=run))

    async def state(self, number: int) -> IntentState:
        intent = await self.store.intent(f"gw-{number}")
        assert intent is not None
        return intent.state


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock = HandClock()
    store = await open_store(f"sqlite:///{tmp_path}/ledger.db", clock=clock)
    assert isinstance(store, SqliteStore)
    yield Bench(store, clock)
    await store.close()


def ended(request: httpx.Request) -> httpx.Response:
    """Answer as Azure does about a run that is over."""
    parts = request.url.path.split("/")
    thread, run = parts[3], parts[5]
    if parts[-1] == "steps":
        return httpx.Response(200, json={"object": "list", "data": [], "has_more": False})
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    document = {
        "object": "thread.run",
        "id": run,
        "thread_id": thread,
        "created_at": START // SECOND,
        "status": "completed",
        "tools": [{"type": "code_interpreter"}],
        "usage": usage,
    }
    return httpx.Response(200, json=document)


async def test_one_read_that_hangs_keeps_no_other_run_waiting(bench: Bench) -> None:
    let_go = asyncio.Event()

    async def hangs(request: httpx.Request) -> httpx.Response:
        await let_go.wait()
        return ended(request)

    def answer(request: httpx.Request) -> Any:
        return hangs(request) if "thread_0/" in request.url.path else ended(request)

    bench.answer = answer
    for number in range(4):
        await bench.awaited(number)
    settling = asyncio.ensure_future(bench.settlement.settle_due())  # noqa: TID251

    async def others_are_settled() -> bool:
        states = [await bench.state(number) for number in (1, 2, 3)]
        return states == [IntentState.SETTLED] * 3

    await eventually(others_are_settled)
    assert await bench.state(0) is IntentState.AWAITING

    let_go.set()
    await settling
    assert await bench.state(0) is IntentState.SETTLED


async def test_what_azure_does_not_let_us_read_for_a_day_is_booked_as_an_estimate(
    bench: Bench,
) -> None:
    bench.answer = lambda _: httpx.Response(403, json={"error": {"code": "403"}})
    await bench.awaited(0)
    for _ in range(20):
        await bench.settlement.settle_due()
        bench.clock.at += 15 * SECOND
    assert await bench.state(0) is IntentState.AWAITING

    bench.clock.at += 86_400 * SECOND
    await bench.settlement.settle_due()
    assert await bench.state(0) is IntentState.SETTLED
    lines = [row.posting.charge async for row in bench.store.ledger()]
    assert [(line.quantity, line.confidence, line.reason) for line in lines] == [
        (100, "estimated", "not_readable")
    ]


async def test_a_gateway_that_was_down_for_days_looks_before_it_gives_up(bench: Bench) -> None:
    await bench.awaited(0)
    bench.clock.at += 3 * 86_400 * SECOND
    for _ in range(19):
        await bench.settlement.settle_due()
        assert await bench.state(0) is IntentState.AWAITING
        bench.clock.at += 15 * SECOND


async def test_work_of_an_upstream_that_is_gone_from_the_settings_ends_as_an_estimate(
    bench: Bench,
) -> None:
    def gone(_: object) -> str:
        raise LookupError("no such project")

    bench.settlement._root_of = gone
    await bench.awaited(0)
    for _ in range(20):
        await bench.settlement.settle_due()
        bench.clock.at += 15 * SECOND
    bench.clock.at += 86_400 * SECOND
    await bench.settlement.settle_due()
    assert await bench.state(0) is IntentState.SETTLED


async def test_two_lost_creations_in_one_thread_do_not_find_the_same_run(bench: Bench) -> None:
    run = {
        "object": "thread.run",
        "id": "run_found",
        "thread_id": "thread_x",
        "created_at": START // SECOND,
        "status": "completed",
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
    }
    bench.answer = lambda _: httpx.Response(200, json={"object": "list", "data": [run]})
    for number in range(2):
        intent = Intent(f"gw-{number}", START, "runs.create", ORIGIN, thread="thread_x")
        await bench.store.reserve(intent, ())
        look = Outcome(IntentState.UNKNOWN, look_at=START)
        terms = RATES.book.terms
        await bench.store.book(Booking(START, terms, intent=intent.id, outcome=look))
    await bench.settlement.settle_due()

    found = [await bench.store.intent(f"gw-{number}") for number in range(2)]
    assert sorted(str(intent.run) for intent in found if intent) == ["None", "run_found"]


async def test_a_store_that_is_away_at_the_start_does_not_end_the_settlement(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.awaited(1)
    bench.answer = lambda _: httpx.Response(404)
    orphans, asked = bench.store.orphans, list[int]()

    async def away_at_first() -> Sequence[Intent]:
        asked.append(1)
        if len(asked) < 3:
            raise StoreUnavailable("the disk is slow today")
        return await orphans()

    async def is_settled() -> bool:
        return await bench.state(1) is IntentState.SETTLED

    monkeypatch.setattr(bench.store, "orphans", away_at_first)
    settling = asyncio.get_running_loop().create_task(bench.settlement.run())
    try:
        await eventually(is_settled)
    finally:
        settling.cancel()
    assert len(asked) == 3
