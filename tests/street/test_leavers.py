"""Callers who leave: nobody is charged a token too few for it, and nothing is read in vain.

What Azure says after its listener has left is read as far as it tells what was billed, up to a
limit. Where it tells nothing, as with the content of a file, Azure is hung up on at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.core.model import Confidence
from gateway.simulator import SimulatorConfig
from tests.hostile_server import serve
from tests.street.conftest import Opener
from tests.street.fountain import ASSISTANT, FILE, Fountain
from tests.street.living import DEADLINE_S, START_S, VERSION, Street, eventually
from tests.street.wire import CHAT_PATH, chat, on, work

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

MIB = 1024 * 1024
# What may be under way in the kernel and in the gateway when a limit is reached.
UNDER_WAY_BYTES_MAX = 16 * MIB
LEFT_BYTES_MAX = 24 * MIB
CONTENT_PATH = f"/openai/files/{FILE['id']}/content?api-version={VERSION}"
ASSISTANT_PATH = f"/openai/assistants/{ASSISTANT['id']}?api-version={VERSION}"


# Heard out to the last token

MOMENTS = {
    "within-an-event": {"chat": b'"content":"', "run": b'"value":"', "response": b'"delta":"'},
    "after-the-usage": {
        "chat": b'"usage":{',
        "run": b"event: thread.run.completed\n",
        "response": b"event: response.completed\n",
    },
}


@pytest.mark.parametrize("kind", ["chat", "run", "response"])
@pytest.mark.parametrize("moment", MOMENTS)
async def test_whoever_leaves_at_whatever_moment_is_metered_to_the_token(
    street: Street, kind: str, moment: str
) -> None:
    path, body = await work(street, kind, 300)
    async with on(street, path, body) as caller:
        await caller.until(MOMENTS[moment][kind])
        caller.leave()
        invoice = await street.agree()

    assert invoice["tokens"][0]["output_tokens"] == 300
    assert invoice["session_count"] == (kind != "chat")


@pytest.mark.parametrize("kind", ["chat", "run", "response"])
async def test_whoever_leaves_before_the_first_byte_is_metered_to_the_token(
    street: Street, kind: str
) -> None:
    path, body = await work(street, kind, 20)
    fault = {"kind": "stall", "before_head": True}
    match = {"method": "POST", "path": path.partition("?")[0]}
    laid = await street.azure.post("/simulator/faults", json={"match": match, "fault": fault})
    assert laid.status_code == 200, laid.text
    async with on(street, path, body) as caller:
        await eventually(street.has_charged_tokens)
        caller.leave()
        await eventually(partial(_is_alone, street))
        await street.azure.post("/simulator/release")
        invoice = await street.agree()

    assert invoice["tokens"][0]["output_tokens"] == 20
    assert invoice["session_count"] == (kind != "chat")


async def _is_alone(street: Street) -> bool:
    """Return whether no connection to the data plane is open but the idle ones of our clients."""
    listed = await asyncio.to_thread(Path("/proc/net/tcp").read_text, encoding="ascii")
    port, established = f":{street.gateway.data_port:04X}", "01"
    rows = [row.split() for row in listed.splitlines()[1:]]
    open_ones = [row for row in rows if row[1].endswith(port) and row[3] == established]
    return len(open_ones) <= len(street.clients)


async def test_whoever_leaves_a_plain_chat_is_metered_to_the_token(street: Street) -> None:
    fault = {"kind": "stall", "before_head": False}
    laid = await street.azure.post("/simulator/faults", json={"match": {}, "fault": fault})
    assert laid.status_code == 200, laid.text
    async with on(street, CHAT_PATH, chat(20, stream=False)) as caller:
        await caller.until(b"\r\n\r\n")
        caller.leave()
        await eventually(partial(_is_alone, street))
        await street.azure.post("/simulator/release")
        invoice = await street.agree()

    assert invoice["tokens"][0]["output_tokens"] == 20


# Heard out up to a limit


@asynccontextmanager
async def _before(fountain: Fountain, open_street: Opener, **limits: Any) -> AsyncIterator[Street]:
    """Open a street before a fountain whose file and assistant are team blue's."""
    async with serve(fountain.play) as azure, open_street(endpoint=azure.url) as street:
        assert (await street.upload()).status_code == 200
        await street.assistant()
        street.gateway.house.limits = replace(street.gateway.house.limits, **limits)
        yield street


async def _hung_up(fountain: Fountain) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await fountain.hung_up.wait()


