"""Killed at its first write, its second, and so on until none is left: nothing is lost or twice.

Each operation is played on one ledger again and again. Each time the gateway kills itself one write
later, before or after the commit, and once between Azure's answer and its booking; it is started
again, settles, and is judged. It ends when the gateway has outlived the operation.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.core.model import Confidence, Meter
from gateway.ports import LedgerRow
from gateway.simulator import LiveSimulator, SimulatorConfig
from gateway.stores.readonly import open_reader
from tests.street.dying import ARMED
from tests.street.evidence import (
    estimates,
    invoiced_sessions,
    invoiced_tokens,
    sessions_by_scope,
    tokens_by_model,
    total,
)
from tests.street.living import (
    AUTO,
    AZURE_KEY,
    INTERPRETER,
    VERSION,
    eventually,
    write_policies,
    write_settings,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

WRITES_MAX = 12
QUERY = f"?api-version={VERSION}"
CALLS = "[[sim calls=1 tokens=100/20/7 words=4]]"
PROJECT = "/api/projects/books"
LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
ROOT = str(Path(__file__).parents[2])

Act = Callable[["Trial"], Awaitable[object]]


@dataclass
class Trial:
    """One operation, played until a gateway outlives it."""

    folder: Path
    simulator: LiveSimulator
    zygote: asyncio.subprocess.Process
    key: str
    client: httpx.AsyncClient
    pid: int = 0
    made: dict[str, str] = field(default_factory=dict)
    deaths: list[str] = field(default_factory=list)

    @property
    def database(self) -> Path:
        return self.folder / "ledger.db"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")

    async def start(self) -> None:
        """Serve, and return when callers may come."""
        (self.folder / "log").touch()
        begin = len(self.log)
        assert self.zygote.stdin is not None
        assert self.zygote.stdout is not None
        self.zygote.stdin.write(f"{self.folder}\n".encode())
        self.pid = int(await self.zygote.stdout.readline())
        found: list[str] = []

        async def has_said() -> bool:
            _, mark, rest = self.log[begin:].partition("serving callers on ")
            if mark and "," in rest:
                found.append(rest.partition(",")[0])
            return bool(found)

        await eventually(has_said)
        self.client.base_url = httpx.URL(found[0])

    async def is_dead(self) -> bool:
        return not await asyncio.to_thread(Path("/proc", str(self.pid)).exists)

    async def is_settled(self) -> bool:
        with open_reader(self.database) as reader:
            return reader.unsettled()[0] == 0

    async def is_over(self) -> bool:
        """Return whether the gateway has died, or has nothing left to write."""
        return await self.is_dead() or await self.is_settled()

    def arm(self, when: str) -> None:
        (self.folder / ARMED).write_text(when, encoding="ascii")

    def disarm(self) -> None:
        (self.folder / ARMED).unlink(missing_ok=True)

    async def stop(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        await eventually(self.is_dead)

    async def post(self, path: str, body: Any = None) -> dict[str, Any]:
        answer = await self.client.post(path, json=body)
        try:
            found: dict[str, Any] = answer.json()
        except ValueError:
            found = {}
        return found

    async def thread(self, root: str = "/openai", query: str = QUERY) -> str:
        body = {"messages": [{"role": "user", "content": CALLS}]}
        return str((await self.post(f"{root}/threads{query}", body))["id"])

    async def assistant(self, root: str = "/openai", query: str = QUERY) -> str:
        """Return the trial's assistant, made once."""
        if root not in self.made:
            body = {"model": "gpt-4o", "tools": [INTERPRETER, LOOK]}
            self.made[root] = (await self.post(f"{root}/assistants{query}", body))["id"]
        return self.made[root]


async def _nothing(_: Trial) -> None:
    return


def _chat(*, stream: bool) -> Act:
    body = {"messages": [{"role": "user", "content": CALLS}], "stream": stream}

    async def act(trial: Trial) -> object:
        return await trial.post(f"/openai/deployments/gpt-4o/chat/completions{QUERY}", body)

    return act


async def _embeddings(trial: Trial) -> object:
    body = {"model": "text-embedding-3-small", "input": "one two"}
    return await trial.post("/openai/v1/embeddings", body)


def _response(**more: Any) -> Act:
    async def act(trial: Trial) -> object:
        body = {"model": "gpt-4.1", "input": CALLS, "tools": [AUTO], **more}
        return await trial.post("/openai/v1/responses", body)

    return act


def _made(path: str, body: dict[str, Any]) -> Act:
    async def act(trial: Trial) -> object:
        return await trial.post(path, body)

    return act


