"""The settlement: finds out what nobody told.

A client may start a run and never look again, a stream may be cut, the gateway may die between the
wire and the ledger. Each leaves an intent that is not closed. The settlement takes those whose
time has come, reads the run and its steps (or the response) from Azure until it has ended, and
books what they say. What cannot be read back is booked at its bound and marked as an estimate.

It asks Azure at a stated pace (`reads_per_s`), looks at a few intents at once and at each again
only after a while that grows, never polls a container (that would prolong its life), and carries
out deletions that had to wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeGuard

import jiter

from gateway.booking import Bookkeeper
from gateway.core.billing import (
    Ending,
    Rates,
    asking_calls,
    book_reply,
    call_of,
    lost,
    owned_objects,
    run_charges,
    unread_tokens,
)
from gateway.core.catalogue import CATALOGUE
from gateway.core.ledger import Booking, Intent, IntentState, Outcome
from gateway.core.metering import Ear, HeardRun
from gateway.core.model import SECOND, Confidence, Micros, Origin, Surface, Usage
from gateway.core.operations import Bills
from gateway.core.usage import read_usage
from gateway.core.versions import FOUNDRY_VERSIONS
from gateway.ports import Clock, Store, StoreUnavailable
from gateway.upstream import AzureUpstream, MaybeSent, NotSent, ReplyBroken

_log = logging.getLogger("gateway.settlement")

READS_PER_S = 20.0
"""How often Azure is asked at most, whatever there is to settle."""

_BATCH = 64
_AT_ONCE = 8
_READ_TIMEOUT_S = 30
# What has not come to an end for a day of looking is not going to: no run and no response lasts so
# long. A gateway that was down for a day has not looked yet.
_UNREADABLE_AFTER: Micros = 86_400 * SECOND
_LOOKS_MIN = 20
_REPLY_BYTES_MAX = 32 * 1024 * 1024
_STEP_PAGES_MAX = 100
_LOOK_EVERY_MAX: Micros = 15 * SECOND
_GIVE_UP_AFTER: Micros = 30 * SECOND
_GONE = Ending(status=404, complete=False)


_BILLS = {row.name: row.bills for row in CATALOGUE}


class Unreadable(Exception):
    """Azure did not answer the question now; it is asked again later."""


class Settlement:
    """Settles what was left open. `wake` makes it look at once."""

    def __init__(
        self,
        store: Store,
        upstream: AzureUpstream,
        clock: Clock,
        rates: Callable[[], Rates],
        sent_version: Callable[[], str],
        root_of: Callable[[Origin], str],
        *,
        reads_per_s: float = READS_PER_S,
        every_s: float = 1,
    ) -> None:
        self._store = store
        self._upstream = upstream
        self._clock = clock
        self._rates = rates
        self._sent_version = sent_version
        self._root_of = root_of
        self._pause_s = 1 / reads_per_s
        self._every_s = every_s
        self._news = asyncio.Event()
        self._next_turn = 0.0
        self._adopted: set[str] = set()
        self.bookkeeper: Bookkeeper | None = None

    def wake(self) -> None:
        """Look as soon as possible."""
        self._news.set()

    async def run(self) -> None:
        """Settle for as long as the gateway runs; until cancelled."""
        has_adopted = False
        while True:
            self._news.clear()
            try:
                if not has_adopted:
                    await self._adopt_orphans()
                has_adopted = True
                await self.settle_due()
            except StoreUnavailable as fault:
                _log.warning("the settlement waits for the store: %s", fault)
            try:
                async with asyncio.timeout(self._every_s):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _adopt_orphans(self) -> None:
        """Take over what a process that died had in its hands."""
        for intent in await self._store.orphans():
            known = intent.run is not None or intent.response is not None
            state = IntentState.AWAITING if known else IntentState.UNKNOWN
            at = self._clock.now()
            await self._book(self._booking(intent, Outcome(state, look_at=at)))

    async def settle_due(self) -> int:
        """Look once at every intent that is due; return how many were looked at."""
        looked = 0
        gate = asyncio.Semaphore(_AT_ONCE)
        while due := await self._store.due(at=self._clock.now(), limit=_BATCH):
            await asyncio.gather(*(self._look(intent, gate) for intent in due))
            looked += len(due)
            if len(due) < _BATCH:
                break
        return looked

    async def _look(self, intent: Intent, gate: asyncio.Semaphore) -> None:
        try:
            async with gate:
                booking = await self._found_out(intent)
        except Unreadable:
            booking = self._later(intent)
        except Exception:
            # One intent that cannot be settled must not keep the others waiting.
            _log.exception("settling failed (request %s)", intent.id)
            booking = self._later(intent)
        await self._book(booking)

    async def _found_out(self, intent: Intent) -> Booking:
        if intent.operation in ("threads.delete", "responses.delete"):
            return await self._carry_out(intent)
        bills = _BILLS.get(intent.operation, Bills.NOTHING)
        if bills is Bills.RUN:
            return await self._run(intent)
        if bills is Bills.RESPONSE and intent.response is not None:
            return await self._response(intent, intent.response)
        if bills is Bills.NOTHING:
            return self._lost_creation(intent)
        return lost(self._booking(intent, None), intent, "outcome_unknown", _GONE)

    def _lost_creation(self, intent: Intent) -> Booking:
        """Give up an object that may be at Azure and that nobody can name: it has no owner."""
        origin = intent.origin
        _log.warning(
            "`%s` of team `%s` was never answered: what it made at `%s`, if anything, has no owner "
            "(request %s)",
            *(intent.operation, origin.team, origin.upstream, intent.id),
        )
        if self.bookkeeper is not None:
            self.bookkeeper.lost_creation(intent)
        return self._booking(intent, Outcome(IntentState.VOID))

    # runs

    async def _run(self, intent: Intent) -> Booking:
        if intent.thread is None:
            return lost(self._booking(intent, None), intent, "thread_unknown", _GONE)
        if intent.run is None:
            return await self._find_run(intent, intent.thread)
        path = f"{self._root(intent)}/threads/{intent.thread}/runs/{intent.run}"
        document = await self._read(intent, path)
        if document is None:
            return lost(self._booking(intent, None), intent, "run_gone", _GONE)
        ear = Ear()
        ear.hear(document)
        run = ear.runs.get(intent.run)
        if run is None:
            raise Unreadable
        if not run.has_ended:
            return self._later(intent)
        return await self._run_ended(intent, run, ear, path)

    async def _run_ended(self, intent: Intent, run: HeardRun, ear: Ear, path: str) -> Booking:
        """Book a run that has ended, from its usage and the calls in its steps."""
        step_usages = await self._hear_steps(intent, ear, path)
        rates, at = self._rates(), self._clock.now()
        calls = [
            call_of(heard, intent.origin, Confidence.RECOVERED) for heard in ear.calls.values()
        ]
        calls += asking_calls(run, intent.origin, rates, Confidence.RECOVERED)
        booking = replace(
            self._booking(intent, Outcome(IntentState.SETTLED)),
            calls=tuple(calls),
            created=owned_objects(ear, intent.origin, at),
        )
        if run.usage is None:
            if None in step_usages:
                return unread_tokens(booking, intent, "usage_not_readable", _GONE)
            run.usage = _sum([usage for usage in step_usages if usage is not None])
        charges = run_charges(run, intent.origin, rates, Confidence.RECOVERED)
        return replace(booking, charges=charges)

    async def _hear_steps(self, intent: Intent, ear: Ear, path: str) -> list[Usage | None]:
        """Hear every step of a run; return the usage of each."""
        usages: list[Usage | None] = []
        after = ""
        for _ in range(_STEP_PAGES_MAX):
            page = await self._read(intent, f"{path}/steps", f"limit=100&order=asc{after}")
            if page is None:
                raise Unreadable
            ear.hear(page)
            data = page.get("data")
            steps = [step for step in data if isinstance(step, dict)] if _is_list(data) else []
            usages.extend(read_usage(step.get("usage")) for step in steps)
            last = steps[-1].get("id") if steps else None
            if page.get("has_more") is not True or not isinstance(last, str):
                return usages
            after = f"&after={last}"
        raise Unreadable

    async def _find_run(self, intent: Intent, thread: str) -> Booking:
        """Find the run whose creation was never acknowledged: one that no intent knows."""
        path = f"{self._root(intent)}/threads/{thread}/runs"
        page = await self._read(intent, path, "limit=100&order=desc")
        if page is None:
            return lost(self._booking(intent, None), intent, "thread_gone", _GONE)
        ear = Ear()
        ear.hear(page)
        # When a run was made is no evidence: our clock and Azure's may be far apart.
        candidates = [run for run in ear.runs.values() if not await self._is_known(intent, run)]
        # Two intents may look at the same thread at once; from here on nothing is waited for.
        candidates = [run for run in candidates if run.id not in self._adopted]
        if candidates:
            first = min(candidates, key=lambda run: run.created_at)
            self._adopted.add(first.id)
            look = Outcome(IntentState.AWAITING, look_at=self._clock.now())
            return replace(self._booking(intent, look), run=first.id, thread=thread)
        if self._clock.now() - intent.at < _GIVE_UP_AFTER:
            return self._later(intent)
        return self._booking(intent, Outcome(IntentState.VOID))

    async def _is_known(self, intent: Intent, run: HeardRun) -> bool:
        upstream = intent.origin.upstream
        return await self._store.intent_of_run(upstream=upstream, run=run.id) is not None

    # responses

    async def _response(self, intent: Intent, name: str) -> Booking:
        document = await self._read(intent, f"{self._root(intent)}/responses/{name}")
        if document is None:
            return lost(self._booking(intent, None), intent, "response_gone", _GONE)
        ear = Ear()
        ear.hear(document)
        response = ear.responses.get(name)
        if response is None:
            raise Unreadable
        if not response.has_ended:
            return self._later(intent)
        return book_reply(
            intent,
            Bills.RESPONSE,
            ear,
            Ending(status=200, complete=True),
            rates=self._rates(),
            at=self._clock.now(),
            confidence=Confidence.RECOVERED,
        )

    # deletions

    async def _carry_out(self, intent: Intent) -> Booking:
        """Delete at Azure what was deleted here, once nothing is left to be read from it."""
        others = await self._store.unsettled_on(
            upstream=intent.origin.upstream, thread=intent.thread, response=intent.response
        )
        if any(other.id != intent.id and not _is_deletion(other) for other in others):
            return self._later(intent)
        what = f"threads/{intent.thread}" if intent.thread else f"responses/{intent.response}"
        status, _ = await self._ask(intent, "DELETE", f"{self._root(intent)}/{what}")
        if status < 300 or status == 404:
            return self._booking(intent, Outcome(IntentState.SETTLED, status=status))
        return self._later(intent)

    # asking Azure

    async def _read(
        self, intent: Intent, path: str, query: str = ""
    ) -> Mapping[str, object] | None:
        """Return an object of Azure's, or None if there is no such object."""
        status, body = await self._ask(intent, "GET", path, query)
        if status == 404:
            return None
        if status != 200:
            raise Unreadable
        try:
            document = jiter.from_json(body)
        except ValueError:
            raise Unreadable from None
        if not isinstance(document, dict):
            raise Unreadable
        return document

    async def _ask(
        self, intent: Intent, method: str, path: str, query: str = ""
    ) -> tuple[int, bytes]:
        version = self._version(intent.origin.surface)
        if version is not None:
            query = f"{query}&api-version={version}" if query else f"api-version={version}"
        await self._turn()
        try:
            async with asyncio.timeout(_READ_TIMEOUT_S):
                reply = await self._upstream.send(
                    intent.origin.upstream,
                    method=method,
                    path=path,
                    query=query,
                    headers=[(b"accept", b"application/json"), (b"openai-beta", b"assistants=v2")],
                    body=None,
                )
                return reply.status, await reply.read(_REPLY_BYTES_MAX)
        except (NotSent, MaybeSent, ReplyBroken, TimeoutError):
            raise Unreadable from None
        except KeyError:
            # The upstream is not configured any more.
            raise Unreadable from None

    def _root(self, intent: Intent) -> str:
        try:
            return self._root_of(intent.origin)
        except LookupError:
            raise Unreadable from None

    def _version(self, surface: Surface) -> str | None:
        match surface:
            case Surface.DATED:
                return self._sent_version()
            case Surface.V1:
                return None
            case Surface.FOUNDRY:
                return FOUNDRY_VERSIONS[0]

    async def _turn(self) -> None:
        """Wait for a turn to ask: no more than `reads_per_s` turns are given."""
        loop = asyncio.get_running_loop()
        turn = max(loop.time(), self._next_turn)
        self._next_turn = turn + self._pause_s
        await asyncio.sleep(turn - loop.time())

    # writing down

    def _booking(self, intent: Intent, outcome: Outcome | None) -> Booking:
        terms = self._rates().book.terms
        return Booking(at=self._clock.now(), terms=terms, intent=intent.id, outcome=outcome)

    def _later(self, intent: Intent) -> Booking:
        """Return that it is looked at again, or, after a day of nothing but that, how it ends."""
        is_old = self._clock.now() - intent.at > _UNREADABLE_AFTER
        if is_old and intent.looks >= _LOOKS_MIN:
            _log.warning("no end could be read within a day (request %s)", intent.id)
            if _is_deletion(intent):
                return self._booking(intent, Outcome(IntentState.VOID))
            return lost(self._booking(intent, None), intent, "not_readable", _GONE)
        wait = min(_LOOK_EVERY_MAX, SECOND << min(intent.looks, 8))
        return self._booking(intent, Outcome(intent.state, self._clock.now() + wait))

    async def _book(self, booking: Booking) -> None:
        if self.bookkeeper is None:
            raise RuntimeError("the settlement has no bookkeeper")
        await self.bookkeeper.write(booking, by="settlement")


def _is_deletion(intent: Intent) -> bool:
    return intent.operation.endswith(".delete")


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _sum(usages: list[Usage]) -> Usage:
    return Usage(
        sum(usage.input_tokens for usage in usages),
        sum(usage.cached_input_tokens for usage in usages),
        sum(usage.output_tokens for usage in usages),
    )
