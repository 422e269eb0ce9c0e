"""`kill -9` in the middle of traffic, again and again: nothing billed is lost or booked twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.core.ledger import ORGANISATION, team_account
from gateway.core.model import Confidence, Meter
from gateway.ports import LedgerRow
from gateway.simulator import LiveSimulator, SimulatorConfig
from gateway.stores.readonly import open_reader
from tests.street.evidence import (
    invoiced_sessions,
    invoiced_tokens,
    sessions_by_scope,
    tokens_by_model,
    total,
)
from tests.street.living import (
    AUTO,
    AZURE_KEY,
    TEAMS,
    VERSION,
    eventually,
    write_policies,
    write_settings,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

KILLS = 3
WORKERS = 6
GONE = (httpx.TransportError,)


@dataclass
class Traffic:
    """What the callers were told before their gateway died under them."""

    answered: int = 0
    broken: int = 0
    statuses: set[int] = field(default_factory=set)

    def reached(self, answers: int) -> Callable[[], Awaitable[bool]]:
        """Return a question: were there so many answers?"""

        async def question() -> bool:
            return self.answered >= answers

        return question


@contextlib.asynccontextmanager
async def _serving(folder: Path, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the real command; whatever happens, it does not outlive the test."""
    environ = {**_path(), "AZURE_KEY": AZURE_KEY}
    command = [sys.executable, "-m", "gateway.cli", "serve", "--config", "gateway.toml"]
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=environ, stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _path() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    return {"PATH": os.defpath, "PYTHONPATH": root}


async def _port(log: Path, start: int) -> int:
    """Wait until the process says where it serves callers."""
    found: list[int] = []

    async def said() -> bool:
        for line in _read(log)[start:].splitlines():
            _, mark, rest = line.partition("serving callers on ")
            if mark:
                found.append(int(rest.partition(",")[0].rpartition(":")[2]))
        return bool(found)

    await eventually(said, within_s=60)
    return found[0]


def _read(log: Path) -> str:
    return log.read_text(encoding="utf-8")


async def _issue(folder: Path) -> dict[str, str]:
    """Issue keys by the command line, as an operator would, before anything serves."""
    keys = {}
    for team in TEAMS:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "gateway.cli", "keys", "issue", "--team", team, "--config", "gateway.toml"),
            cwd=folder,
            env={**_path(), "AZURE_KEY": AZURE_KEY},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        keys[team] = next(word for word in out.decode().split() if word.startswith("gw-"))
    return keys


async def _worker(url: str, key: str, dice: random.Random, told: Traffic) -> None:
    """Ask for one thing after another until the gateway is gone."""
    async with httpx.AsyncClient(base_url=url, headers={"api-key": key}, timeout=30) as client:
        while True:
            try:
                answer = await dice.choice(JOBS)(client)
            except GONE:
                told.broken += 1
                return
            told.answered += 1
            told.statuses.add(answer.status_code)


async def _chat(client: httpx.AsyncClient, *, stream: bool) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": "[[sim tokens=50/10/7]]"}], "stream": stream}
    path = f"/openai/deployments/gpt-4o/chat/completions?api-version={VERSION}"
    return await client.post(path, json=body)


async def _plain_chat(client: httpx.AsyncClient) -> httpx.Response:
    return await _chat(client, stream=False)


async def _streamed_chat(client: httpx.AsyncClient) -> httpx.Response:
    return await _chat(client, stream=True)


async def _respond(client: httpx.AsyncClient) -> httpx.Response:
    body = {"model": "gpt-4.1", "input": "[[sim calls=1]]", "tools": [AUTO]}
    return await client.post("/openai/v1/responses", json=body)


