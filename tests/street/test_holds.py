"""Nothing is sent that is not on disk, and what became of a request nobody answered."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.hostile_server import Caller, serve
from tests.street.evidence import estimates, intents_on_disk, tokens_by_model, total
from tests.street.living import AUTO, VERSION, Street, eventually, living

pytestmark = pytest.mark.anyio

CHAT = "/deployments/gpt-4o/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "hello"}]}

BILLED = [
    ("chat.completions", f"/openai{CHAT}?api-version={VERSION}", HELLO),
    ("embeddings", "/openai/v1/embeddings", {"model": "text-embedding-3-small", "input": "a"}),
    (
        "responses.create",
        "/openai/v1/responses",
        {"model": "gpt-4o", "input": "a", "tools": [AUTO]},
    ),
    ("containers.create", "/openai/v1/containers", {"name": "a"}),
    ("threads.create", f"/openai/threads?api-version={VERSION}", {}),
    ("assistants.create", f"/openai/assistants?api-version={VERSION}", {"model": "gpt-4o"}),
]


@pytest.mark.parametrize(("operation", "target", "body"), BILLED)
async def test_when_azure_hears_of_it_the_promise_is_on_disk(
    tmp_path: Path, operation: str, target: str, body: dict[str, Any]
) -> None:
    seen: list[list[tuple[str, str]]] = []

    async def play(caller: Caller) -> None:
        await caller.head()
        seen.append(intents_on_disk(tmp_path / "ledger.db"))
        await caller.send(b"HTTP/1.1 429 Slow\r\ncontent-length: 2\r\n\r\n{}")

    async with serve(play) as server, living(tmp_path, endpoint=server.url) as street:
        answer = await street.blue.post(target, json=body)

        assert answer.status_code == 429
        assert seen == [[(operation, "open")]]
        await street.settled()
        assert await street.reserved() == {}


async def test_an_uploads_promise_is_on_disk_before_its_first_byte_leaves(tmp_path: Path) -> None:
    seen: list[list[tuple[str, str]]] = []

    async def play(caller: Caller) -> None:
        await caller.head()
        seen.append(intents_on_disk(tmp_path / "ledger.db"))
        await caller.send(b"HTTP/1.1 400 No\r\ncontent-length: 2\r\n\r\n{}")

    async with serve(play) as server, living(tmp_path, endpoint=server.url) as street:
        await street.upload()

        assert seen == [[("files.create", "open")]]


async def test_with_the_ledger_away_nothing_is_sent_and_the_caller_may_come_back(
    street: Street,
) -> None:
    house = street.gateway.house
    await street.settled()
    with _unwritable(street.database):
        mark = await street.mark()
        answers = await asyncio.gather(
            street.dated("POST", CHAT, HELLO),
            street.upload(),
            street.v1("POST", "/containers", {"name": "x"}),
            street.dated("POST", "/threads", {}),
        )

        assert [answer.status_code for answer in answers] == [503] * 4
        codes = {answer.json()["error"]["code"] for answer in answers}
        assert codes == {"gateway_unavailable"}
        assert not [answer for answer in answers if answer.headers.get("x-should-retry") == "false"]
        assert await street.journal(mark) == []
    assert house.bookkeeper.shelved == 0
    assert (await street.dated("POST", CHAT, HELLO)).status_code == 200
    await street.agree()


@contextlib.contextmanager
def _unwritable(database: Path) -> Any:
    """Hold the ledger's write lock, as a stuck backup would."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


async def test_a_closed_ledger_is_503_for_what_reads_it_too(street: Street) -> None:
    thread = await street.thread()
    await street.settled()
    mark = await street.mark()
    await street.gateway.house.store.close()
    answers = [
        await street.dated("GET", "/files"),
        await street.dated("POST", CHAT, HELLO),
        await street.dated("DELETE", f"/threads/{thread}"),
        await street.blue.get("/gateway/v1/me"),
    ]

    assert [answer.status_code for answer in answers] == [503] * 4
    assert (await street.azure.get(f"{street.admin_url}/health/ready")).status_code == 503
    assert await street.journal(mark) == []


def _nobody_listens() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


async def test_an_azure_that_cannot_be_reached_costs_nothing(tmp_path: Path) -> None:
    async with living(tmp_path, endpoint=_nobody_listens()) as street:
        for _, target, body in BILLED:
            answer = await street.blue.post(target, json=body)
            assert answer.status_code == 502
            assert answer.json()["error"]["code"] == "upstream_unreachable"
            assert answer.headers["x-should-retry"] == "true"
        upload = await street.upload()
        assert upload.status_code == 502
        await street.settled()

        states = {state for _, state in intents_on_disk(street.database)}
        assert states == {"void"}
        assert await street.ledger() == []
        assert await street.reserved() == {}


