"""Code-interpreter sessions: from known calls to charges.

Azure charges code interpreter by the *session*. The first call in a thread (or container) opens
one; it stays active for an hour, and every further call in the same scope within that time is
free. A call at or after the end opens the next. Two threads are two sessions, even at the same
moment.

The rule is a pure function of the *set* of known calls of a scope. Nothing depends on the order in
which calls were heard of: a run settled an hour late may put a call before all others, and then the
windows are simply computed again. What was posted before is corrected by the ledger (wanted minus
posted), not here.

A session is named after the call that opened it, so the same session keeps its name however often
it is heard. A call is the tool call in a run step, never its output (which may be empty) and
never the tool being enabled. A call of a failed, cancelled or expired run counts like any other.

With an idle timeout a session ends at ``min(start + active, last call + idle)``. What a session is
and costs are the terms in force when it opens (see `core.terms`): its price and its length never
change with a later entry.

Some *requests* stand among the calls although nothing was called: a container that was made, a run
that could call. Where the terms' trigger is ``on_request`` they open and use a session as a call
does; where it is ``on_call`` they are nothing.

Nor does the whole set have to be gone through at every piece of news. Windows are cut from the
left, so what lies before a window's start can never change what comes from there on: news is
worked into the windows from the last one on that began before it, and calls never heard of before
that come after the opening of the last window are added to that window alone.

Source: Azure OpenAI, "Azure OpenAI Assistants Code Interpreter" (2025) and OpenAI help 8550641: one
hour active, charged per session, two threads two sessions. The 2026 pages add an idle timeout of
30 minutes (Foundry agents) and 20 minutes (Responses); the semantics of idle inside the hour are
not stated, the plain reading is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.core.model import Confidence, Micros, NanoUsd, Origin, Scope, SessionTerms, Trigger
from gateway.core.terms import Schedule, amount, in_force, price_id

__all__ = ["CREATION", "REQUEST", "Call", "SessionTerms", "Window", "open_at", "windows"]

REQUEST = "0-"
"""Begins the names of what stands among the calls without being one. No id of Azure's does."""

CREATION = "0-create"
"""Names a container's creation among its calls. It sorts before the ids of those that came in the
same second, so that the creation is what opened the session."""


@dataclass(frozen=True, slots=True)
class Call:
    """One known call of the interpreter, or request that could call.

    ``key`` names the step (or item, or request) that called, unique within the scope; ``at`` is
    Azure's own time of it (the step's or response's ``created_at``), never when we heard. `memory`
    is the tier that was asked for with it, None for the plain one; the container has that of its
    first call.
    """

    scope: Scope
    key: str
    at: Micros
    origin: Origin
    confidence: Confidence = Confidence.EXACT
    reason: str | None = None
    memory: str | None = None

    @property
    def is_request(self) -> bool:
        """Whether nothing was called yet."""
        return self.key.startswith(REQUEST)


@dataclass(frozen=True, slots=True)
class Window:
    """One session: half-open ``[start, end)``, opened by ``opener``, used ``calls`` times.

    `last` is the time of its last call; `terms` are those it opened under.
    """

    start: Micros
    end: Micros
    opener: Call
    calls: int
    last: Micros
    terms: SessionTerms
    memory: str | None = None

    @property
    def fact(self) -> str:
        """The name under which this session is charged, however we heard of it."""
        return fact_of(self.opener.scope, self.opener.key)

    @property
    def nano_usd(self) -> NanoUsd:
        """What it costs by what is known of it."""
        return amount(self.terms, self.memory, self.last - self.start)

    @property
    def price_id(self) -> str:
        """The name of its price."""
        return price_id(self.terms, self.memory)


def fact_of(scope: Scope, key: str) -> str:
    """Return the name of the session in `scope` that the call named `key` opened."""
    return f"session/{scope}/{key}"


def windows(
    calls: Iterable[Call],
    schedule: Schedule,
    *,
    first: Call | None = None,
    begun: Window | None = None,
) -> tuple[Window, ...]:
    """Return the sessions of one scope, in time order; they never overlap.

    Calls at the same microsecond are ordered by key, so that the result depends on the set alone.
    A call known twice (same key) counts once, at its earliest time.

    `calls` may be all that are known from the start of some window on; `first` is then the first of
    all. Or they may be news: calls never known before, all of them later than the start of `begun`,
    the last window as it stood; what is returned then takes its place.
    """
    ordered = in_order(calls)
    memory = begun.memory if begun is not None else memory_of(ordered, first)
    found = [] if begun is None else [begun]
    for call in ordered:
        last = found[-1] if found else None
        if last is not None and call.at < last.end:
            if _counts(call, last.terms):
                found[-1] = _used(last, call)
            continue
        terms = in_force(schedule, call.at)
        if _counts(call, terms):
            end = _end(start=call.at, last_call=call.at, terms=terms)
            found.append(Window(call.at, end, call, 1, call.at, terms, memory))
    return tuple(found)


def memory_of(ordered: Sequence[Call], first: Call | None = None) -> str | None:
    """Return the memory tier of a scope, which is that of its first call."""
    if first is not None:
        return first.memory
    return ordered[0].memory if ordered else None


def open_at(calls: Iterable[Call], schedule: Schedule, at: Micros) -> Window | None:
    """Return the session that is open at `at`, or None."""
    for window in windows(calls, schedule):
        if window.start <= at < window.end:
            return window
    return None


def in_order(calls: Iterable[Call]) -> list[Call]:
    """Return each call once, by time and then by name."""
    earliest: dict[str, Call] = {}
    for call in calls:
        known = earliest.get(call.key)
        if known is None or _precedence(call) < _precedence(known):
            earliest[call.key] = call
    return sorted(earliest.values(), key=lambda call: (call.at, call.key))


def _precedence(call: Call) -> tuple[Micros, int, str]:
    """Order reports of one call so that the set decides, not which was heard first."""
    return (call.at, -call.confidence.rank, call.origin.request)


def _counts(call: Call, terms: SessionTerms) -> bool:
    return terms.trigger is Trigger.ON_REQUEST or not call.is_request


def _used(window: Window, call: Call) -> Window:
    """Return a window with one more call in it, which need not be the latest."""
    last = max(window.last, call.at)
    return Window(
        start=window.start,
        end=_end(start=window.start, last_call=last, terms=window.terms),
        opener=window.opener,
        calls=window.calls + 1,
        last=last,
        terms=window.terms,
        memory=window.memory,
    )


def _end(*, start: Micros, last_call: Micros, terms: SessionTerms) -> Micros:
    if terms.idle_us is None:
        return start + terms.active_us
    return min(start + terms.active_us, last_call + terms.idle_us)
