"""From what was heard to what is booked.

This is where a reply becomes money. It is a pure function of the intent (what was promised), the
ear (what Azure said) and how the reply ended; the same function serves a stream, an answered poll
and a settlement that reads the objects back hours later.

What Azure charges for, by status: everything it processed, also when the answer is no success. A
prompt stopped by the content filter (400) and a time-out (408) are charged, a refusal at the door
(401, 403, 404, 429, …) is not. For a 5xx nobody says; it may have been charged, so it is not
called zero.

A run is settled by a stream that carried it from its beginning to its end. In every other case
(polled, continued after tool outputs, cut, never looked at) the settlement reads the run and its
steps, because only the steps say whether the interpreter was called.

Source: Azure OpenAI, "Plan to manage costs" (how-to/manage-costs), 2026.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import assert_never

from gateway.core.ledger import (
    Booking,
    Charge,
    Intent,
    IntentState,
    Outcome,
    OwnedObject,
    QuoteLine,
)
from gateway.core.metering import Ear, HeardCall, HeardResponse, HeardRun
from gateway.core.model import (
    SECOND,
    Confidence,
    Meter,
    Micros,
    ObjectId,
    ObjectKind,
    Origin,
    Scope,
    ScopeKind,
    Trigger,
    Usage,
)
from gateway.core.operations import Bills
from gateway.core.rating import PriceBook
from gateway.core.sessions import CREATION, REQUEST, Call
from gateway.core.terms import in_force

UNKNOWN_LOOK_AFTER: Micros = 2 * SECOND


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment and what it is billed as."""

    name: str
    model: str
    type: str
    upstream: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How a reply ended: its status, and whether all of it came and was understood."""

    status: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Rates:
    """Prices and the deployment types they apply to."""

    book: PriceBook
    types: Mapping[str, str]

    def type_of(self, deployment: str | None) -> str:
        """Return the deployment's type; one that is not listed counts as Global Standard."""
        return self.types.get(deployment or "", "global-standard")


def book_reply(
    intent: Intent,
    bills: Bills,
    ear: Ear,
    ending: Ending,
    *,
    rates: Rates,
    at: Micros,
    confidence: Confidence = Confidence.EXACT,
) -> Booking:
    """Return everything a reply to `intent` makes known, as one booking that may close it."""
    booking = Booking(
        at=at,
        terms=rates.book.terms,
        intent=intent.id,
        created=owned_objects(ear, intent.origin, at),
        calls=tuple(
            call_of(heard, intent.origin, confidence, memory=intent.memory)
            for heard in ear.calls.values()
        ),
    )
    match bills:
        case Bills.NOTHING:
            return replace(booking, outcome=_creation(ear, ending, at))
        case Bills.CHAT | Bills.EMBEDDINGS:
            return _tokens(booking, intent, ear, ending, rates)
        case Bills.RUN:
            return _run(booking, intent, ear, ending, rates, confidence)
        case Bills.RESPONSE:
            return _response(booking, intent, ear, ending, rates, confidence)
        case Bills.CONTAINER:
            return _container(booking, intent, ear, ending)
        case _:
            assert_never(bills)


def _closed(state: IntentState, ending: Ending) -> Outcome:
    return Outcome(state, status=ending.status)


def _creation(ear: Ear, ending: Ending, at: Micros) -> Outcome:
    """Return what became of a request that was promised only because it makes an object.

    If it may have made one and did not say which, that is not known, and must not look settled.
    """
    may_exist = ending.status < 400 or was_perhaps_processed(ending.status)
    if may_exist and not ear.objects:
        return Outcome(IntentState.UNKNOWN, at, ending.status)
    return _closed(IntentState.SETTLED, ending)


def _tokens(booking: Booking, intent: Intent, ear: Ear, ending: Ending, rates: Rates) -> Booking:
    fact = f"request/{intent.id}"
    settled = _closed(IntentState.SETTLED, ending)
    if ending.status < 400:
        if ear.usage is None:
            return unread_tokens(booking, intent, "usage_not_readable", ending)
        charges = token_charges(fact, intent.at, ear.usage, intent.origin, rates, Confidence.EXACT)
        return replace(booking, outcome=settled, charges=charges)
    if ear.error_code == "content_filter":
        prompt = [line for line in intent.quote if line.meter is Meter.INPUT_TOKENS]
        charges = _estimates(fact, intent, prompt, "content_filter")
        return replace(booking, outcome=settled, charges=charges)
    if was_perhaps_processed(ending.status):
        return unread_tokens(booking, intent, f"status_{ending.status}", ending)
    return replace(booking, outcome=_closed(IntentState.VOID, ending))


