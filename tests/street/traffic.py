"""Seeded traffic: every fault on every billable operation, so often, by callers of every kind.

A `Job` is one billed request, what goes wrong with it, and how its caller behaves. Each job has a
key of its own, by which every line of the ledger leads back to it, and names itself in
`x-ms-client-request-id`, by which the simulator knows whom to ambush (`Aimed`).

The jobs are dealt into *epochs*. An epoch has two halves, so many seconds apart that the second
falls just before, at or just after the end of the sessions that the first has opened.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product

from gateway.simulator.exchange import Received
from gateway.simulator.mishaps import Ambushes, Framing, Kind, Mishap

TIMES_EACH = 20
NAMED_BY = "x-ms-client-request-id"

# What goes wrong, in every variant that the simulator has of it.
FAULTS: dict[str, tuple[Mishap, ...]] = {
    "status before": tuple(Mishap(Kind.STATUS, work=False, status=n) for n in (500, 503, 408)),
    "status after": tuple(Mishap(Kind.STATUS, status=status) for status in (500, 503, 504)),
    "too many": (
        Mishap(Kind.STATUS, work=False, status=429, retry_after=1),
        Mishap(Kind.STATUS, work=False, status=429, retry_after_ms=20),
    ),
    "redirect": (Mishap(Kind.REDIRECT, work=False, location="http://127.0.0.1:9/elsewhere"),),
    "delay": (Mishap(Kind.DELAY, delay_s=0.02),),
    "stall": (Mishap(Kind.STALL, before_head=True), Mishap(Kind.STALL)),
    "close": (Mishap(Kind.CLOSE), Mishap(Kind.CLOSE, work=False)),
    "reset": tuple(Mishap(Kind.RESET, after_bytes=count) for count in (0, 10, 900, 4000)),
    "cut": tuple(Mishap(Kind.CUT, after_events=count) for count in (1, 2, 5)),
    "informational": (Mishap(Kind.INFORMATIONAL, status=103),),
    "framing": tuple(Mishap(Kind.FRAMING, framing=framing) for framing in Framing),
    "gzip": (Mishap(Kind.GZIP),),
    "huge header": (Mishap(Kind.HUGE_HEADER),),
    "extra": (Mishap(Kind.EXTRA),),
}
"""The names under which faults are counted; every kind the simulator knows is among them."""

OPERATIONS = (
    "chat",
    "chat streamed",
    "embeddings",
    "run streamed",
    "run polled",
    "create and run",
    "submit outputs",
    "response",
    "response streamed",
    "response in background",
    "container",
    "project run",
)
ON_THREADS = ("run streamed", "run polled", "project run")
RESPONSES = ("response", "response streamed", "response in background")

# Seconds from the call that opened a session to the call at its end: (whose, how long).
ACTIVE_S, CONTAINER_IDLE_S, PROJECT_IDLE_S = 3600, 1200, 1800
EDGES = (
    *(("thread", ACTIVE_S + by) for by in (-1, 0, 1)),
    *(("container", CONTAINER_IDLE_S + by) for by in (-1, 0, 1)),
    *(("project", PROJECT_IDLE_S + by) for by in (-1, 0, 1)),
)
EDGE_PAIRS = 6


@dataclass
class Job:
    """One billed request and its story; the last fields are what its caller came to know."""

    number: int
    operation: str
    fault: str
    mishap: Mishap | None
    manner: str
    is_streamed: bool
    calls: int
    tokens: tuple[int, int, int]
    fails: bool = False
    team: str = "blue"
    key: str = ""
    public: str = ""
    partner: Job | None = None
    status: int = 0
    body: bytes = b""
    thread: str | None = None
    run: str | None = None
    container: str | None = None
    collateral: int = 0

    @property
    def name(self) -> str:
        """What the job calls itself on the wire."""
        return f"job-{self.number}"

    @property
    def directive(self) -> str:
        """What the simulator is told to do."""
        before, cached, out = self.tokens
        said = f"calls={self.calls} tokens={before}/{cached}/{out} words=3"
        return f"[[sim {said}{' fail=1' if self.fails else ''}{self._function()}]]"

    def _function(self) -> str:
        if self.operation != "submit outputs":
            return ""
        return " function=look run_s=0" if self.is_streamed else " function=look"

    def __repr__(self) -> str:
        return f"<{self.name} {self.operation}, {self.fault}, {self.mishap}, {self.manner}>"


@dataclass
class Epoch:
    """Two halves `apart_s` seconds from one another; `kept_up_s` are when sessions are kept up."""

    kind: str
    apart_s: int
    first: list[Job] = field(default_factory=list)
    second: list[Job] = field(default_factory=list)

    @property
    def kept_up_s(self) -> tuple[int, ...]:
        """When the sessions that are to last an hour are used, lest they idle out."""
        return (1000, 2000, 3000) if self.apart_s >= ACTIVE_S - 1 else ()


class Aimed(Ambushes):
    """Ambushes that wait for named requests, and tell when one has come.

    `told` is called in the simulator's thread.
    """

    def __init__(self, told: Callable[[str], None]) -> None:
        super().__init__()
        self.mishaps: dict[str, Mishap] = {}
        self.caught: dict[str, Kind] = {}
        self._told = told

    def take(self, received: Received) -> Mishap | None:
        """Return what is to go wrong with the request that bears that name."""
        name = received.header(NAMED_BY)
        if received.method != "POST" or name is None:
            return super().take(received)
        mishap = self.mishaps.pop(name, None)
        if mishap is not None:
            self.caught[name] = mishap.kind
        self._told(name)
        return mishap


def plan(seed: int, *, part: int, parts: int) -> list[Epoch]:
    """Return one of `parts` equal shares of the traffic of a seed, in epochs at every edge."""
    dice = random.Random(seed)
    jobs = list(_jobs(dice))
    dice.shuffle(jobs)
    jobs = jobs[part::parts]
    epochs = [Epoch(kind, apart_s) for kind, apart_s in EDGES[part::parts]]
    for index, job in enumerate(jobs):
        epoch = epochs[index % len(epochs)]
        half = epoch.first if (index // len(epochs)) % 2 == 0 else epoch.second
        half.append(job)
    number = 10_000 * (1 + part)
    for epoch in epochs:
        number = _add_edges(epoch, dice, number)
        _pair(epoch)
    return epochs


def _jobs(dice: random.Random) -> Iterator[Job]:
    for number, (fault, operation, time) in enumerate(
        product(FAULTS, OPERATIONS, range(TIMES_EACH)), start=1
    ):
        variants = FAULTS[fault]
        job = _job(dice, number, operation, is_streamed=time % 2 == 0)
        job.fault, job.mishap = fault, variants[(time // 2) % len(variants)]
        yield job


def _job(dice: random.Random, number: int, operation: str, *, is_streamed: bool) -> Job:
    if operation in ("run polled", "response in background", "embeddings", "container"):
        is_streamed = False
    if operation in ("chat", "response"):
        is_streamed = False
    if operation in ("chat streamed", "run streamed", "response streamed"):
        is_streamed = True
    manners = ["stays", "stays", "stays", "leaves on arrival", "leaves at the first byte"]
    if not is_streamed and operation not in ("chat", "embeddings", "container", "response"):
        manners = ["polls", "polls", "silent", "leaves on arrival"]
    return Job(
        number=number,
        operation=operation,
        fault="none",
        mishap=None,
        manner=dice.choice(manners),
        is_streamed=is_streamed,
        calls=dice.choice((0, 1, 1, 1, 2)),
        tokens=(1000 + number, dice.randrange(500), dice.randrange(1, 200)),
        fails=operation in ON_THREADS and dice.random() < 0.1,
        team=dice.choice(("blue", "red")),
    )


def _add_edges(epoch: Epoch, dice: random.Random, number: int) -> int:
    """Add pairs of calls without a fault, so that each edge is met for certain."""
    operation = {"thread": "run streamed", "container": "response", "project": "project run"}
    kinds = {epoch.kind, "container", "project"} if epoch.kept_up_s else {epoch.kind}
    for kind in sorted(kinds):
        for _ in range(EDGE_PAIRS):
            pair = [_job(dice, number + at, operation[kind], is_streamed=True) for at in (0, 1)]
            for job in pair:
                job.manner, job.calls, job.fails, job.team = "stays", 1, False, pair[0].team
            pair[1].partner = pair[0]
            epoch.first.append(pair[0])
            epoch.second.append(pair[1])
            number += 2
    return number


def _pair(epoch: Epoch) -> None:
    """Let jobs of the second half go on in the threads and containers of the first."""
    for operations in ((name,) for name in (*ON_THREADS, *RESPONSES)):
        for is_streamed, team in product((True, False), ("blue", "red")):
            begun, going_on = (
                [
                    job
                    for job in half
                    if job.operation in operations
                    and (job.is_streamed, job.team) == (is_streamed, team)
                ]
                for half in (epoch.first, epoch.second)
            )
            taken = {id(job.partner) for job in going_on}
            free = [job for job in begun if id(job) not in taken]
            for job, partner in zip(
                (job for job in going_on if job.partner is None), free, strict=False
            ):
                job.partner = partner
