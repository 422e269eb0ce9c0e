"""An object whose creation was never answered exists at Azure without an owner: that is said."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.core.model import ObjectId, ObjectKind
from tests.hostile_server import Caller, serve
from tests.street.evidence import intents_on_disk
from tests.street.living import VERSION, Street, living

pytestmark = pytest.mark.anyio

BROKEN = [
    {"kind": "close"},
    {"kind": "reset", "after_bytes": 12},
    {"kind": "cut"},
    {"kind": "framing", "framing": "chunk_garbage"},
    {"kind": "gzip"},
    {"kind": "status", "status": 500, "work": True},
]


async def _ask_for(street: Street, operation: str) -> None:
    match operation:
        case "files.create":
            await street.upload()
        case "assistants.create":
            await street.dated("POST", "/assistants", {"model": "gpt-4o"})
        case "threads.create":
            await street.dated("POST", "/threads", {})
        case "conversations.create":
            await street.v1("POST", "/conversations", {})


@pytest.mark.parametrize("fault", BROKEN, ids=lambda fault: fault["kind"])
@pytest.mark.parametrize(
    "operation", ["files.create", "assistants.create", "threads.create", "conversations.create"]
)
async def test_a_creation_that_was_not_answered_is_not_settled_as_if_all_were_well(
    street: Street, caplog: pytest.LogCaptureFixture, operation: str, fault: dict[str, Any]
) -> None:
    laid = await street.azure.post("/simulator/faults", json={"match": {}, "fault": fault})
    assert laid.status_code == 200, laid.text
    with caplog.at_level(logging.WARNING, logger="gateway.settlement"):
        with suppress(httpx.TransportError):
            await _ask_for(street, operation)
        await street.settled()

    assert intents_on_disk(street.database) == [(operation, "void")]
    lost = f'aoaigw_creations_lost_total{{operation="{operation}",team="blue"}} 1.0'
    assert lost in await street.metrics()
    said = [row.getMessage() for row in caplog.records if row.name == "gateway.settlement"]
    assert len(said) == 1
    assert said[0].startswith(f"`{operation}` of team `blue` was never answered")
    assert await street.ledger() == []


async def test_a_creation_that_azure_refused_or_answered_is_counted_nowhere(street: Street) -> None:
    await street.assistant()
    fault = {"match": {}, "fault": {"kind": "status", "status": 429}}
    assert (await street.azure.post("/simulator/faults", json=fault)).status_code == 200
    assert (await street.dated("POST", "/assistants", {"model": "gpt-4o"})).status_code == 429
    await street.settled()

    assert [state for _, state in intents_on_disk(street.database)] == ["settled", "settled"]
    assert "aoaigw_creations_lost_total{" not in await street.metrics()


async def test_a_run_whose_assistant_could_not_be_read_was_not_sent_and_may_be_sent_again(
    street: Street,
) -> None:
    assistant, thread = await street.assistant(), await street.thread("[[sim calls=1]]")
    ambush = {"match": {"path": "/openai/assistants/*"}, "fault": {"kind": "close"}}
    assert (await street.azure.post("/simulator/faults", json=ambush)).status_code == 200
    mark = await street.mark()
    body = {"assistant_id": assistant}
    answer = await street.dated("POST", f"/threads/{thread}/runs", body)

    assert answer.status_code == 502
    assert answer.headers["x-should-retry"] == "true"
    assert "nothing was sent" in answer.json()["error"]["message"]
    assert [row["method"] for row in await street.journal(mark)] == ["GET"]
    assert (await street.dated("POST", f"/threads/{thread}/runs", body)).status_code == 200
    assert (await street.agree())["session_count"] == 1


async def test_a_document_that_came_whole_is_believed_although_its_connection_broke_after_it(
    tmp_path: Path,
) -> None:
    """The first half is passed on when the second has come: whoever reads it may break it then."""
    whole = asyncio.Event()
    halves = b'{"id": "asst_1", "object": "assistant", ', b'"tools": [], "model": "gpt-4o"}'

    async def play(caller: Caller) -> None:
        await caller.request()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n"
        await caller.send(head + halves[0])
        await first.wait()
        await caller.send(halves[1])
        await whole.wait()
        caller.close()

    first = asyncio.Event()
    async with serve(play) as server, living(tmp_path, endpoint=server.url) as street:
        path = f"/openai/assistants?api-version={VERSION}"
        async with street.blue.stream("POST", path, json={"model": "gpt-4o"}) as answer:
            first.set()
            pieces = answer.aiter_raw()
            assert await anext(pieces) == halves[0]
            whole.set()
            with pytest.raises(httpx.RemoteProtocolError):
                await anext(pieces)
        await street.settled()

        assert intents_on_disk(street.database) == [("assistants.create", "settled")]
        made = ObjectId("azure", ObjectKind.ASSISTANT, "asst_1")
        assert await street.gateway.house.store.owners([made]) == {made: "blue"}


async def test_a_stream_that_broke_after_its_thread_leads_to_the_run(street: Street) -> None:
    body = {
        "assistant_id": await street.assistant(),
        "thread": {"messages": [{"role": "user", "content": "[[sim calls=1]]"}]},
        "stream": True,
    }
    fault = {"match": {"path": "*/threads/runs"}, "fault": {"kind": "cut", "after_events": 1}}
    assert (await street.azure.post("/simulator/faults", json=fault)).status_code == 200
    with pytest.raises(httpx.RemoteProtocolError, match="peer closed connection"):
        await street.dated("POST", "/threads/runs", body)

    assert (await street.agree())["session_count"] == 1


@pytest.mark.parametrize("by_s", [-86_400, -3600, 3600, 86_400])
async def test_a_run_is_found_again_however_far_the_two_clocks_are_apart(
    street: Street, by_s: int
) -> None:
    assistant, thread = await street.assistant(), await street.thread("[[sim calls=1]]")
    street.clock.at += by_s * 1_000_000
    fault = {"match": {"path": "*/runs"}, "fault": {"kind": "close"}}
    assert (await street.azure.post("/simulator/faults", json=fault)).status_code == 200
    body = {"assistant_id": assistant}
    assert (await street.dated("POST", f"/threads/{thread}/runs", body)).status_code == 504

    assert (await street.agree())["session_count"] == 1


async def test_what_waits_is_looked_at_although_the_clock_was_set_back(street: Street) -> None:
    assistant, thread = await street.assistant(), await street.thread("[[sim calls=1]]")
    await street.start(thread, assistant)
    street.clock.at -= 3600 * 1_000_000

    assert (await street.agree())["session_count"] == 1
