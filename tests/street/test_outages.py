"""The ledger full, locked, read-only, its disk or its thread gone; the clock set: nothing is sent.

Whatever is asked meanwhile is refused in Azure's shape as one that may be asked again, what was on
its way is booked when the ledger is back, and readiness tells the truth all the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.simulator import LiveSimulator, SimulatorConfig
from gateway.stores import open_reader, writer
from gateway.stores.worker import Answer, Ticket
from tests.street.evidence import estimates, invoiced_tokens, tokens_by_model
from tests.street.living import AUTO, SESSION_NANO_USD, VERSION, Street, eventually
from tests.street.served import serving

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

QUERY = f"api-version={VERSION}"
CHAT_PATH = f"/openai/deployments/gpt-4o/chat/completions?{QUERY}"
CHAT = {"messages": [{"role": "user", "content": "[[sim tokens=50/10/7]]"}]}
RESPONSE = {"model": "gpt-4o", "input": "[[sim calls=1]]", "tools": [AUTO]}

Outage = Callable[[Street], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Failing:
    """A connection that fails as SQLite does: at `statement`, perhaps after having done it."""

    connection: sqlite3.Connection
    statement: str
    says: str
    is_done: bool = False

    def execute(self, statement: str, *values: Any) -> Any:
        if statement != self.statement or self.is_done:
            done = self.connection.execute(statement, *values)
        if statement == self.statement:
            raise sqlite3.OperationalError(self.says)
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)


def _failing(statement: str, says: str, *, is_done: bool = False) -> Outage:
    @asynccontextmanager
    async def outage(_: Street) -> AsyncIterator[None]:
        commit = writer.commit

        def failing(connection: sqlite3.Connection, batch: Sequence[Ticket]) -> Sequence[Answer]:
            told: Any = Failing(connection, statement, says, is_done)
            return commit(told, batch)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(writer, "commit", failing)
            yield

    return outage


@asynccontextmanager
async def _locked(street: Street) -> AsyncIterator[None]:
    """Hold the ledger's write lock, as a stuck backup would."""
    with contextlib.closing(sqlite3.connect(street.database, isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        yield
        stranger.execute("ROLLBACK")


OUTAGES: dict[str, Outage] = {
    "locked by somebody else": _locked,
    # What SQLite answers when the file was made read-only, or its file system was.
    "read-only": _failing("BEGIN IMMEDIATE", "attempt to write a readonly database"),
    "fsync fails": _failing("COMMIT", "disk I/O error"),
    "committed, and not acknowledged": _failing("COMMIT", "disk I/O error", is_done=True),
}


async def _ask_for_everything(street: Street, thread: str, assistant: str) -> list[httpx.Response]:
    run = {"assistant_id": assistant}
    return list(
        await asyncio.gather(
            street.blue.post(CHAT_PATH, json=CHAT),
            street.blue.post(CHAT_PATH, json=CHAT | {"stream": True}),
            street.v1("POST", "/responses", RESPONSE),
            street.v1("POST", "/containers", {"name": "x"}),
            street.v1("POST", "/embeddings", {"model": "text-embedding-3-small", "input": "a"}),
            street.dated("POST", f"/threads/{thread}/runs", run),
            street.dated("POST", "/threads", {}),
            street.upload(),
        )
    )


async def _has_come(street: Street, part: str, *, after: int = 0) -> bool:
    return any(part in row["target"] for row in await street.journal(after))


async def _is_ready(street: Street) -> bool:
    answer = await street.azure.get(f"{street.admin_url}/health/ready")
    assert answer.status_code in (204, 503)
    return answer.status_code == 204


@pytest.mark.parametrize("name", OUTAGES)
async def test_while_the_ledger_cannot_be_written_nothing_is_sent_and_later_all_is_settled(
    street: Street, name: str
) -> None:
    assistant, thread = await street.assistant(), await street.thread("[[sim calls=1]]")
    path = await street.start(thread, assistant)
    await street.settled()
    stalled = {"match": {"path": "*/chat/completions"}, "fault": {"kind": "stall"}}
    assert (await street.azure.post("/simulator/faults", json=stalled)).status_code == 200
    assert await _is_ready(street)
    async with asyncio.TaskGroup() as group:
        under_way = group.create_task(street.blue.post(CHAT_PATH, json=CHAT))
        await eventually(partial(_has_come, street, "chat/completions"))
        mark = await street.mark()
        async with OUTAGES[name](street):
            answers = await _ask_for_everything(street, thread, assistant)
            assert [answer.status_code for answer in answers] == [503] * len(answers)
            codes = {answer.json()["error"]["code"] for answer in answers}
            assert codes == {"gateway_unavailable"}
            assert not [a for a in answers if a.headers.get("x-should-retry") == "false"]
            sent = [row for row in await street.journal(mark) if row["method"] != "GET"]
            assert sent == []
            assert (await street.dated("GET", path)).status_code == 200
            assert not await _is_ready(street)
            await street.azure.post("/simulator/release")
        assert (await under_way).status_code == 200
    await street.gateway.house.bookkeeper.clear_shelf()

    assert await _is_ready(street)
    answers = await _ask_for_everything(street, thread, assistant)
    assert {answer.status_code for answer in answers} <= {200, 201}
    await street.agree()
    assert street.gateway.house.bookkeeper.shelved == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_when_the_writers_thread_dies_nobody_waits_for_ever_and_nothing_is_sent(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    assistant, thread = await street.assistant(), await street.thread()
    await street.settled()
    mark = await street.mark()

    def dies(_: Any, __: Sequence[Ticket]) -> Sequence[Answer]:
        raise MemoryError

    monkeypatch.setattr(writer, "commit", dies)
    for _ in range(2):
        answers = await _ask_for_everything(street, thread, assistant)
        assert [answer.status_code for answer in answers] == [503] * len(answers)
    assert [row for row in await street.journal(mark) if row["method"] != "GET"] == []
    assert not await _is_ready(street)


@pytest.mark.parametrize("by_s", [-3600, 86_400])
async def test_a_clock_that_is_set_in_the_middle_of_it_all_leaves_nothing_behind(
    street: Street, by_s: int
) -> None:
    assistant = await street.assistant()
    threads = [await street.thread("[[sim calls=1]]") for _ in range(6)]
    body = {**RESPONSE, "background": True}
    answers = []
    for at, thread in enumerate(threads):
        if at == 3:
            street.clock.at += by_s * 1_000_000
        answers += [
            await street.v1("POST", "/responses", body),
            *(await _ask_for_everything(street, thread, assistant)),
        ]
    stalled = {"match": {"path": "*/chat/completions"}, "fault": {"kind": "stall"}}
    assert (await street.azure.post("/simulator/faults", json=stalled)).status_code == 200
    mark = await street.mark()
    async with asyncio.TaskGroup() as group:
        under_way = group.create_task(street.blue.post(CHAT_PATH, json=CHAT))
        await eventually(partial(_has_come, street, "chat/completions", after=mark))
        street.clock.at -= by_s * 1_000_000
        await street.azure.post("/simulator/release")

    assert {answer.status_code for answer in [*answers, await under_way]} <= {200, 201}
    invoice = await street.agree()
    assert invoice["session_count"] == 6 * 4
    with open_reader(street.database) as reader:
        assert reader.unsettled()[0] == 0
    connection = sqlite3.connect(f"file:{street.database}?mode=ro", uri=True)
    held = connection.execute("SELECT * FROM balances WHERE reserved <> 0").fetchall()
    connection.close()
    assert held == []


async def test_a_full_disk_refuses_what_is_new_and_loses_nothing_of_what_was_on_its_way(
    tmp_path: Path,
) -> None:
    with LiveSimulator(SimulatorConfig(run_s=0.1)) as simulator:
        async with (
            serving(tmp_path, simulator.url) as served,
            served.client() as client,
            httpx.AsyncClient(base_url=simulator.url) as azure,
        ):
            assert (await client.post(CHAT_PATH, json=CHAT)).status_code == 200
            fault = {"match": {}, "fault": {"kind": "stall"}}
            assert (await azure.post("/simulator/faults", json=fault)).status_code == 200
            async with asyncio.TaskGroup() as group:
                under_way = group.create_task(client.post(CHAT_PATH, json=CHAT))

                async def is_there() -> bool:
                    return len((await azure.get("/simulator/journal")).json()) == 2

                await eventually(is_there)
                pid = served.process.pid
                before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, before[1]))
                for path, body in (
                    (CHAT_PATH, CHAT),
                    ("/openai/v1/responses", RESPONSE),
                    ("/openai/v1/containers", {"name": "x"}),
                    (f"/openai/threads?{QUERY}", {}),
                ):
                    answer = await client.post(path, json=body)
                    assert answer.status_code == 503, answer.text
                    assert answer.json()["error"]["code"] == "gateway_unavailable"
                form = {"file": ("t.csv", b"a,b\n" * 500_000, "text/csv")}
                upload = await client.post(
                    f"/openai/files?{QUERY}", data={"purpose": "assistants"}, files=form
                )
                assert upload.status_code == 503
                assert len((await azure.get("/simulator/journal")).json()) == 2
                await azure.post("/simulator/release")
                assert (await under_way).status_code == 200
                resource.prlimit(pid, resource.RLIMIT_FSIZE, before)

            async def is_settled() -> bool:
                with open_reader(tmp_path / "ledger.db") as reader:
                    return reader.unsettled()[0] == 0

            await eventually(is_settled)
            assert (await client.post(CHAT_PATH, json=CHAT)).status_code == 200
            invoice = (await azure.get("/simulator/invoice")).json()
            with open_reader(tmp_path / "ledger.db") as reader:
                lines = list(reader.ledger())
            assert estimates(lines) == {}
            assert tokens_by_model(lines) == invoiced_tokens(invoice)
            assert SESSION_NANO_USD not in {row.posting.charge.nano_usd for row in lines}