def was_perhaps_processed(status: int) -> bool:
    """Return whether Azure may have charged for an answer of this error status."""
    return status == 408 or status >= 500


def _run(
    booking: Booking,
    intent: Intent,
    ear: Ear,
    ending: Ending,
    rates: Rates,
    confidence: Confidence,
) -> Booking:
    run = next(iter(ear.runs.values()), None)
    if run is None:
        if ending.status < 400 or was_perhaps_processed(ending.status):
            look = Outcome(IntentState.UNKNOWN, booking.at + UNKNOWN_LOOK_AFTER, ending.status)
            return replace(booking, outcome=look, thread=_thread_of(ear))
        return replace(booking, outcome=_closed(IntentState.VOID, ending))
    asked = asking_calls(run, intent.origin, rates, confidence)
    booking = replace(booking, run=run.id, thread=run.thread, calls=(*booking.calls, *asked))
    all_heard = ending.complete and (run.began_here or not run.may_call)
    if run.has_ended and run.usage is not None and all_heard:
        charges = run_charges(run, intent.origin, rates, confidence)
        settled = _closed(IntentState.SETTLED, ending)
        return replace(booking, outcome=settled, charges=charges)
    look_at = booking.at if run.has_ended else booking.at + SECOND
    return replace(booking, outcome=Outcome(IntentState.AWAITING, look_at, ending.status))


def _thread_of(ear: Ear) -> str | None:
    """Return the thread a broken reply named before its run: the run is found again in it."""
    return next((name for kind, name in ear.objects if kind is ObjectKind.THREAD), None)


def _response(
    booking: Booking,
    intent: Intent,
    ear: Ear,
    ending: Ending,
    rates: Rates,
    confidence: Confidence,
) -> Booking:
    response = next(iter(ear.responses.values()), None)
    if response is None:
        if ending.status < 400 or was_perhaps_processed(ending.status):
            return lost(booking, intent, f"status_{ending.status}", ending)
        return replace(booking, outcome=_closed(IntentState.VOID, ending))
    booking = replace(booking, response=response.id)
    if not response.has_ended or not ending.complete:
        look = Outcome(IntentState.AWAITING, booking.at + SECOND, ending.status)
        return replace(booking, outcome=look)
    origin = replace(intent.origin, response=response.id)
    hidden = _hidden_container(intent, response, origin, rates)
    booking = replace(booking, calls=(*booking.calls, *hidden))
    if response.usage is None:
        return unread_tokens(booking, intent, "usage_not_readable", ending)
    charges = token_charges(
        f"response/{origin.upstream}/{response.id}",
        response.created_at,
        response.usage,
        origin,
        rates,
        confidence,
    )
    return replace(booking, outcome=_closed(IntentState.SETTLED, ending), charges=charges)


def _hidden_container(
    intent: Intent, response: HeardResponse, origin: Origin, rates: Rates
) -> tuple[Call, ...]:
    """Return the session of an automatic container that was never called and so never shown."""
    if not intent.tools_may_call or response.containers:
        return ()
    scope = Scope(origin.upstream, ScopeKind.RESPONSE, response.id)
    at, reason = response.created_at, "automatic container, not shown"
    if in_force(rates.book.terms.of_scope(scope), at).trigger is not Trigger.ON_REQUEST:
        return ()
    return (Call(scope, "auto", at, origin, Confidence.ESTIMATED, reason, intent.memory),)


def _container(booking: Booking, intent: Intent, ear: Ear, ending: Ending) -> Booking:
    if ear.containers:
        calls = tuple(
            Call(
                Scope(intent.origin.upstream, ScopeKind.CONTAINER, name),
                CREATION,
                created_at,
                intent.origin,
                memory=intent.memory,
            )
            for name, created_at in ear.containers.items()
        )
        return replace(booking, calls=calls, outcome=_closed(IntentState.SETTLED, ending))
    if ending.status < 400 or was_perhaps_processed(ending.status):
        return lost(booking, intent, f"status_{ending.status}", ending)
    return replace(booking, outcome=_closed(IntentState.VOID, ending))