async def _upload(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post(
        f"/openai/files?api-version={VERSION}",
        data={"purpose": "assistants"},
        files={"file": ("t.csv", b"a,b\n" * 200, "text/csv")},
    )


async def _run(client: httpx.AsyncClient, *, stream: bool) -> httpx.Response:
    query = f"?api-version={VERSION}"
    body: dict[str, Any] = {"model": "gpt-4o-mini", "tools": [{"type": "code_interpreter"}]}
    assistant = await client.post(f"/openai/assistants{query}", json=body)
    said = {"messages": [{"role": "user", "content": "[[sim calls=1 run_s=0.2]]"}]}
    thread = await client.post(f"/openai/threads{query}", json=said)
    body = {"assistant_id": assistant.json()["id"], "stream": stream}
    return await client.post(f"/openai/threads/{thread.json()['id']}/runs{query}", json=body)


async def _streamed_run(client: httpx.AsyncClient) -> httpx.Response:
    return await _run(client, stream=True)


async def _polled_run(client: httpx.AsyncClient) -> httpx.Response:
    return await _run(client, stream=False)


JOBS = (_plain_chat, _streamed_chat, _respond, _upload, _streamed_run, _polled_run)


async def _is_settled(database: Path) -> bool:
    with open_reader(database) as reader:
        return reader.unsettled()[0] == 0


async def test_a_gateway_that_is_killed_again_and_again_still_owes_and_owns_everything(
    tmp_path: Path,
) -> None:
    folder, log, told = tmp_path, tmp_path / "log", Traffic()
    write_policies(folder / "policies", {})
    log.touch()
    with LiveSimulator(SimulatorConfig(chunk_delay_s=0.002)) as simulator:
        write_settings(folder, simulator.url)
        keys = await _issue(folder)
        for kill in range(KILLS):
            await _kill_in_the_middle(folder, log, keys, told, seed=kill)
        start = len(_read(log))
        async with _serving(folder, log) as process:
            await _port(log, start)
            await eventually(partial(_is_settled, folder / "ledger.db"), within_s=90)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 30) == 0
        async with httpx.AsyncClient() as client:
            invoice = (await client.get(f"{simulator.url}/simulator/invoice")).json()

    assert told.answered > 0
    assert told.broken > 0
    assert told.statuses <= {200, 201}
    _everything_is_booked_once(folder, invoice)


async def _kill_in_the_middle(
    folder: Path, log: Path, keys: dict[str, str], told: Traffic, *, seed: int
) -> None:
    start = len(_read(log))
    async with _serving(folder, log) as process:
        url = f"http://127.0.0.1:{await _port(log, start)}"
        target = told.answered + 25
        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                dice = random.Random(seed * 100 + number)
                group.create_task(_worker(url, keys[TEAMS[number % 2]], dice, told))
            await eventually(told.reached(target))
            process.kill()


def _everything_is_booked_once(folder: Path, invoice: dict[str, Any]) -> None:
    with open_reader(folder / "ledger.db") as reader:
        lines = list(reader.ledger())
        now = max(row.recorded_at for row in lines)
        for account in (*(team_account(team) for team in TEAMS), ORGANISATION):
            for _, reserved in reader.balances(account, now).values():
                assert reserved == 0
    exact = [row for row in lines if row.posting.charge.confidence is not Confidence.ESTIMATED]
    guessed = [row for row in lines if row.posting.charge.confidence is Confidence.ESTIMATED]

    facts = [(row.posting.charge.fact, row.posting.revision) for row in lines]
    assert len(facts) == len(set(facts))
    booked, billed = sessions_by_scope(exact), invoiced_sessions(invoice)
    assert booked <= billed
    lost = sum(billed.values()) - sum(booked.values())
    estimated = sum(row.posting.charge.quantity for row in guessed if _is_session(row))
    assert lost <= estimated
    for model, tokens in invoiced_tokens(invoice).items():
        known, guess = _tokens(exact, model), _tokens(guessed, model)
        for meter, amount in tokens.items():
            assert known.get(meter, 0) <= amount
            if not guess:
                assert known.get(meter, 0) == amount
    assert total(lines) >= invoice["total_nano_usd"]
    if not guessed:
        assert total(lines) == invoice["total_nano_usd"]


def _is_session(row: LedgerRow) -> bool:
    return row.posting.charge.meter is Meter.CODE_INTERPRETER_SESSION


def _tokens(lines: list[LedgerRow], model: str) -> Counter[str]:
    return tokens_by_model(lines).get(model, Counter())
