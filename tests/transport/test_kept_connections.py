"""Connections kept between requests: what happens on one meanwhile is nobody's reply."""

from __future__ import annotations

import asyncio
import gc

import pytest

from tests.hostile_server import Caller
from tests.transport.facing import OK, ask, facing, loop_turns, replying

pytestmark = pytest.mark.anyio


async def test_a_kept_connection_seen_to_close_is_not_used() -> None:
    gone = asyncio.Event()

    async def play(caller: Caller) -> None:
        await caller.request()
        await caller.send(OK)
        if caller.server.connections == 1:
            caller.writer.write_eof()
        await caller.rest()
        gone.set()

    async with facing(play) as (upstream, server):
        await (await ask(upstream)).read(2)
        await gone.wait()
        assert await (await ask(upstream)).read(2) == b"ok"
    assert (len(server.requests), server.connections) == (2, 2)


async def test_a_reset_of_an_idle_connection_is_nobodys_concern() -> None:
    begun, idle, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))

    async def play(caller: Caller) -> None:
        await caller.request()
        await caller.send(OK[:-1])
        await begun.wait()
        await caller.send(OK[-1:])
        await idle.wait()
        caller.reset()
        gone.set()

    async with facing(play) as (upstream, server):
        reply = await ask(upstream)
        begun.set()
        assert await reply.read(2) == b"ok"
        idle.set()
        await gone.wait()
        await loop_turns()
        reply = await ask(upstream)
        assert await reply.read(2) == b"ok"
        gc.collect()
        await loop_turns()
    assert server.connections == 2
    assert complaints == []


async def test_a_kept_connection_keeps_none_of_its_replies() -> None:
    begun: asyncio.Queue[None] = asyncio.Queue()

    async def play(caller: Caller) -> None:
        while True:
            await caller.request()
            await caller.send(OK[:-1])
            await begun.get()
            await caller.send(OK[-1:])

    async with facing(play) as (upstream, server):
        for _ in range(20):
            reply = await ask(upstream)
            begun.put_nowait(None)
            await reply.read(2)
        del reply
        gc.collect()
        kept = [thing for thing in gc.get_objects() if type(thing).__name__ == "ClientResponse"]
        assert kept == []
    assert (len(server.requests), server.connections) == (20, 1)


@pytest.mark.parametrize(
    "unasked",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoi",
        b"garbage\r\n\r\n",
    ],
)
async def test_what_arrives_on_an_idle_connection_is_nobodys_reply(unasked: bytes) -> None:
    idle, spoken = asyncio.Event(), asyncio.Event()

    async def play(caller: Caller) -> None:
        await caller.request()
        await caller.send(OK)
        if caller.server.connections == 1:
            await idle.wait()
            await caller.send(unasked)
            spoken.set()
        await caller.rest()

    async with facing(play) as (upstream, server):
        await (await ask(upstream)).read(2)
        idle.set()
        await spoken.wait()
        await loop_turns()
        reply = await ask(upstream)
        assert (reply.status, await reply.read(6)) == (200, b"ok")
    assert server.connections == 2


async def test_a_doubled_reply_is_read_once_and_its_connection_closed() -> None:
    async with facing(replying(OK + OK.replace(b"ok", b"no"))) as (upstream, server):
        for _ in range(2):
            assert await (await ask(upstream)).read(2) == b"ok"
    assert server.connections == 2
