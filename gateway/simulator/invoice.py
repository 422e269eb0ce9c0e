"""The invoice: what Azure would charge, worked out by living through the time.

The simulator does not look back at a set of calls and cut it into windows. It keeps, for every
scope (a thread or a container), the one session that is open now, and lets time tick over it:
each time an instant is observed, sessions whose active hour or idle time has run out are closed.
A code-interpreter call that finds its scope without an open session opens one, and the line is
written at that moment. A gateway that derives its charges another way can therefore be judged by
this one.

All instants here are whole seconds, because that is what the wire shows: a session is dated by
the step's or the response's `created_at`. A window is half-open: a call 3600 s after the first
opens a new session.

Prices change by the clock too: terms may say what comes `then`, and a session that opens from that
instant on has those. Where minutes are charged, a session's meter runs as its calls come in: each
call lets the minutes since the opening pass, one by one. What is charged is never fewer minutes
than the least.

A line of a batch costs half: it is charged in a row of its own, `"batch": true`, whose amount is
half of what the same tokens cost otherwise, rounded up to a whole nano-USD.

Source: OpenAI help article 8550641, "Code Interpreter pricing" ($0.03 per session, active one
hour, one per thread); Azure OpenAI Responses API page (containers expire after 20 idle minutes);
Microsoft Foundry agents, code interpreter tool (a session idles out after 30 minutes); Azure OpenAI
batch page (50 % less than global standard).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from gateway.simulator.usage import Usage

SESSION_NANO_USD = 30_000_000


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """Nano-USD for one token of each kind."""

    input: int
    cached_input: int
    output: int


TOKEN_PRICES: Mapping[str, TokenPrice] = {
    "gpt-4o": TokenPrice(input=2500, cached_input=1250, output=10000),
    "gpt-4o-mini": TokenPrice(input=150, cached_input=75, output=600),
    "gpt-4.1": TokenPrice(input=2000, cached_input=500, output=8000),
    "gpt-4.1-mini": TokenPrice(input=400, cached_input=100, output=1600),
    "text-embedding-3-small": TokenPrice(input=20, cached_input=20, output=0),
    "text-embedding-3-large": TokenPrice(input=130, cached_input=130, output=0),
    "text-embedding-ada-002": TokenPrice(input=100, cached_input=100, output=0),
}


@dataclass(frozen=True, slots=True)
class SessionTerms:
    """How long a session of one kind lasts; `idle_s` None means that idling does not end it.

    `nano_usd` is the price of a session, or of each minute where `minutes_min` is not None.
    `memory` has the same for more memory. `on_request` says whether already the run or container
    that was asked for opens a session; by default a container does and a run does not. From
    `until_s` on the terms are those of `then`.
    """

    active_s: int
    idle_s: int | None
    nano_usd: int = SESSION_NANO_USD
    minutes_min: int | None = None
    memory: Mapping[str, int] = field(default_factory=dict)
    on_request: bool | None = None
    until_s: int | None = None
    then: "SessionTerms | None" = None

    def at(self, now_s: int) -> "SessionTerms":
        """Return the terms of a session that opens now."""
        if self.then is None or self.until_s is None or now_s < self.until_s:
            return self
        return self.then.at(now_s)


SESSION_TERMS: Mapping[str, SessionTerms] = {
    "thread": SessionTerms(active_s=3600, idle_s=None),
    "container": SessionTerms(active_s=3600, idle_s=1200),
    "project": SessionTerms(active_s=3600, idle_s=1800),
}


@dataclass(slots=True)
class SessionLine:
    """One session on the invoice."""

    kind: str
    scope: str
    opened_at_s: int
    calls: int = 0
    nano_usd_each: int = SESSION_NANO_USD
    minutes_min: int | None = None
    minutes: int = 0

    def run_on(self, now_s: int) -> None:
        """Let the minutes pass in which the session was used, the present one included."""
        while self.opened_at_s + 60 * self.minutes <= now_s:
            self.minutes += 1

    @property
    def nano_usd(self) -> int:
        """What the session costs by now."""
        if self.minutes_min is None:
            return self.nano_usd_each
        return self.nano_usd_each * max(self.minutes, self.minutes_min)


@dataclass(slots=True)
class OpenSession:
    """The session a scope has open, and when it was last heard of."""

    line: SessionLine
    terms: SessionTerms
    last_active_s: int


@dataclass(slots=True)
class TokenLine:
    """All tokens of one row; `input` leaves out the cached ones, `output` includes reasoning."""

    input: int = 0
    cached_input: int = 0
    output: int = 0
    calls: int = 0


@dataclass(slots=True)
class Invoice:
    """Sessions opened and tokens used since the simulator's life began."""

    terms: Mapping[str, SessionTerms]
    sessions: list[SessionLine] = field(default_factory=list)
    tokens: dict[tuple[str, bool], TokenLine] = field(default_factory=dict)
    _open: dict[tuple[str, str], OpenSession] = field(default_factory=dict)
    _in_batch: bool = False

    def tick(self, now_s: int) -> None:
        """Close every session that has run out by `now_s`."""
        over = [key for key, session in self._open.items() if self._is_over(session, now_s)]
        for key in over:
            del self._open[key]

    def _is_over(self, session: OpenSession, now_s: int) -> bool:
        terms = session.terms
        idle_over = terms.idle_s is not None and now_s >= session.last_active_s + terms.idle_s
        return idle_over or now_s >= session.line.opened_at_s + terms.active_s

    def open(
        self,
        kind: str,
        scope: str,
        *,
        at_s: int,
        surface: str | None = None,
        memory: str | None = None,
    ) -> SessionLine:
        """Return the scope's open session, having opened and charged one if there was none.

        The terms are those of `surface` if it has its own, else those of `kind`; `memory` is what
        the container has, if it has more than the plain gigabyte.
        """
        self.tick(at_s)
        session = self._open.get((kind, scope))
        if session is None:
            terms = self.terms.get(surface or kind, self.terms[kind]).at(at_s)
            each = terms.nano_usd if memory is None else terms.memory[memory]
            line = SessionLine(kind, scope, at_s, 0, each, terms.minutes_min)
            session = OpenSession(line, terms, at_s)
            self._open[kind, scope] = session
            self.sessions.append(session.line)
        session.last_active_s = at_s
        session.line.run_on(at_s)
        return session.line

    def call(
        self,
        kind: str,
        scope: str,
        *,
        at_s: int,
        surface: str | None = None,
        memory: str | None = None,
    ) -> None:
        """Take note of one code-interpreter call, which opens a session if none is open."""
        self.open(kind, scope, at_s=at_s, surface=surface, memory=memory).calls += 1

    def ask(
        self,
        kind: str,
        scope: str,
        *,
        at_s: int,
        surface: str | None = None,
        memory: str | None = None,
    ) -> None:
        """Take note of what was asked for before anything is called: it may open a session."""
        terms = self.terms.get(surface or kind, self.terms[kind]).at(at_s)
        opens = terms.on_request if terms.on_request is not None else kind == "container"
        if opens:
            self.open(kind, scope, at_s=at_s, surface=surface, memory=memory)

    def touch(self, kind: str, scope: str, *, at_s: int) -> None:
        """Take note that the scope was used without a call: idling starts anew, nothing opens."""
        self.tick(at_s)
        session = self._open.get((kind, scope))
        if session is not None:
            session.last_active_s = at_s

    def charge(self, model: str, usage: Usage) -> None:
        """Add one answered call's tokens to the row of `model`."""
        line = self.tokens.setdefault((model, self._in_batch), TokenLine())
        line.input += usage.input_tokens - usage.cached_input_tokens
        line.cached_input += usage.cached_input_tokens
        line.output += usage.output_tokens
        line.calls += 1

    @contextmanager
    def at_batch_price(self) -> Iterator[None]:
        """Charge what is answered meanwhile as lines of a batch."""
        self._in_batch = True
        try:
            yield
        finally:
            self._in_batch = False

    def as_json(self) -> dict[str, Any]:
        """Return the invoice as `GET /simulator/invoice` shows it, money in nano-USD."""
        sessions: list[dict[str, Any]] = [
            {
                "kind": line.kind,
                "scope": line.scope,
                "opened_at": line.opened_at_s,
                "calls": line.calls,
                "nano_usd": line.nano_usd,
            }
            for line in self.sessions
        ]
        tokens = [
            _token_line(model, line, in_batch=in_batch)
            for (model, in_batch), line in sorted(self.tokens.items(), key=lambda row: row[0])
        ]
        return {
            "currency": "USD",
            "sessions": sessions,
            "tokens": tokens,
            "session_count": len(sessions),
            "total_nano_usd": sum(row["nano_usd"] for row in [*sessions, *tokens]),
        }


def _token_line(model: str, line: TokenLine, *, in_batch: bool) -> dict[str, Any]:
    price = TOKEN_PRICES[model]
    full = (
        line.input * price.input
        + line.cached_input * price.cached_input
        + line.output * price.output
    )
    return {
        "model": model,
        "input_tokens": line.input,
        "cached_input_tokens": line.cached_input,
        "output_tokens": line.output,
        "calls": line.calls,
        "nano_usd": -(-full // 2) if in_batch else full,
        **({"batch": True} if in_batch else {}),
    }
