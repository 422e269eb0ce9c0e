"""What these tests act with: a ledger with postings, a stand-in gateway, a program."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gateway.control import (
    WallClock,
    control_app,
    control_socket_path,
)
from gateway.core.callers import KeyRing
from gateway.core.ledger import Booking, Charge
from gateway.core.model import SECOND, Confidence, Meter, Origin, Scope, ScopeKind, Surface
from gateway.core.sessions import Call, SessionTerms
from gateway.core.terms import Terms
from gateway.listener import Door
from gateway.ports import Store
from gateway.stores import open_store

PEPPER = b"p" * 64
AT = 1_795_466_000 * SECOND  # 2026-11-23T20:33:20Z
TERMS = Terms.everywhere(
    {kind: SessionTerms(3600 * SECOND, None, 30_000_000, "ci-2025") for kind in ScopeKind}
)
LEDGER_FIELDS = (
    "v, posting, fact, revision, kind, at, team, key, upstream, surface, deployment, model, "
    "meter, quantity, nano_usd, price_id, confidence, reason, scope, run, response, request"
)


@dataclass
class Ran:
    code: int
    out: str
    err: str


@dataclass
class Gateway:
    """A stand-in for a running gateway: the store, its lock, and the control socket."""

    database: Path
    changes: int = 0
    rings: list[KeyRing] = field(default_factory=list)

    async def serve(self, started: threading.Event, stop: threading.Event) -> None:
        store = await open_store(f"sqlite:///{self.database}", clock=WallClock())

        async def on_change() -> None:
            self.changes += 1
            self.rings.append(KeyRing(await store.keys(), PEPPER))

        teams = ("blue", "green")
        application = control_app(store, on_change, WallClock(), PEPPER, teams)
        path = control_socket_path(self.database)
        door = Door(application, host="", port=0, uds=path, drain_s=1)
        await door.start()
        started.set()
        await asyncio.to_thread(stop.wait)
        await door.stop()
        await store.close()


def origin(team: str, request: str) -> Origin:
    return Origin(team, "abcdefghijkl", "azure", Surface.DATED, "chat", "gpt-4o", request, "run_1")


async def fill(store: Store) -> None:
    """Book tokens of blue and green and a session of blue, one charge an estimate."""
    tokens = Charge(
        fact="run/azure/run_1/input",
        at=AT,
        meter=Meter.INPUT_TOKENS,
        quantity=1000,
        nano_usd=2_500_000,
        price_id="gpt-4o",
        confidence=Confidence.EXACT,
        origin=origin("blue", "req_1"),
    )
    guessed = Charge(
        fact="run/azure/run_2/output",
        at=AT + 86_400 * SECOND,
        meter=Meter.OUTPUT_TOKENS,
        quantity=3,
        nano_usd=1,
        price_id="gpt-4o",
        confidence=Confidence.ESTIMATED,
        origin=origin("green", "req_2"),
        reason="no usage in the reply",
    )
    scope = Scope("azure", ScopeKind.THREAD, "thread_1")
    call = Call(scope=scope, key="step_1", at=AT, origin=origin("blue", "req_1"))
    await store.book(Booking(at=AT, terms=TERMS, charges=(tokens, guessed), calls=(call,)))


async def filled(database: Path) -> None:
    store = await open_store(f"sqlite:///{database}", clock=WallClock())
    try:
        await fill(store)
    finally:
        await store.close()


@contextmanager
def running(database: Path) -> Iterator[Gateway]:
    """Yield a gateway that serves `database` from a thread until the context ends."""
    served = Gateway(database)
    started, stop = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(served.serve(started, stop)))
    thread.start()
    try:
        assert started.wait(timeout=30)
        yield served
    finally:
        stop.set()
        thread.join()


@contextmanager
def started(*words: str, folder: Path, until: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield a command that runs as a program, and what it said until a word of it appeared."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "gateway.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
    )
    assert process.stdout is not None
    said = ""
    try:
        while until not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        yield process, said
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
