"""A held request and its reply under way: what was heard, and whether it was written down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from gateway.answer import NO_PATIENCE, Patience
from gateway.core.billing import Ending
from gateway.core.ledger import Booking, IntentState, Outcome
from gateway.core.metering import Meter
from gateway.core.model import ObjectId
from gateway.exchange import Asked, Hold
from gateway.house import House
from gateway.ports import StoreUnavailable

_log = logging.getLogger("gateway.journey")


class Journey:
    """The state of one exchange between its hold and its settlement.

    `status` is Azure's, 0 while none came; `was_sent` turns false when nothing can have reached it;
    `is_whole` says that the reply came to its end; `last` is the piece that is still held back.
    """

    def __init__(self, house: House, hold: Hold, meter: Meter, wake: Callable[[], None]) -> None:
        self.hold = hold
        self.meter = meter
        self.status = 0
        self.was_sent = True
        self.is_whole = False
        self.last = b""
        self._house = house
        self._wake = wake
        self._said_early = False
        self._settled = False

    @property
    def patience(self) -> Patience:
        """How long the reply is read without its caller, for the sake of what it says was billed.

        A question that changes nothing, and in whose answer nothing is listened for (the content
        of a file, say), is worth no byte more. Anything else is at least not broken off half done.
        """
        operation, limits = self.hold.asked.operation, self._house.limits
        if operation.method == "GET" and not operation.hears:
            return NO_PATIENCE
        return Patience(limits.leaver_bytes_max, limits.leaver_s)

    def hold_back(self, chunk: bytes, *, join: bool = False) -> bytes:
        """Keep `chunk` as the last piece and return the one that was kept before."""
        if not chunk:
            return b""
        before, self.last = self.last, chunk
        if join:
            self.last, before = before + chunk, b""
        return before

    async def between_chunks(self) -> None:
        """Write down ids as soon as they are heard, and the outcome before its chunk goes on."""
        ear = self.meter.ear
        if not self._said_early and (ear.runs or ear.responses):
            self._said_early = True
            try:
                await self._house.bookkeeper.early_word(self.hold, ear)
            except Exception:
                # Watching must not break what is watched: the settlement finds the ids again.
                _log.exception("ids could not be written early (request %s)", self.hold.asked.id)
        if self.meter.ended:
            await self.settle()

    async def settle(self) -> None:
        """Write the outcome, once; wait for it no longer than `settle_timeout_s`."""
        if self._settled:
            return
        self._settled = True
        house = self._house
        task = house.tasks.start(self._write_or_leave())
        await asyncio.wait({task}, timeout=house.limits.settle_timeout_s)

    async def _write_or_leave(self) -> None:
        """Write the outcome; what cannot be written now is left to the settlement."""
        try:
            await self._write()
        except Exception:
            _log.exception("an outcome was not written (request %s)", self.hold.asked.id)
            if self.hold.intent is not None:
                await self._write_unknown(self.hold.intent.id)

    async def _write_unknown(self, intent: str) -> None:
        at = self._house.clock.now()
        terms = self._house.rules.rates.book.terms
        outcome = Outcome(IntentState.UNKNOWN, look_at=at)
        booking = Booking(at=at, terms=terms, intent=intent, outcome=outcome)
        await self._house.bookkeeper.write(booking, by="street")
        self._wake()

    async def _write(self) -> None:
        hold, house = self.hold, self._house
        asked, at = hold.asked, house.clock.now()
        terms = house.rules.rates.book.terms
        if not self.was_sent or not self.status:
            if hold.intent is None:
                return
            if self.was_sent:
                await self._write_unknown(hold.intent.id)
                return
            void = Outcome(IntentState.VOID)
            booking = Booking(at=at, terms=terms, intent=hold.intent.id, outcome=void)
            await house.bookkeeper.write(booking, by="street")
            return
        complete = self.meter.whole and (self.is_whole or self.meter.ended)
        ending = Ending(self.status, complete)
        try:
            await house.bookkeeper.settle(hold, asked.operation, self.meter.ear, ending)
            if asked.operation.deletes is not None and self.status < 300:
                await house.bookkeeper.write(
                    Booking(at=at, terms=terms, deleted=_deleted(asked)), by="street"
                )
        except StoreUnavailable:
            _log.warning("what was overheard could not be looked up (request %s)", asked.id)


def _deleted(asked: Asked) -> tuple[ObjectId, ...]:
    kind = asked.operation.deletes
    name = asked.segment(str(kind)) if kind is not None else None
    if kind is None or name is None:
        return ()
    return (ObjectId(asked.upstream, kind, name),)