async def test_azures_own_sdk_is_told_of_an_unknown_fate_so_that_it_sends_no_second_post(
    street: Street,
) -> None:
    """azure-core repeats a POST after 500, 503 and 504, whatever `x-should-retry` says."""
    agent = await street.made("/assistants", {"model": "gpt-4o"}, surface="project")
    body = {"assistant_id": agent["id"], "thread": {"messages": []}}
    path = "/api/projects/books/threads/runs"
    ambush = {"match": {"path": path}, "fault": {"kind": "close", "work": True}}
    laid = await street.azure.post("/simulator/faults", json=ambush)
    assert laid.status_code == 200, laid.text
    answer = await street.project("POST", "/threads/runs", body)

    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_outcome_unknown"
    assert answer.headers["x-should-retry"] == "false"
    await street.settled()


async def test_a_request_whose_fate_is_unknown_is_sent_once_and_settled_as_an_estimate(
    tmp_path: Path,
) -> None:
    async def play(caller: Caller) -> None:
        await caller.request()
        caller.reset()

    async with serve(play) as server, living(tmp_path, endpoint=server.url) as street:
        answer = await street.dated("POST", CHAT, HELLO)

        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "upstream_outcome_unknown"
        assert answer.headers["x-should-retry"] == "false"
        assert "retry-after" not in answer.headers
        assert len(server.requests) == 1
        await street.settled()
        assert len(server.requests) == 1
        lines = await street.ledger()
        assert set(estimates(lines).values()) == {"outcome_unknown"}
        assert total(lines) > 0
        assert await street.reserved() == {}
        told = await street.blue.get(f"/gateway/v1/requests/{answer.headers['x-request-id']}")
        assert told.json()["state"] == "settled"
        assert {line["confidence"] for line in told.json()["lines"]} == {"estimated"}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_not_even_a_read_or_a_deletion_is_sent_twice(tmp_path: Path, method: str) -> None:
    heard: list[bytes] = []

    async def play(caller: Caller) -> None:
        request = await caller.request()
        if request.startswith(b"POST"):
            body = b'{"id": "asst_1", "object": "assistant", "tools": []}'
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
            await caller.send(head + b"content-length: %d\r\n\r\n" % len(body) + body)
            request = await caller.request()
        heard.append(request)
        caller.reset()

    async with serve(play) as server, living(tmp_path, endpoint=server.url) as street:
        made = await street.made("/assistants", {"model": "gpt-4o"})
        answer = await street.dated(method, f"/assistants/{made['id']}")

        assert answer.status_code == 502
        assert answer.headers.get("x-should-retry") != "true"
        assert len(heard) == 1


async def test_a_run_whose_creation_was_never_acknowledged_is_found_and_paid_for(
    tmp_path: Path,
) -> None:
    """A relay in front of the simulator swallows one answer after Azure has begun the work."""
    target: list[str] = []
    swallow = asyncio.Event()

    async def play(caller: Caller) -> None:
        while True:
            request = await caller.request()
            host, _, port = target[0].removeprefix("http://").partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            head, _, body = request.partition(b"\r\n\r\n")
            writer.write(head + b"\r\nconnection: close\r\n\r\n" + body)
            reply = await reader.read(-1)
            writer.close()
            if swallow.is_set() and b"/runs?" in head.split(b"\r\n")[0] and head[:4] == b"POST":
                swallow.clear()
                caller.reset()
                return
            await caller.send(reply)
            caller.close()
            return

    async with serve(play) as server, living(tmp_path, endpoint=server.url) as street:
        target.append(street.simulator_url)
        assistant, thread = await street.assistant(), await street.thread("[[sim calls=1]]")
        swallow.set()
        body = {"assistant_id": assistant}
        answer = await street.dated("POST", f"/threads/{thread}/runs", body)
        assert answer.status_code == 504

        assert (await street.agree())["session_count"] == 1


async def test_a_caller_is_not_held_hostage_by_a_ledger_that_is_away_at_the_end(
    tmp_path: Path,
) -> None:
    arrived, go = asyncio.Event(), asyncio.Event()

    async def play(caller: Caller) -> None:
        await caller.request()
        arrived.set()
        await go.wait()
        usage = b'{"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}'
        body = b'{"object": "chat.completion", "choices": [], "usage": ' + usage + b"}"
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
        await caller.send(head + b"content-length: %d\r\n\r\n" % len(body) + body)

    async with (
        serve(play) as server,
        living(tmp_path, endpoint=server.url, settle_timeout_s=0.2) as street,
        asyncio.TaskGroup() as group,
    ):
        asked = group.create_task(street.dated("POST", CHAT, HELLO))
        await arrived.wait()
        with _unwritable(street.database):
            go.set()
            answer = await asked
            assert answer.status_code == 200
            assert [state for _, state in intents_on_disk(street.database)] == ["open"]
            assert await street.ledger() == []

        await eventually(street.is_settled)
        assert tokens_by_model(await street.ledger()) == {
            "gpt-4o": {"input_tokens": 9, "output_tokens": 4}
        }
        assert await street.reserved() == {}