async def _file(trial: Trial) -> object:
    form = {"file": ("t.csv", b"a,b\n1,2\n", "text/csv")}
    return await trial.client.post(
        f"/openai/files{QUERY}", data={"purpose": "assistants"}, files=form
    )


def _with_thread(root: str = "/openai", query: str = QUERY) -> Act:
    async def prepare(trial: Trial) -> None:
        trial.made["assistant"] = await trial.assistant(root, query)
        trial.made["thread"] = await trial.thread(root, query)

    return prepare


def _run(root: str = "/openai", query: str = QUERY, **more: Any) -> Act:
    async def act(trial: Trial) -> object:
        body = {"assistant_id": trial.made["assistant"], **more}
        return await trial.post(f"{root}/threads/{trial.made['thread']}/runs{query}", body)

    return act


def _run_at_once(**more: Any) -> Act:
    async def act(trial: Trial) -> object:
        thread = {"messages": [{"role": "user", "content": CALLS}]}
        body = {"assistant_id": trial.made["assistant"], "thread": thread, **more}
        return await trial.post(f"/openai/threads/runs{QUERY}", body)

    return act


async def _waiting_for_outputs(trial: Trial) -> None:
    assistant = await trial.assistant()
    said = {"role": "user", "content": "[[sim calls=1 function=look run_s=0]]"}
    thread = (await trial.post(f"/openai/threads{QUERY}", {"messages": [said]}))["id"]
    path = f"/openai/threads/{thread}/runs"
    run = (await trial.post(path + QUERY, {"assistant_id": assistant}))["id"]
    seen = (await trial.client.get(f"{path}/{run}{QUERY}")).json()
    call = seen["required_action"]["submit_tool_outputs"]["tool_calls"][0]["id"]
    trial.made |= {"path": f"{path}/{run}/submit_tool_outputs{QUERY}", "call": call}


async def _submit(trial: Trial) -> object:
    body = {"tool_outputs": [{"tool_call_id": trial.made["call"], "output": "7"}], "stream": True}
    return await trial.post(trial.made["path"], body)


async def _deletion(trial: Trial) -> object:
    answer = await trial.client.delete(f"/openai/threads/{trial.made['thread']}{QUERY}")
    assert answer.status_code == 200, answer.text
    return answer


# How it is prepared, how it is done, and whether what a dead gateway did not hear is read again.
OPERATIONS: dict[str, tuple[Act, Act, bool]] = {
    "chat": (_nothing, _chat(stream=False), False),
    "chat streamed": (_nothing, _chat(stream=True), False),
    "embeddings": (_nothing, _embeddings, False),
    "response": (_nothing, _response(), False),
    "response streamed": (_nothing, _response(stream=True), False),
    "response in background": (_nothing, _response(background=True), False),
    "container": (_nothing, _made("/openai/v1/containers", {"name": "c"}), False),
    "run streamed": (_with_thread(), _run(stream=True), True),
    "run polled": (_with_thread(), _run(), True),
    "create and run": (_with_thread(), _run_at_once(stream=True), False),
    "project run": (
        _with_thread(PROJECT, "?api-version=v1"),
        _run(PROJECT, "?api-version=v1", stream=True),
        True,
    ),
    "submit outputs": (_waiting_for_outputs, _submit, True),
    "file": (_nothing, _file, True),
    "assistant": (_nothing, _made(f"/openai/assistants{QUERY}", {"model": "gpt-4o"}), True),
    "thread": (_nothing, _made(f"/openai/threads{QUERY}", {}), True),
    "conversation": (_nothing, _made("/openai/v1/conversations", {}), True),
    "deletion": (_with_thread(), _deletion, True),
}


