"""The settlement on the street: at its stated pace, never at a container, and across restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.core.model import SECOND
from gateway.settlement import READS_PER_S
from gateway.simulator import LiveSimulator, SimulatorConfig
from tests.street.living import AUTO, INTERPRETER, START_S, Street, living

pytestmark = pytest.mark.anyio

SILENT = 12


async def silent_run(street: Street, surface: str = "dated", *, run_s: int = 10) -> str:
    """Start a run that calls the interpreter, and return its path; nobody looks at it again."""
    message = {"role": "user", "content": f"[[sim calls=1 run_s={run_s}]]"}
    thread = (await street.made("/threads", {"messages": [message]}, surface=surface))["id"]
    tools = {"model": "gpt-4o", "tools": [INTERPRETER]}
    assistant = (await street.made("/assistants", tools, surface=surface))["id"]
    body = {"assistant_id": assistant}
    run = await street.made(f"/threads/{thread}/runs", body, surface=surface)
    return f"/threads/{thread}/runs/{run['id']}"


async def silent_response(street: Street, **more: Any) -> str:
    """Have a response made in the background, at which nobody looks again."""
    body = {"model": "gpt-4o", "input": "[[sim calls=1]]", "tools": [AUTO], "background": True}
    return str((await street.made("/responses", body | more, surface="v1"))["id"])


async def asked_since(street: Street, mark: int) -> list[str]:
    """Return method and path of what Azure was asked after an entry of its journal."""
    rows = await street.journal(mark)
    return [f"{row['method']} {row['target'].split('?')[0]}" for row in rows]


async def test_azure_is_asked_no_faster_than_stated_however_much_there_is_to_settle(
    street: Street,
) -> None:
    paths = [await silent_run(street) for _ in range(SILENT)]
    await street.advance_azure(60)
    mark, loop = await street.mark(), asyncio.get_running_loop()
    began = loop.time()
    await street.settled()
    took_s = loop.time() - began

    asked = await asked_since(street, mark)
    # A slow machine asks more slowly; no machine asks faster. The first turn costs no wait.
    assert len(asked) <= READS_PER_S * took_s + 1
    assert sorted(asked) == sorted(
        f"GET /openai{path}{below}" for path in paths for below in ("", "/steps")
    )
    assert (await street.agree())["session_count"] == SILENT


async def test_a_run_that_takes_long_is_asked_for_less_and_less_often(street: Street) -> None:
    await silent_run(street, run_s=120)
    mark = await street.mark()
    await street.settled(step_s=1)

    asked = await asked_since(street, mark)
    # After 1, 2, 4, 8 seconds and then every 15, for 120 seconds; then the steps.
    assert len(asked) <= 4 + 120 // 15 + 2
    assert (await street.agree())["session_count"] == 1


async def test_a_container_is_never_asked_for_whatever_has_to_be_settled(street: Street) -> None:
    made = await street.made("/containers", {"name": "x"}, surface="v1")
    named = [{"type": "code_interpreter", "container": made["id"]}]
    await silent_response(street, tools=named)
    await silent_response(street)
    await silent_run(street)
    await silent_run(street, "project")
    cut = {"model": "gpt-4o", "input": "[[sim calls=1 cut=3]]", "tools": [AUTO], "stream": True}
    with pytest.raises(httpx.RemoteProtocolError):
        await street.v1("POST", "/responses", cut)
    mark = await street.mark()

    invoice = await street.agree()
    asked = await asked_since(street, mark)
    assert invoice["session_count"] == 5
    assert len(asked) >= 5
    assert [each for each in asked if "/containers" in each or not each.startswith("GET ")] == []


@asynccontextmanager
async def reopened(folder: Path, azure: LiveSimulator) -> AsyncIterator[Street]:
    """Yield a street on the same ledger with the same Azure behind it."""
    async with (
        living(folder, endpoint=azure.url) as street,
        httpx.AsyncClient(base_url=azure.url) as client,
    ):
        own, street.azure = street.azure, client
        street.clock.at = await _now(client)
        try:
            yield street
        finally:
            street.azure = own


async def _now(azure: httpx.AsyncClient) -> int:
    now_s: float = (await azure.get("/simulator/clock")).json()["now_s"]
    return round(now_s * SECOND)


@pytest.mark.parametrize("looks", [0, 1, 3])
async def test_what_was_begun_is_settled_after_a_restart_wherever_the_settlement_stood(
    tmp_path: Path, looks: int
) -> None:
    config = SimulatorConfig(wall_clock=False, run_s=10, start_s=START_S)
    with LiveSimulator(config) as azure:
        async with reopened(tmp_path, azure) as street:
            for surface in ("dated", "project"):
                await silent_run(street, surface)
            await silent_response(street)
            deleted = await silent_run(street)
            thread = deleted.split("/runs")[0]
            assert (await street.dated("DELETE", thread)).status_code == 200
            for _ in range(looks):
                await street.advance(2)
                await street.gateway.settlement.settle_due()
        async with reopened(tmp_path, azure) as street:
            unsettled = (await street.gateway.house.store.unsettled())[0]
            assert unsettled == 5
        async with reopened(tmp_path, azure) as street:
            invoice = await street.agree()
            assert invoice["session_count"] == 4
            gone = [row for row in await street.journal() if row["method"] == "DELETE"]
            assert [row["target"].split("?")[0] for row in gone] == [f"/openai{thread}"]
