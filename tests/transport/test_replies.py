"""Replies as they arrive, whole or broken, and what becomes of their connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.upstream import AzureUpstream, ReplyBroken
from tests.hostile_server import Caller
from tests.transport.facing import CHUNKED, OK, ask, endless, facing, loop_turns, replying

pytestmark = pytest.mark.anyio

LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"


@pytest.mark.parametrize(
    ("beginning", "misdeed"),
    [
        pytest.param(LONG, Caller.close, id="length-closed"),
        pytest.param(LONG, Caller.reset, id="length-reset"),
        pytest.param(CHUNKED + b"3\r\nabc\r\n", Caller.close, id="chunked-closed"),
        pytest.param(CHUNKED + b"3\r\nabc\r\n", Caller.reset, id="chunked-reset"),
        pytest.param(
            CHUNKED + b"3\r\nabc\r\n", lambda c: c.writer.write(b"zz\r\n"), id="bad-chunk-size"
        ),
        pytest.param(
            CHUNKED + b"3\r\nabc", lambda c: c.writer.write(b"def\r\n"), id="chunk-too-long"
        ),
        pytest.param(CHUNKED + b"3\r\nabc\r\n", lambda _: None, id="silence"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nabc", Caller.reset, id="until-closed-reset"),
    ],
)
async def test_a_body_that_ends_badly_is_broken_after_what_came_of_it(
    beginning: bytes, misdeed: Callable[[Caller], None]
) -> None:
    seen = asyncio.Event()

    async def play(caller: Caller) -> None:
        await caller.request()
        await caller.send(beginning)
        await seen.wait()
        misdeed(caller)
        await caller.rest()

    async with facing(play, read_timeout_s=0.3) as (upstream, server):
        reply = await ask(upstream)
        chunks = reply.chunks()
        assert await anext(chunks) == b"abc"
        seen.set()
        with pytest.raises(ReplyBroken, match="reply broke off"):
            await anext(chunks)
        await reply.aclose()
    assert len(server.requests) == 1


async def test_a_reply_longer_than_asked_for_is_broken_and_its_connection_closed() -> None:
    gone = asyncio.Event()

    async def play(caller: Caller) -> None:
        await caller.request()
        await caller.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabcd")
        await caller.rest()
        gone.set()

    async with facing(play) as (upstream, _):
        with pytest.raises(ReplyBroken, match="longer than `3` bytes"):
            await (await ask(upstream)).read(3)
        await gone.wait()


async def test_a_reply_is_handed_over_as_it_arrives() -> None:
    turns: asyncio.Queue[bytes] = asyncio.Queue()

    async def play(caller: Caller) -> None:
        await caller.request()
        await caller.send(CHUNKED)
        while data := await turns.get():
            await caller.send(b"%x\r\n%s\r\n" % (len(data), data))
        await caller.send(b"0\r\n\r\n")
        await caller.rest()

    async with facing(play) as (upstream, _):
        reply = await ask(upstream, body=b"1")
        chunks = reply.chunks()
        for data in (b"data: 1\n\n", b"data: 2\n\n", b"data: [DONE]\n\n"):
            turns.put_nowait(data)
            assert await anext(chunks) == data
        turns.put_nowait(b"")
        with pytest.raises(StopAsyncIteration):
            await anext(chunks)


async def test_a_body_is_handed_over_once() -> None:
    async with facing(replying(OK)) as (upstream, _):
        reply = await ask(upstream)
        await reply.read(2)
        with pytest.raises(RuntimeError, match="taken before"):
            reply.chunks()


@pytest.mark.parametrize("begun", [False, True])
async def test_a_reply_let_go_before_its_end_closes_its_connection(begun: bool) -> None:
    gone = asyncio.Event()

    async def play(caller: Caller) -> None:
        await caller.request()
        await caller.send(CHUNKED + b"3\r\nabc\r\n")
        await caller.rest()
        gone.set()

    async with facing(play) as (upstream, server):
        reply = await ask(upstream)
        if begun:
            assert await anext(reply.chunks()) == b"abc"
        await reply.aclose()
        await gone.wait()
        await (await ask(upstream)).aclose()
    assert server.connections == 2


@pytest.mark.parametrize("stage", ["head", "body", "upload"])
async def test_a_cancelled_request_closes_its_connection(stage: str) -> None:
    reached, gone = asyncio.Event(), asyncio.Event()
    heard = bytearray()

    async def play(caller: Caller) -> None:
        await caller.head()
        if stage == "body":
            await caller.send(CHUNKED)
        if stage != "upload":
            reached.set()
        heard.extend(await caller.rest())
        gone.set()

    async def one(upstream: AzureUpstream) -> None:
        body = endless(reached) if stage == "upload" else None
        reply = await ask(upstream, body=body)
        async for _ in reply.chunks():
            pass

    async with facing(play) as (upstream, _), asyncio.TaskGroup() as group:
        task = group.create_task(one(upstream))
        await reached.wait()
        await loop_turns()
        task.cancel()
        await gone.wait()
    assert task.cancelled()
    assert not heard.endswith(b"0\r\n\r\n")
