"""The bookkeeper: writes what was heard, and does not lose it when the store is away.

What is to be booked is decided in `core.billing`; here it is written, told to telemetry, and kept
on a shelf for as long as the store cannot take it. What stands on the shelf when the process dies
is found again by the settlement, from the intent that was committed before the wire.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from gateway.core.billing import Ending, Rates, book_reply, call_of, owned_objects, run_charges
from gateway.core.ledger import Booking, Intent, IntentState, Outcome, Posting
from gateway.core.metering import Ear, HeardCall, HeardRun
from gateway.core.model import Confidence, Micros, Origin
from gateway.core.operations import Bills, Operation
from gateway.core.sessions import Call
from gateway.exchange import Hold
from gateway.ports import Clock, Store, StoreUnavailable
from gateway.telemetry import Telemetry

_SHELF_MAX = 100_000
_log = logging.getLogger("gateway.booking")


class Bookkeeper:
    """Writes bookings. `wake` is called when there is something for the settlement to look at."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        telemetry: Telemetry,
        rates: Callable[[], Rates],
        wake: Callable[[], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._rates = rates
        self._wake = wake
        self._shelf: deque[Booking] = deque()
        self._doubtful: dict[str, None] = {}

    @property
    def shelved(self) -> int:
        """How many bookings wait for the store to come back."""
        return len(self._shelf)

    async def early_word(self, hold: Hold, ear: Ear) -> None:
        """Write down the ids a stream has shown, so that its objects have an owner at once."""
        if hold.intent is None:
            return
        at = self._clock.now()
        run = next(iter(ear.runs.values()), None)
        response = next(iter(ear.responses.values()), None)
        await self._book(
            Booking(
                at=at,
                terms=self._rates().book.terms,
                intent=hold.intent.id,
                thread=run.thread if run else None,
                run=run.id if run else None,
                response=response.id if response else None,
                created=owned_objects(ear, hold.intent.origin, at),
            )
        )

    async def settle(self, hold: Hold, operation: Operation, ear: Ear, ending: Ending) -> None:
        """Write all that a reply made known; returns once it is durable or on the shelf."""
        at = self._clock.now()
        rates = self._rates()
        if hold.intent is not None:
            booking = book_reply(hold.intent, operation.bills, ear, ending, rates=rates, at=at)
            await self._write(booking, by="street")
        else:
            await self._overheard(hold, ear, at)

    async def write(self, booking: Booking, *, by: str) -> None:
        """Write a booking made elsewhere; returns once it is durable or on the shelf."""
        await self._write(booking, by=by)

    def lost_creation(self, intent: Intent) -> None:
        """Count an object that may have been made and that nobody can name."""
        self._telemetry.lost_creation(team=intent.origin.team, operation=intent.operation)

    async def _overheard(self, hold: Hold, ear: Ear, at: Micros) -> None:
        """Write what an unbilled call (a poll, a list) said about work that is billed."""
        asked = hold.asked
        if not (ear.runs or ear.calls or ear.responses or ear.objects):
            return
        reader = asked.origin()
        payers = await self._payers(ear, reader)
        terms = self._rates().book.terms
        unknown = _Payer(reader)
        calls = tuple(
            payers.get(heard.run or heard.response or "", unknown).pays(heard)
            for heard in ear.calls.values()
        )
        news = Booking(at=at, terms=terms, created=owned_objects(ear, reader, at), calls=calls)
        await self._write(news, by="street")
        for run in ear.runs.values():
            if run.has_ended and run.thread == asked.segment("thread"):
                await self._run_ended(run, reader, at)
        for response in ear.responses.values():
            if response.has_ended:
                await self._response_ended(response.id, ear, reader, at)

    async def _payers(self, ear: Ear, reader: Origin) -> dict[str, _Payer]:
        payers: dict[str, _Payer] = {}
        for name in {heard.run for heard in ear.calls.values() if heard.run}:
            intent = await self._store.intent_of_run(upstream=reader.upstream, run=name)
            payers[name] = _payer_of(intent, replace(reader, run=name))
        for name in {heard.response for heard in ear.calls.values() if heard.response}:
            intent = await self._store.intent_of_response(upstream=reader.upstream, response=name)
            payers[name] = _payer_of(intent, replace(reader, response=name))
        return payers

    async def _run_ended(self, run: HeardRun, reader: Origin, at: Micros) -> None:
        intent = await self._store.intent_of_run(upstream=reader.upstream, run=run.id)
        if intent is None or intent.state.is_closed or not _is_payer(intent, reader):
            return
        rates = self._rates()
        booking = Booking(at=at, terms=rates.book.terms, intent=intent.id)
        if run.may_call or run.usage is None:
            look = Outcome(IntentState.AWAITING, look_at=at)
            await self._write(replace(booking, outcome=look), by="street")
            self._wake()
            return
        charges = run_charges(run, intent.origin, rates, Confidence.EXACT)
        settled = Outcome(IntentState.SETTLED)
        await self._write(replace(booking, outcome=settled, charges=charges), by="street")

    async def _response_ended(self, name: str, ear: Ear, reader: Origin, at: Micros) -> None:
        intent = await self._store.intent_of_response(upstream=reader.upstream, response=name)
        if intent is None or intent.state.is_closed or not _is_payer(intent, reader):
            return
        only = Ear(responses={name: ear.responses[name]})
        only.calls = {k: heard for k, heard in ear.calls.items() if heard.response == name}
        ending = Ending(status=200, complete=True)
        booking = book_reply(intent, Bills.RESPONSE, only, ending, rates=self._rates(), at=at)
        await self._write(booking, by="street")

    async def _write(self, booking: Booking, *, by: str) -> None:
        try:
            await self._book(booking)
        except StoreUnavailable:
            if len(self._shelf) == _SHELF_MAX:
                _log.error("the shelf is full (request %s)", booking.intent)
                return
            self._shelf.append(booking)
            return
        outcome = booking.outcome
        if outcome is None:
            return
        if outcome.state.is_closed:
            self._telemetry.closed(by=by, state=outcome.state)
        elif outcome.look_at is not None and outcome.look_at <= booking.at:
            self._wake()

    async def _book(self, booking: Booking) -> None:
        self._tell(await self._store.book(booking))

    def _tell(self, postings: Sequence[Posting]) -> None:
        for posting in postings:
            charge = posting.charge
            self._telemetry.posted(
                team=charge.origin.team,
                deployment=charge.origin.deployment,
                meter=charge.meter,
                scope=charge.scope.kind if charge.scope else None,
                quantity=charge.quantity,
                nano_usd=charge.nano_usd,
                confidence=charge.confidence,
            )

    def doubt(self, intent: str) -> None:
        """Remember a promise of which nobody knows whether it was committed; nothing was sent."""
        if len(self._doubtful) < _SHELF_MAX:
            self._doubtful[intent] = None

    async def _void_doubtful(self) -> None:
        """Close the promises that were committed after all; raises if the store is still away."""
        for name in list(self._doubtful):
            intent = await self._store.intent(name)
            if intent is not None and not intent.state.is_closed:
                void = Outcome(IntentState.VOID)
                terms = self._rates().book.terms
                await self._book(Booking(self._clock.now(), terms, intent=name, outcome=void))
            self._doubtful.pop(name, None)

    async def clear_shelf(self) -> None:
        """Try once more to write what waits; stops at the first that still cannot be written."""
        with suppress(StoreUnavailable):
            await self._void_doubtful()
        while self._shelf:
            try:
                await self._book(self._shelf[0])
            except StoreUnavailable:
                return
            except (ValueError, LookupError):
                # It can never be written; the others must not wait behind it.
                _log.exception("a booking was given up (request %s)", self._shelf[0].intent)
            self._shelf.popleft()

    async def keep_clearing(self, *, every_s: float = 1.0) -> None:
        """Clear the shelf again and again; runs until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            await self.clear_shelf()


@dataclass(frozen=True, slots=True)
class _Payer:
    """Who pays for a call that somebody heard of, and what container he asked for."""

    origin: Origin
    memory: str | None = None

    def pays(self, heard: HeardCall) -> Call:
        """Return the call as his."""
        return call_of(heard, self.origin, Confidence.EXACT, memory=self.memory)


def _is_payer(intent: Intent, reader: Origin) -> bool:
    """Return whether work a reader heard of was begun by his team."""
    return intent.origin.team == reader.team


def _payer_of(intent: Intent | None, reader: Origin) -> _Payer:
    """Return who pays for work a reader heard of: who began it, if that was the reader's team."""
    if intent is None or not _is_payer(intent, reader):
        return _Payer(reader)
    return _Payer(intent.origin, intent.memory)
