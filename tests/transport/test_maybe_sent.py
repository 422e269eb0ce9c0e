"""MaybeSent: bytes may have gone and no usable head came; nothing is ever sent twice."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.upstream import AzureUpstream, MaybeSent
from tests.hostile_server import Caller
from tests.transport.facing import (
    CHUNKED,
    OK,
    PIECE,
    SECRET,
    ask,
    endless,
    facing,
    loop_turns,
    replying,
    then,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST"])
@pytest.mark.parametrize("end", [Caller.close, Caller.reset], ids=["closed", "reset"])
@pytest.mark.parametrize("used_before", [False, True], ids=["new", "kept"])
async def test_a_request_left_unanswered_was_maybe_sent_and_is_sent_once(
    method: str, end: Callable[[Caller], None], used_before: bool
) -> None:
    async def play(caller: Caller) -> None:
        if used_before:
            await caller.request()
            await caller.send(OK)
        await caller.request()
        end(caller)

    async with facing(play) as (upstream, server):
        if used_before:
            await (await ask(upstream, "POST")).read(2)
        with pytest.raises(MaybeSent, match=r"no reply from `127\.0\.0\.1`"):
            await ask(upstream, method, body=b"1" if method in ("PUT", "POST") else None)
        await loop_turns()
    assert len(server.requests) == (2 if used_before else 1)
    assert server.connections == 1


async def test_a_reset_during_an_upload_was_maybe_sent() -> None:
    was_reset = asyncio.Event()

    async def play(caller: Caller) -> None:
        await caller.head()
        caller.reset()
        was_reset.set()

    async def body() -> AsyncIterator[bytes]:
        yield PIECE
        await was_reset.wait()
        async for piece in endless():
            yield piece

    async with facing(play) as (upstream, server):
        with pytest.raises(MaybeSent):
            await ask(upstream, body=body())
    assert len(server.requests) == 1


async def test_silence_instead_of_a_head_was_maybe_sent() -> None:
    async with facing(replying(b""), read_timeout_s=0.2) as (upstream, server):
        with pytest.raises(MaybeSent):
            await ask(upstream, body=b"1")
    assert len(server.requests) == 1


@pytest.mark.parametrize("length", [None, 1 << 40])
@pytest.mark.parametrize("end", ["silence", "cancelled"])
async def test_an_upload_nobody_takes_in_is_dropped_with_what_waits_to_go(
    length: int | None, end: str
) -> None:
    ended = asyncio.Event()
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    given = 0

    async def play(caller: Caller) -> None:
        await caller.head()
        await ended.wait()
        heard.set_result(await caller.rest())

    async def body() -> AsyncIterator[bytes]:
        nonlocal given
        async for piece in endless():
            given += len(piece)
            yield piece

    read_timeout_s = 0.2 if end == "silence" else 60
    async with facing(play, read_timeout_s=read_timeout_s) as (upstream, server):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(maybe_sent(upstream, body(), length))
            before = -1
            while end == "cancelled" and (not server.requests or before != given):
                before = given
                await loop_turns()
            if end == "cancelled":
                task.cancel()
        assert task.cancelled() is (end == "cancelled")
        ended.set()
        assert len(await heard) < given
    assert len(server.requests) == 1


async def maybe_sent(
    upstream: AzureUpstream, body: AsyncIterator[bytes], length: int | None
) -> None:
    with pytest.raises(MaybeSent):
        await ask(upstream, body=body, content_length=length)


async def test_a_large_body_nobody_takes_in_was_maybe_sent() -> None:
    ended = asyncio.Event()

    async def play(caller: Caller) -> None:
        await caller.head()
        await ended.wait()

    async with facing(play, read_timeout_s=0.2) as (upstream, server):
        with pytest.raises(MaybeSent):
            await ask(upstream, body=PIECE * 300)
        ended.set()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "head",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: three\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-a: %s\r\nContent-Length: 0\r\n\r\n" % (b"a" * 70_000),
        b"HTTP/1.1 200 OK\r\n%sContent-Length: 0\r\n\r\n" % (b"x-a: %s\r\n" % (b"a" * 700) * 100),
        b"HTTP/1.1 200 OK\r\n%sContent-Length: 0\r\n\r\n" % (b"x-a: 1\r\n" * 300),
        # In one piece with its head a bad body leaves nothing to hand over.
        CHUNKED + b"zz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more",
    ],
)
async def test_a_head_that_is_malformed_or_too_large_was_maybe_sent(head: bytes) -> None:
    async with facing(then(head, Caller.close)) as (upstream, server):
        with pytest.raises(MaybeSent) as caught:
            await ask(upstream, "GET")
    assert len(server.requests) == 1
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__context__)
    assert SECRET not in told


@pytest.mark.parametrize(("size", "number"), [(700, 90), (65_000, 1), (1, 200)])
async def test_a_head_of_less_than_64_kib_is_read(size: int, number: int) -> None:
    filler = b"x-a: %s\r\n" % (b"a" * size) * number
    head = b"HTTP/1.1 200 OK\r\n%sContent-Length: 0\r\n\r\n" % filler
    async with facing(replying(head)) as (upstream, _):
        reply = await ask(upstream)
        assert (reply.status, len(reply.headers)) == (200, number + 1)
        await reply.read(0)
