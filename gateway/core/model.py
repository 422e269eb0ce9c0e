"""The nouns everybody shares.

Time is an ``int`` of microseconds since the epoch, UTC (``Micros``), money an ``int`` of nano-USD,
10⁻⁹ USD (``NanoUsd``). Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Micros = int
NanoUsd = int

SECOND: Micros = 1_000_000


class Surface(StrEnum):
    """Which of Azure's three faces a call speaks to."""

    DATED = "dated"
    V1 = "v1"
    FOUNDRY = "foundry"


class ScopeKind(StrEnum):
    """What a code-interpreter session hangs on.

    ``RESPONSE`` stands for an automatic container whose id was never shown. Threads of a Foundry
    project have terms of their own, and so a kind of their own.
    """

    THREAD = "thread"
    PROJECT_THREAD = "project_thread"
    CONTAINER = "container"
    RESPONSE = "response"

    @classmethod
    def of_threads(cls, surface: Surface) -> ScopeKind:
        """Return the kind of a surface's threads: those of a Foundry project have other terms."""
        return cls.PROJECT_THREAD if surface is Surface.FOUNDRY else cls.THREAD


class ObjectKind(StrEnum):
    """What Azure keeps for a caller and what therefore has an owner."""

    FILE = "file"
    ASSISTANT = "assistant"
    THREAD = "thread"
    RUN = "run"
    VECTOR_STORE = "vector_store"
    RESPONSE = "response"
    CONVERSATION = "conversation"
    CONTAINER = "container"
    PROMPT = "prompt"
    ITEM = "item"


class Meter(StrEnum):
    """What is counted. The three token meters are disjoint: input excludes cached input."""

    INPUT_TOKENS = "input_tokens"
    CACHED_INPUT_TOKENS = "cached_input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    CODE_INTERPRETER_SESSION = "code_interpreter_session"


class Confidence(StrEnum):
    """How a charge is known: read as it happened, read back later, or not readable at all."""

    EXACT = "exact"
    RECOVERED = "recovered"
    ESTIMATED = "estimated"

    @property
    def rank(self) -> int:
        """Higher is better; a better one may replace a worse one, never the reverse."""
        return {"exact": 2, "recovered": 1, "estimated": 0}[self.value]


@dataclass(frozen=True, slots=True)
class Scope:
    """The one thing a code-interpreter session belongs to."""

    upstream: str
    kind: ScopeKind
    id: str

    def __str__(self) -> str:
        return f"{self.upstream}/{self.kind}/{self.id}"


@dataclass(frozen=True, slots=True)
class ObjectId:
    """An object of one upstream. Ids of two upstreams never mean the same object."""

    upstream: str
    kind: ObjectKind
    id: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling: a team, through one of its keys (`key` is the public part)."""

    team: str
    key: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose doing a charge is and through what: everything on a ledger line but the amount."""

    team: str
    key: str
    upstream: str
    surface: Surface
    deployment: str | None
    model: str | None
    request: str
    run: str | None = None
    response: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Billable tokens of one piece of work, in disjoint counts."""

    input_tokens: int
    cached_input_tokens: int
    output_tokens: int


class Trigger(StrEnum):
    """What opens a session: a call of the interpreter, or already the request that could call."""

    ON_CALL = "on_call"
    ON_REQUEST = "on_request"


@dataclass(frozen=True, slots=True)
class SessionTerms:
    """What a session is and costs from `valid_from` on, for one kind of scope.

    ``idle_us`` of ``None`` means that only the active time ends a session. `nano_usd` is the price
    of the session, or with `per_minute` of each of its minutes, at least `minutes_min` of them.
    `memory` has the same price for containers with more than the plain gigabyte, by tier.
    """

    active_us: Micros
    idle_us: Micros | None
    nano_usd: NanoUsd
    price_id: str
    valid_from: Micros = 0
    trigger: Trigger = Trigger.ON_CALL
    per_minute: bool = False
    minutes_min: int = 0
    memory: Mapping[str, NanoUsd] = field(default_factory=dict)