@pytest.fixture(scope="module")
async def zygote() -> AsyncIterator[asyncio.subprocess.Process]:
    """Yield the process that serves whatever folder it is told."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.street.dying"),
        cwd=ROOT,
        env={"PATH": os.defpath, "PYTHONPATH": ROOT, "AZURE_KEY": AZURE_KEY},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def _trying(folder: Path, zygote: asyncio.subprocess.Process) -> AsyncIterator[Trial]:
    write_policies(
        folder / "policies",
        {"code_interpreter.toml": '=[[cap]]\nrule = "day"\nsubject = "team"\nsessions = 1000\n'
         'period = "day"\n'},
    )  # fmt: skip
    config = SimulatorConfig(run_s=0.05)
    async with httpx.AsyncClient(timeout=30) as client:
        with LiveSimulator(config) as simulator:
            write_settings(folder, simulator.url)
            issuing = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway.cli", "keys", "issue", "--team", "blue"),
                *("--config", "gateway.toml"),
                cwd=folder,
                env={"PATH": os.defpath, "PYTHONPATH": ROOT, "AZURE_KEY": AZURE_KEY},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            said = (await issuing.communicate())[0].decode()
            key = next(word for word in said.split() if word.startswith("gw-"))
            client.headers["api-key"] = key
            trial = Trial(folder, simulator, zygote, key, client)
            try:
                yield trial
            finally:
                if trial.pid:
                    await trial.stop()


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_dying_at_every_write_loses_nothing_and_books_nothing_twice(
    tmp_path: Path, zygote: asyncio.subprocess.Process, operation: str
) -> None:
    prepare, act, is_read_again = OPERATIONS[operation]
    async with _trying(tmp_path, zygote) as trial:
        await trial.start()
        for when in _moments():
            await _until_dead(trial, prepare, act, when)
            await _judge(trial, may_guess=not is_read_again)
            kind, number = when.split()
            if kind == "after" and trial.deaths[-1] == "outlived":
                break
        assert int(number) < WRITES_MAX
        assert [death for death in trial.deaths if death != "outlived"], trial.log


def _moments() -> list[str]:
    each = [f"{kind} {number}" for number in range(1, WRITES_MAX) for kind in ("before", "after")]
    return ["wire 1", *each]


async def _until_dead(trial: Trial, prepare: Act, act: Act, when: str) -> None:
    """Play the operation armed; then see a gateway that is not armed settle what was left."""
    await prepare(trial)
    if act is not _submit:
        await eventually(trial.is_settled)
    trial.arm(when)
    with suppress(httpx.TransportError):
        await act(trial)
    await eventually(trial.is_over)
    async with httpx.AsyncClient() as azure:
        # A run whose outputs never arrived waits for them until it expires.
        await azure.post(f"{trial.simulator.url}/simulator/clock", json={"advance_s": 601})
    if await trial.is_dead():
        trial.deaths.append(when)
        trial.disarm()
        await trial.start()
        await eventually(trial.is_settled)
    else:
        trial.deaths.append("outlived")
        trial.disarm()


async def _judge(trial: Trial, *, may_guess: bool) -> None:
    async with httpx.AsyncClient() as azure:
        invoice = (await azure.get(f"{trial.simulator.url}/simulator/invoice")).json()
    with open_reader(trial.database) as reader:
        lines = list(reader.ledger())
    connection = sqlite3.connect(f"file:{trial.database}?mode=ro", uri=True)
    held = connection.execute("SELECT * FROM balances WHERE reserved <> 0").fetchall()
    connection.close()
    assert held == [], trial.deaths
    facts = [(row.posting.charge.fact, row.posting.revision) for row in lines]
    assert len(facts) == len(set(facts))
    exact = [row for row in lines if row.posting.charge.confidence is not Confidence.ESTIMATED]
    guessed = [row for row in lines if row.posting.charge.confidence is Confidence.ESTIMATED]
    if not may_guess or trial.deaths == ["before 1"]:
        assert estimates(lines) == {}, trial.deaths
    _sessions_are_booked(exact, guessed, invoice, trial)
    for model, tokens in invoiced_tokens(invoice).items():
        known = tokens_by_model(exact).get(model, Counter())
        assert known <= tokens, trial.deaths
        assert known == tokens or guessed, trial.deaths
    assert total(lines) >= invoice["total_nano_usd"], trial.deaths
    # No more is guessed than gateways died between the promise and the outcome.
    guesses = {row.posting.charge.origin.request for row in guessed}
    died = [death for death in trial.deaths if death not in ("outlived", "before 1")]
    assert len(guesses) <= len(died), trial.deaths
    _nothing_is_without_an_owner(trial, guesses=len(guesses))


def _sessions_are_booked(
    exact: list[LedgerRow], guessed: list[LedgerRow], invoice: dict[str, Any], trial: Trial
) -> None:
    booked, billed = sessions_by_scope(exact), invoiced_sessions(invoice)
    assert booked <= billed, trial.deaths
    lost = sum(billed.values()) - sum(booked.values())
    meter = Meter.CODE_INTERPRETER_SESSION
    estimated = sum(
        row.posting.charge.quantity for row in guessed if row.posting.charge.meter is meter
    )
    assert lost <= estimated, trial.deaths


def _nothing_is_without_an_owner(trial: Trial, *, guesses: int) -> None:
    """Whatever exists at Azure belongs to the team here, or it is said that it does not."""
    sim = trial.simulator.simulator
    there = {*sim.files, *sim.assistants, *sim.threads, *sim.conversations}
    connection = sqlite3.connect(f"file:{trial.database}?mode=ro", uri=True)
    here = {name for (name,) in connection.execute("SELECT id FROM objects")}
    connection.close()
    assert len(there - here) <= trial.log.count("was never answered") + guesses
