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

With an idle timeout a session ends at ``min(start + active, last call + idle)``.

Source: Azure OpenAI, "Azure OpenAI Assistants Code Interpreter" (2025) and OpenAI help 8550641: one
hour active, charged per session, two threads two sessions. The 2026 pages add an idle timeout of
30 minutes (Foundry agents) and 20 minutes (Responses); the semantics of idle inside the hour are
not stated, the plain reading is taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.core.model import Confidence, Micros, Origin, Scope, SessionTerms, Terms

__all__ = ["Call", "SessionTerms", "Terms", "Window", "open_at", "windows"]


@dataclass(frozen=True, slots=True)
class Call:
    """One known call of the interpreter.

    ``key`` names the step (or item, or request) that called, unique within the scope; ``at`` is
    Azure's own time of it (the step's or response's ``created_at``), never when we heard.
    """

    scope: Scope
    key: str
    at: Micros
    origin: Origin
    confidence: Confidence = Confidence.EXACT
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """One session: half-open ``[start, end)``, opened by ``opener``, used ``calls`` times."""

    start: Micros
    end: Micros
    opener: Call
    calls: int

    @property
    def fact(self) -> str:
        """The name under which this session is charged, however we heard of it."""
        return f"session/{self.opener.scope}/{self.opener.key}"


def windows(calls: Iterable[Call], terms: SessionTerms) -> tuple[Window, ...]:
    """Return the sessions of one scope, in time order; they never overlap.

    Calls at the same microsecond are ordered by key, so that the result depends on the set alone.
    A call known twice (same key) counts once, at its earliest time.
    """
    found: list[Window] = []
    for call in _in_order(calls):
        if found and call.at < found[-1].end:
            last = found[-1]
            found[-1] = Window(
                start=last.start,
                end=_end(start=last.start, last_call=call.at, terms=terms),
                opener=last.opener,
                calls=last.calls + 1,
            )
        else:
            end = _end(start=call.at, last_call=call.at, terms=terms)
            found.append(Window(start=call.at, end=end, opener=call, calls=1))
    return tuple(found)


def open_at(calls: Iterable[Call], terms: SessionTerms, at: Micros) -> Window | None:
    """Return the session that is open at `at`, or None."""
    for window in windows(calls, terms):
        if window.start <= at < window.end:
            return window
    return None


def _in_order(calls: Iterable[Call]) -> list[Call]:
    earliest: dict[str, Call] = {}
    for call in calls:
        known = earliest.get(call.key)
        if known is None or _precedence(call) < _precedence(known):
            earliest[call.key] = call
    return sorted(earliest.values(), key=lambda call: (call.at, call.key))


def _precedence(call: Call) -> tuple[Micros, int, str]:
    """Order reports of one call so that the set decides, not which was heard first."""
    return (call.at, -call.confidence.rank, call.origin.request)


def _end(*, start: Micros, last_call: Micros, terms: SessionTerms) -> Micros:
    if terms.idle_us is None:
        return start + terms.active_us
    return min(start + terms.active_us, last_call + terms.idle_us)