def lost(booking: Booking, intent: Intent, reason: str, ending: Ending) -> Booking:
    """Return the booking of work that nobody can read back: its bound, marked as an estimate.

    If the work could open a session, one is booked, in its thread where that is known.
    """
    booking = unread_tokens(booking, intent, reason, ending)
    sessions = [line for line in intent.quote if line.meter is Meter.CODE_INTERPRETER_SESSION]
    if not any(line.quantity or intent.thread is not None for line in sessions):
        return booking
    upstream, threads = intent.origin.upstream, ScopeKind.of_threads(intent.origin.surface)
    scope = (
        Scope(upstream, ScopeKind.RESPONSE, intent.id)
        if intent.thread is None
        else Scope(upstream, threads, intent.thread)
    )
    key = f"lost/{intent.id}"
    call = Call(scope, key, intent.at, intent.origin, Confidence.ESTIMATED, reason, intent.memory)
    return replace(booking, calls=(*booking.calls, call))


def unread_tokens(booking: Booking, intent: Intent, reason: str, ending: Ending) -> Booking:
    """Return the booking closed with the quote's tokens, marked as an estimate."""
    charges = _estimates(f"request/{intent.id}", intent, intent.quote, reason)
    settled = _closed(IntentState.SETTLED, ending)
    return replace(booking, outcome=settled, charges=charges)


def _estimates(
    fact: str, intent: Intent, lines: Iterable[QuoteLine], reason: str
) -> tuple[Charge, ...]:
    return tuple(
        Charge(
            fact=f"{fact}#{line.meter}",
            at=intent.at,
            meter=line.meter,
            quantity=line.quantity,
            nano_usd=line.nano_usd,
            price_id=line.price_id,
            confidence=Confidence.ESTIMATED,
            origin=intent.origin,
            reason=reason,
        )
        for line in lines
        if line.meter is not Meter.CODE_INTERPRETER_SESSION
    )


def run_charges(
    run: HeardRun, origin: Origin, rates: Rates, confidence: Confidence
) -> tuple[Charge, ...]:
    """Return the token charges of a run that has ended; a run without usage has none."""
    if run.usage is None:
        return ()
    paid_by = replace(origin, run=run.id)
    fact = f"run/{origin.upstream}/{run.id}"
    return token_charges(fact, run.created_at, run.usage, paid_by, rates, confidence)


def token_charges(
    fact: str, at: Micros, usage: Usage, origin: Origin, rates: Rates, confidence: Confidence
) -> tuple[Charge, ...]:
    """Return one charge per token meter.

    Raises:
        LookupError: the model has no price at all; the quote should have refused it.
    """
    price = rates.book.price_nearest(origin.model or "", at)
    if price is None:
        raise LookupError(f"no price for the model of deployment {origin.deployment!r}")
    return tuple(
        Charge(
            fact=f"{fact}#{line.meter}",
            at=at,
            meter=line.meter,
            quantity=line.quantity,
            nano_usd=line.nano_usd,
            price_id=line.price_id,
            confidence=confidence,
            origin=origin,
        )
        for line in rates.book.rate(price, rates.type_of(origin.deployment), usage)
    )


def call_of(
    heard: HeardCall, origin: Origin, confidence: Confidence, *, memory: str | None = None
) -> Call:
    """Return a heard call as the ledger knows it: paid by `origin`.

    `memory` is the tier that the work asked for; in a container that was there before, that of its
    first call stands.
    """
    paid_by = replace(
        origin, run=heard.run or origin.run, response=heard.response or origin.response
    )
    kind = heard.kind
    if kind is ScopeKind.THREAD:
        kind = ScopeKind.of_threads(origin.surface)
    scope = Scope(origin.upstream, kind, heard.scope)
    return Call(scope, heard.key, heard.at, paid_by, confidence, memory=memory)


def asking_calls(
    run: HeardRun, origin: Origin, rates: Rates, confidence: Confidence
) -> tuple[Call, ...]:
    """Return the run itself as what opens a session, where already the request does."""
    scope = Scope(origin.upstream, ScopeKind.of_threads(origin.surface), run.thread)
    if not run.may_call:
        return ()
    terms = in_force(rates.book.terms.of_scope(scope), run.created_at)
    if terms.trigger is not Trigger.ON_REQUEST:
        return ()
    paid_by = replace(origin, run=run.id)
    return (Call(scope, f"{REQUEST}run/{run.id}", run.created_at, paid_by, confidence),)


def owned_objects(ear: Ear, origin: Origin, at: Micros) -> tuple[OwnedObject, ...]:
    """Return every object that was heard of, as belonging to the origin's team."""
    return tuple(
        OwnedObject(ObjectId(origin.upstream, kind, name), origin.team, at)
        for kind, name in ear.objects
        if kind is not ObjectKind.RUN
    )
