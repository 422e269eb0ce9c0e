"""Stopping: what runs may end, what does not end is cut, and nobody new comes in."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gateway.listener import Door
from tests.door.knocking import Recorder, dialled, opened, request, still_serves

pytestmark = pytest.mark.anyio


async def test_stop_lets_a_running_stream_end_and_refuses_new_connections() -> None:
    async with opened() as (door, app), dialled(door) as (reader, writer), dialled(door) as idle:
        writer.write(request(b"/stream/hold"))
        await app.entered.wait()
        async with asyncio.TaskGroup() as group:
            stopping = group.create_task(door.stop())
            assert await idle[0].read() == b""
            with pytest.raises(ConnectionError):
                await asyncio.open_connection("127.0.0.1", door.port)
            assert not stopping.done()
            app.release.set()
        assert (await reader.read()).endswith(b"4\r\nlast\r\n0\r\n\r\n")


async def test_stop_cuts_what_outlasts_the_drain(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "uvicorn.error")
    async with opened(drain_s=0.05) as (door, app), dialled(door) as (reader, writer):
        writer.write(request(b"/stream/hold"))
        await app.entered.wait()
        await door.stop()
        assert app.endings == ["complete", "cancelled"]
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readuntil(b"last")


async def test_stop_may_come_twice_or_before_start() -> None:
    door = Door(Recorder(), host="127.0.0.1", port=0)
    await door.stop()
    await door.start()
    await door.stop()
    await door.stop()
    await door.start()
    assert await still_serves(door)
    await door.stop()
