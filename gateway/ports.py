"""What the street needs from the outside: a store and a clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.core.ledger import Booking, Claim, Intent, OverCap, Posting
from gateway.core.model import Micros, ObjectId, ObjectKind, Scope
from gateway.core.sessions import Call


class StoreUnavailable(Exception):
    """The store could not answer, or not make it durable; nothing is decided without it."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A team key as it is kept: `public` is safe to show, `digest` is an HMAC of the whole key."""

    public: str
    digest: bytes
    team: str
    created_at: Micros
    revoked_at: Micros | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What policy said of one request, kept for the audit; never any content."""

    request: str
    at: Micros
    team: str
    operation: str
    rule: str
    verdict: str
    status: int
    file_sha256: str | None = None
    file_bytes: int | None = None
    file_type: str | None = None


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One code-interpreter session as the ledger has it."""

    scope: Scope
    start: Micros
    end: Micros
    calls: int
    team: str
    key: str
    nano_usd: int
    confidence: str


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One posting with its number and the time it was written."""

    number: int
    recorded_at: Micros
    posting: Posting


class Store(Protocol):
    """Everything that must survive. Every write is durable when its call returns.

    Raises (all methods):
        StoreUnavailable: the answer is not known to be durable or cannot be read.
    """

    async def reserve(self, intent: Intent, claims: Sequence[Claim]) -> OverCap | None:
        """Journal `intent` and take `claims`, all or nothing, in one transaction.

        Return None when it is done, or the first claim that does not fit, judged at that commit:
        ``posted + reserved + bound > cap``; then nothing was written.
        """
        ...

    async def defer(self, intent: Intent, booking: Booking) -> None:
        """Journal an intent and write its first booking, both or neither, in one transaction."""
        ...

    async def book(self, booking: Booking) -> Sequence[Posting]:
        """Write one booking in one transaction; return the postings it made."""
        ...

    async def decide(self, decision: Decision) -> None:
        """Keep a decision for the audit."""
        ...

    async def owners(self, objects: Iterable[ObjectId]) -> Mapping[ObjectId, str]:
        """Return the owning team of each object that is known and not deleted."""
        ...

    async def owned(
        self, *, upstream: str, kind: ObjectKind, team: str
    ) -> Sequence[tuple[str, Micros]]:
        """Return ids and creation times of a team's living objects of one kind, newest first."""
        ...

    async def calls(self, scope: Scope) -> Sequence[Call]:
        """Return every known interpreter call of a scope, in time order."""
        ...

    async def intent(self, request: str) -> Intent | None:
        """Return an intent by its request id."""
        ...

    async def intent_of_run(self, *, upstream: str, run: str) -> Intent | None:
        """Return the intent that started a run."""
        ...

    async def intent_of_response(self, *, upstream: str, response: str) -> Intent | None:
        """Return the intent that made a response."""
        ...

    async def containers_of(self, *, upstream: str, response: str) -> Sequence[str]:
        """Return the containers that calls of a response named."""
        ...

    async def containers_in(self, *, upstream: str, conversation: str, limit: int) -> Sequence[str]:
        """Return the containers that calls in a conversation named, the latest call's first.

        A call whose item was taken out of the conversation shows nothing any more.
        """
        ...

    async def due(self, *, at: Micros, limit: int) -> Sequence[Intent]:
        """Return unsettled intents whose time to be looked at has come, oldest first."""
        ...

    async def orphans(self) -> Sequence[Intent]:
        """Return intents in state OPEN that were made before this store was opened."""
        ...

    async def unsettled_on(
        self, *, upstream: str, thread: str | None = None, response: str | None = None
    ) -> Sequence[Intent]:
        """Return the intents that are not closed and name this thread, or this response."""
        ...

    async def unsettled(self) -> tuple[int, Micros | None]:
        """Return how many intents are not closed, and the time of the oldest."""
        ...

    async def add_key(self, record: KeyRecord) -> None:
        """Keep a new key."""
        ...

    async def revoke_key(self, public: str, at: Micros) -> bool:
        """Revoke a key; return False if there is none or it was revoked before."""
        ...

    async def keys(self) -> Sequence[KeyRecord]:
        """Return all keys, oldest first."""
        ...

    async def balances(self, account: str, at: Micros) -> Mapping[tuple[str, str], tuple[int, int]]:
        """Return ``(unit, period) -> (posted, reserved)`` of an account, as of `at`."""
        ...

    def ledger(self, *, after: int = 0) -> AsyncIterator[LedgerRow]:
        """Yield every posting in order, from number `after` + 1 on."""
        ...

    async def postings_of_request(self, request: str) -> Sequence[LedgerRow]:
        """Return the postings one request of ours caused, in order."""
        ...

    async def sessions(self, *, team: str | None = None) -> Sequence[SessionRow]:
        """Return the code-interpreter sessions as they stand, newest first."""
        ...

    async def open_sessions(self, at: Micros) -> Mapping[str, int]:
        """Return how many sessions are open at `at`, by team; a team without one is left out."""
        ...

    async def probe(self) -> None:
        """Return once something was written durably, which leaves the books as they are."""
        ...

    async def close(self) -> None:
        """Finish what was begun and close; a closed store raises StoreUnavailable."""
        ...


class Clock(Protocol):
    """Tells the time. Durations are never computed from it; windows and dates are."""

    def now(self) -> Micros:
        """Return microseconds since the epoch, UTC."""
        ...
