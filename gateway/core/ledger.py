"""The ledger: what is billed, and how it is corrected.

A *charge* says what a fact should have cost, as far as we know now. A *fact* is the upstream's: a
run, a response, a session, not the way in which we heard of it. A *posting* is a line that is
never changed again. What a fact cost is the sum of its postings; when the wanted amount changes,
the difference is posted as the next revision. Saying the same thing twice posts nothing.

    INVARIANT: for every fact, sum(postings) == the last wanted amount.
    INVARIANT: an estimate never replaces what was read.

*Balances* are sums over postings, kept beside them and changed in the same transaction, so that a
cap can be checked in one conditional statement. An amount counts on the day and in the month in
which the fact happened (UTC), also when it is corrected later.

An *intent* is the promise made before anything goes upstream: what may be billed at most (its
*claims* on balances) and all that is needed to find out later what was billed. It is open until
it is settled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache

from gateway.core.model import (
    SECOND,
    Confidence,
    Meter,
    Micros,
    NanoUsd,
    ObjectId,
    Origin,
    Scope,
)
from gateway.core.sessions import Call, Window, windows
from gateway.core.terms import Schedule, Terms


class PostingKind(StrEnum):
    """Whether a line is the first of its fact or changes what was posted before."""

    CHARGE = "charge"
    CORRECTION = "correction"


@dataclass(frozen=True, slots=True)
class Charge:
    """What one fact should have cost, as far as we know now. `at` is when it happened, at Azure."""

    fact: str
    at: Micros
    meter: Meter
    quantity: int
    nano_usd: NanoUsd
    price_id: str
    confidence: Confidence
    origin: Origin
    scope: Scope | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Posted:
    """What the postings of one fact add up to. `charge` is as the last revision said it."""

    charge: Charge
    quantity: int
    nano_usd: NanoUsd
    revision: int


@dataclass(frozen=True, slots=True)
class Posting:
    """One line of the ledger: `charge` with the *difference* as its amounts."""

    charge: Charge
    revision: int
    kind: PostingKind


def reconcile(wanted: Iterable[Charge], posted: Mapping[str, Posted]) -> list[Posting]:
    """Return the postings that bring each wanted fact from what was posted to what is wanted."""
    return [line for charge in wanted for line in _difference(charge, posted.get(charge.fact))]


def reconcile_scope(
    calls: Iterable[Call], schedule: Schedule, posted: Mapping[str, Posted]
) -> list[Posting]:
    """Return the postings that bring the sessions of one scope to what its known calls say.

    `posted` holds all session facts of the scope; those that are no session any more are reversed.
    """
    return reconcile_windows(windows(calls, schedule), posted)


def reconcile_windows(standing: Iterable[Window], posted: Mapping[str, Posted]) -> list[Posting]:
    """Return the postings that bring the sessions of a scope to these windows.

    The windows may be the scope's from one of them on; `posted` then holds the facts that stood
    from there on until now, and those of these windows. What lies before is not touched.
    """
    wanted = {window.fact: _session_charge(window) for window in standing}
    for fact, before in posted.items():
        if fact not in wanted:
            wanted[fact] = _nothing(before.charge)
    return reconcile(sorted(wanted.values(), key=lambda charge: charge.quantity), posted)


def session_charges(calls: Iterable[Call], schedule: Schedule) -> list[Charge]:
    """Return one charge per session of one scope: the opener pays, dated when it opened."""
    return [_session_charge(window) for window in windows(calls, schedule)]


def _session_charge(window: Window) -> Charge:
    opener = window.opener
    return Charge(
        fact=window.fact,
        at=window.start,
        meter=Meter.CODE_INTERPRETER_SESSION,
        quantity=1,
        nano_usd=window.nano_usd,
        price_id=window.price_id,
        confidence=opener.confidence,
        origin=opener.origin,
        scope=opener.scope,
        reason=opener.reason,
    )


def _nothing(charge: Charge) -> Charge:
    return _with(charge, quantity=0, nano_usd=0, reason="superseded")


def _with(charge: Charge, *, quantity: int, nano_usd: NanoUsd, reason: str | None) -> Charge:
    return Charge(
        fact=charge.fact,
        at=charge.at,
        meter=charge.meter,
        quantity=quantity,
        nano_usd=nano_usd,
        price_id=charge.price_id,
        confidence=charge.confidence,
        origin=charge.origin,
        scope=charge.scope,
        reason=reason,
    )


def _difference(charge: Charge, before: Posted | None) -> list[Posting]:
    if before is None:
        if charge.quantity == 0 and charge.nano_usd == 0:
            return []
        return [Posting(charge=charge, revision=1, kind=PostingKind.CHARGE)]
    if charge.confidence.rank < before.charge.confidence.rank:
        return []
    if _is_elsewhere(charge, before.charge):
        return _moved(charge, before)
    quantity = charge.quantity - before.quantity
    nano_usd = charge.nano_usd - before.nano_usd
    better = charge.confidence.rank > before.charge.confidence.rank
    if quantity == 0 and nano_usd == 0 and not better:
        return []
    line = _with(charge, quantity=quantity, nano_usd=nano_usd, reason=charge.reason)
    return [Posting(charge=line, revision=before.revision + 1, kind=PostingKind.CORRECTION)]


def _is_elsewhere(charge: Charge, before: Charge) -> bool:
    """Return whether a fact belongs to another team or another day than was thought."""
    day, day_before = (window_start(Period.DAY, each.at) for each in (charge, before))
    return (charge.origin.team, day) != (before.origin.team, day_before)


def _moved(charge: Charge, before: Posted) -> list[Posting]:
    """Return the reversal where a fact was and the charge where it is, so that balances agree."""
    lines: list[Posting] = []
    if before.quantity or before.nano_usd:
        back = _with(
            before.charge, quantity=-before.quantity, nano_usd=-before.nano_usd, reason="moved"
        )
        lines.append(Posting(back, before.revision + 1, PostingKind.CORRECTION))
    if charge.quantity or charge.nano_usd:
        revision = before.revision + len(lines) + 1
        lines.append(Posting(charge, revision, PostingKind.CORRECTION))
    return lines


class Unit(StrEnum):
    """What a balance counts."""

    SESSIONS = "sessions"
    NANO_USD = "nano_usd"


class Period(StrEnum):
    """The calendar window (UTC) over which a balance adds up."""

    DAY = "day"
    MONTH = "month"
    EVER = "ever"


@dataclass(frozen=True, slots=True)
class Balance:
    """The name of one running sum. `window_start` is 0 for ``EVER``."""

    account: str
    unit: Unit
    period: Period
    window_start: Micros


ORGANISATION = "org"
_DAY: Micros = 86_400 * SECOND


def team_account(team: str) -> str:
    """Return the account on which a team's amounts add up."""
    return f"team:{team}"