async def test_after_a_leaver_no_more_of_an_endless_stream_is_read_than_the_limit(
    open_street: Opener,
) -> None:
    fountain = Fountain()
    async with _before(fountain, open_street, leaver_bytes_max=LEFT_BYTES_MAX) as street:
        async with on(street, CHAT_PATH, chat(1)) as caller:
            await caller.until(b"more")
            await fountain.comes_to_rest()
            given = fountain.given_bytes
            caller.leave()
            await _hung_up(fountain)
        await street.settled()
        lines = await street.ledger()

        assert (
            -UNDER_WAY_BYTES_MAX
            < fountain.given_bytes - given - LEFT_BYTES_MAX
            < UNDER_WAY_BYTES_MAX
        )
        assert {row.posting.charge.confidence for row in lines} == {Confidence.ESTIMATED}
        assert await street.reserved() == {}


@pytest.mark.parametrize("silent", ["before-head", "after-head"])
async def test_after_a_leaver_a_silent_stream_is_waited_for_no_longer_than_the_limit(
    open_street: Opener, silent: str
) -> None:
    fountain = Fountain(silent=silent)
    async with _before(fountain, open_street, leaver_s=0.2) as street:
        async with on(street, CHAT_PATH, chat(1)) as caller:
            await asyncio.wait_for(fountain.asked.wait(), DEADLINE_S)
            caller.leave()
            await _hung_up(fountain)
        await street.settled()
        lines = await street.ledger()

        assert {row.posting.charge.confidence for row in lines} == {Confidence.ESTIMATED}
        assert await street.reserved() == {}
        assert 'status="4xx"' in await street.metrics()


@pytest.mark.parametrize("before_head", [True, False], ids=["before-head", "after-head"])
async def test_a_run_of_which_nothing_was_heard_is_found_and_charged_to_the_token(
    street: Street, before_head: bool
) -> None:
    house = street.gateway.house
    house.limits = replace(house.limits, leaver_s=0.05)
    path, body = await work(street, "run", 20)
    fault = {"kind": "stall", "before_head": before_head}
    match = {"method": "POST", "path": path.partition("?")[0]}
    laid = await street.azure.post("/simulator/faults", json={"match": match, "fault": fault})
    assert laid.status_code == 200, laid.text
    async with on(street, path, body) as caller:
        await eventually(street.has_charged_tokens)
        caller.leave()
        await eventually(partial(_is_over, street))
    assert (await house.store.unsettled())[0] == 1
    await street.agree()


@pytest.mark.parametrize("kind", ["run", "response"])
async def test_what_a_leaver_was_not_heard_out_on_is_read_back_and_charged_to_the_token(
    open_street: Opener, kind: str
) -> None:
    slow = SimulatorConfig(wall_clock=False, run_s=10, start_s=START_S, chunk_delay_s=0.02)
    async with open_street(config=slow) as street:
        house = street.gateway.house
        house.limits = replace(house.limits, leaver_s=0.0)
        path, body = await work(street, kind, 200)
        async with on(street, path, body) as caller:
            await caller.until(MOMENTS["within-an-event"][kind])
            caller.leave()
            await eventually(partial(_is_over, street))
        assert (await house.store.unsettled())[0] == 1
        invoice = await street.agree()

    assert invoice["tokens"][0]["output_tokens"] == 200


async def _is_over(street: Street) -> bool:
    return "aoaigw_requests_in_flight 0.0" in await street.metrics()


# Hung up on at once


@pytest.mark.parametrize("silent", [None, "before-head", "after-head"])
async def test_a_file_whose_reader_leaves_is_not_read_any_further(
    open_street: Opener, silent: str | None
) -> None:
    fountain = Fountain(silent=silent)
    async with _before(fountain, open_street) as street, on(street, CONTENT_PATH) as caller:
        await asyncio.wait_for(fountain.asked.wait(), DEADLINE_S)
        if silent is None:
            await caller.until(b"\r\n\r\n")
            await caller.read(MIB)
        caller.leave()
        await _hung_up(fountain)

    assert fountain.given_bytes < MIB + UNDER_WAY_BYTES_MAX


@pytest.mark.parametrize("silent", ["before-head", "after-head"])
async def test_a_question_in_whose_answer_nothing_is_billed_ends_with_who_asked_it(
    open_street: Opener, silent: str
) -> None:
    fountain = Fountain(silent=silent)
    async with _before(fountain, open_street) as street, on(street, ASSISTANT_PATH) as caller:
        await asyncio.wait_for(fountain.asked.wait(), DEADLINE_S)
        caller.leave()
        await _hung_up(fountain)


async def test_a_caller_who_stays_is_waited_for_however_short_the_limits(
    open_street: Opener,
) -> None:
    fountain = Fountain()
    limits = {"leaver_s": 0.0, "leaver_bytes_max": 0}
    async with _before(fountain, open_street, **limits) as street:
        async with on(street, CHAT_PATH, chat(1)) as caller:
            await caller.until(b"\r\n\r\n")
            await caller.read(4 * MIB)
        async with on(street, CONTENT_PATH) as caller:
            await caller.until(b"\r\n\r\n")
            await caller.read(4 * MIB)
