"""Small words for the things the store's tests are about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.core.ledger import (
    Balance,
    Booking,
    Charge,
    Claim,
    Intent,
    Outcome,
    Period,
    Posting,
    Unit,
    balances_of,
    window_start,
)
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
    Surface,
)
from gateway.core.sessions import Call, SessionTerms
from gateway.core.terms import Terms
from gateway.stores import SqliteStore, open_store

NOON: Micros = 1_793_880_000 * SECOND
MINUTE: Micros = 60 * SECOND
CENT = 10_000_000
SESSION = 3 * CENT

TERMS = Terms.everywhere(
    {
        kind: SessionTerms(60 * MINUTE, None, nano_usd=SESSION, price_id="ci-2025")
        for kind in ScopeKind
    }
)

ORIGIN = Origin(
    team="risk",
    key="pub1",
    upstream="east",
    surface=Surface.DATED,
    deployment="gpt",
    model="gpt-4.1",
    request="req-1",
)

THREAD = Scope("east", ScopeKind.THREAD, "thread_1")
FILE = ObjectId("east", ObjectKind.FILE, "file-1")


@dataclass(frozen=True, slots=True)
class StoppedClock:
    """A clock that always says the same."""

    at: Micros = NOON

    def now(self) -> Micros:
        return self.at


async def opened(path: Path) -> SqliteStore:
    store = await open_store(f"sqlite:///{path}", clock=StoppedClock())
    assert isinstance(store, SqliteStore)
    return store


def origin(*, team: str = "risk", request: str = "req-1") -> Origin:
    return replace(ORIGIN, team=team, request=request)


def call(
    minute: int,
    *,
    key: str | None = None,
    scope: Scope = THREAD,
    confidence: Confidence = Confidence.EXACT,
    team: str = "risk",
) -> Call:
    """Return a call `minute` minutes after noon, named after its minute if not otherwise."""
    return Call(
        scope=scope,
        key=f"step@{minute}" if key is None else key,
        at=NOON + minute * MINUTE,
        origin=origin(team=team),
        confidence=confidence,
    )


def charge(
    nano_usd: int,
    *,
    fact: str = "run/east/run_1/input_tokens",
    quantity: int = 100,
    confidence: Confidence = Confidence.EXACT,
    at: Micros = NOON,
    team: str = "risk",
    request: str = "req-1",
) -> Charge:
    return Charge(
        fact=fact,
        at=at,
        meter=Meter.INPUT_TOKENS,
        quantity=quantity,
        nano_usd=nano_usd,
        price_id="gpt-4.1-2025",
        confidence=confidence,
        origin=origin(team=team, request=request),
    )


def intent(name: str = "req-1", *, at: Micros = NOON) -> Intent:
    return Intent(id=name, at=at, operation="create_run", origin=origin(request=name))


def claim(
    *, bound: int = 1, cap: int = 7, unit: Unit = Unit.SESSIONS, account: str = "team:risk"
) -> Claim:
    start = window_start(Period.DAY, NOON)
    balance = Balance(account, unit, Period.DAY, start)
    return Claim(balance=balance, bound=bound, cap=cap, rule="sessions-per-day")


def news(
    *calls: Call,
    charges: Sequence[Charge] = (),
    intent: str | None = None,
    outcome: Outcome | None = None,
) -> Booking:
    return Booking(
        at=NOON,
        terms=TERMS,
        intent=intent,
        outcome=outcome,
        charges=tuple(charges),
        calls=calls,
    )


def amounts(postings: Iterable[Posting]) -> list[tuple[str, int]]:
    """Return ``(call that opened the session, change in sessions)`` of each posting."""
    return [(line.charge.fact.rsplit("/", 1)[-1], line.charge.quantity) for line in postings]


def sums(postings: Iterable[Posting]) -> dict[str, tuple[int, int]]:
    """Return ``fact -> (quantity, nano_usd)`` of all facts that do not add up to nothing."""
    total: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for line in postings:
        quantity, nano_usd = total[line.charge.fact]
        total[line.charge.fact] = (
            quantity + line.charge.quantity,
            nano_usd + line.charge.nano_usd,
        )
    return {fact: amount for fact, amount in total.items() if amount != (0, 0)}


def balances(postings: Iterable[Posting]) -> dict[Balance, int]:
    """Return what the balances must be for these postings; those at nothing are left out."""
    total: dict[Balance, int] = defaultdict(int)
    for line in postings:
        for balance, change in balances_of(line):
            total[balance] += change
    return {balance: amount for balance, amount in total.items() if amount != 0}