def scope_account(scope: Scope) -> str:
    """Return the account on which the sessions of one thread or container add up."""
    return f"scope:{scope}"


def window_start(period: Period, at: Micros) -> Micros:
    """Return the start of the period (UTC calendar) that holds `at`."""
    if period is Period.EVER:
        return 0
    # A UTC day has no seconds to spare or to miss, so days are counted from the epoch.
    day = at - at % _DAY
    return day if period is Period.DAY else _month_start(day)


@lru_cache(maxsize=64)
def _month_start(day: Micros) -> Micros:
    first = datetime.fromtimestamp(day // SECOND, tz=UTC).replace(day=1)
    return int(first.timestamp()) * SECOND


def window_end(period: Period, at: Micros) -> Micros | None:
    """Return when the period that holds `at` is over, or None if it never is."""
    if period is Period.EVER:
        return None
    start = window_start(period, at)
    if period is Period.DAY:
        return start + _DAY
    return window_start(Period.MONTH, start + 32 * _DAY)


def balances_of(posting: Posting) -> Iterator[tuple[Balance, int]]:
    """Yield every balance a posting changes, with the change."""
    charge = posting.charge
    accounts = (team_account(charge.origin.team), ORGANISATION)
    is_session = charge.meter is Meter.CODE_INTERPRETER_SESSION
    for account in accounts:
        for period in (Period.DAY, Period.MONTH):
            start = window_start(period, charge.at)
            yield Balance(account, Unit.NANO_USD, period, start), charge.nano_usd
            if is_session:
                yield Balance(account, Unit.SESSIONS, period, start), charge.quantity
    if is_session and charge.scope is not None:
        name = scope_account(charge.scope)
        yield Balance(name, Unit.SESSIONS, Period.EVER, 0), charge.quantity


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request may add to one balance at most, and the cap it must fit under.

    `cap` is the balance's ceiling; `rule` names it to the caller.
    """

    balance: Balance
    bound: int
    cap: int
    rule: str


@dataclass(frozen=True, slots=True)
class OverCap:
    """The claim that did not fit, with the balance as it stood at that commit."""

    claim: Claim
    posted: int
    reserved: int


@dataclass(frozen=True, slots=True)
class QuoteLine:
    """The most one meter can come to."""

    meter: Meter
    quantity: int
    nano_usd: NanoUsd
    price_id: str


class IntentState(StrEnum):
    """Where a promise stands."""

    OPEN = "open"  # in the hands of a running exchange
    AWAITING = "awaiting"  # the reply is gone; the work goes on at Azure
    UNKNOWN = "unknown"  # nobody can say yet whether Azure did the work
    SETTLED = "settled"
    VOID = "void"

    @property
    def is_closed(self) -> bool:
        """Whether its claims were released."""
        return self in (IntentState.SETTLED, IntentState.VOID)


LOOK_AHEAD_MAX: Micros = 600 * SECOND
"""No look at an intent is put off further than this: one that seems to be, was by another clock."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What was promised before the wire, and all that settlement needs to know.

    `operation` is the catalogue's name. `tools_may_call` says whether the work could open a
    session. `thread`, `run` and `response` are filled in as soon as they are heard. `previous` is
    the response that a response goes on from, `conversation` the one it is in, and `memory` the
    tier of the container it asks for, None for the plain one.
    """

    id: str
    at: Micros
    operation: str
    origin: Origin
    quote: tuple[QuoteLine, ...] = ()
    tools_may_call: bool = False
    thread: str | None = None
    run: str | None = None
    response: str | None = None
    previous: str | None = None
    conversation: str | None = None
    memory: str | None = None
    state: IntentState = IntentState.OPEN
    looks: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of an intent. `look_at` says when settlement is to look (again)."""

    state: IntentState
    look_at: Micros | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class OwnedObject:
    """An object and the team it belongs to."""

    object: ObjectId
    team: str
    at: Micros


@dataclass(frozen=True, slots=True)
class Booking:
    """News that is written in one transaction. Booking the same news twice changes nothing.

    `at` is when we heard. Calls are added to what is known of their scopes and the scopes'
    sessions reconciled; charges are reconciled one by one; `intent`, if given, learns `thread`,
    `run`, `response` where they are not None and moves to `outcome` if there is one (a closed
    intent stays closed; closing releases its claims).
    """

    at: Micros
    terms: Terms
    intent: str | None = None
    outcome: Outcome | None = None
    thread: str | None = None
    run: str | None = None
    response: str | None = None
    charges: tuple[Charge, ...] = ()
    calls: tuple[Call, ...] = ()
    created: tuple[OwnedObject, ...] = ()
    deleted: tuple[ObjectId, ...] = ()
