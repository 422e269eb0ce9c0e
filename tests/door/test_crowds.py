"""Many callers at once, and the limit of how many."""

from __future__ import annotations

import asyncio

import pytest

from gateway.listener import DoorLimits
from tests.door.knocking import dialled, error_of, opened, parse, request, still_serves, talk

pytestmark = pytest.mark.anyio


async def test_idle_connections_do_not_disturb_another_caller() -> None:
    async with opened() as (door, _):
        idle = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(200)]
        for _, writer in idle[::2]:
            writer.write(b"GET / HTTP/1.1\r\nX-A: ")
        for _ in range(20):
            assert await still_serves(door)
        for _, writer in idle:
            writer.close()


async def test_connections_beyond_the_limit_are_told_so_and_those_within_it_go_on() -> None:
    async with opened(DoorLimits(connections_max=2)) as (door, app):
        async with dialled(door) as (reader, writer), dialled(door):
            writer.write(request(b"/1"))
            await reader.readuntil(b"/1:")
            assert error_of(await talk(door)) == (503, "gateway_unavailable")
            writer.write(request(b"/2", close=True))
            assert parse(await reader.read())[2] == b"/2:"
        assert len(app.scopes) == 2
