"""Uploads: bodies that come from an iterator, of a length that was said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.upstream import MaybeSent
from tests.hostile_server import Caller
from tests.transport.facing import OK, PIECE, ask, endless, facing, pieces, replying

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_reply_that_comes_early_is_delivered_and_its_connection_not_kept(
    streamed: bool,
) -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"

    async def play(caller: Caller) -> None:
        await caller.head()
        await caller.send(refusal)
        await caller.rest()

    async with facing(play) as (upstream, server):
        for _ in range(2):
            reply = await ask(upstream, body=endless() if streamed else PIECE * 300)
            assert (reply.status, await reply.read(3)) == (413, b"big")
    assert (len(server.requests), server.connections) == (2, 2)


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("fault", [LookupError("spool"), OSError(5, "disk")])
async def test_a_body_that_raises_ends_the_request_and_the_caller_hears_why(
    after: int, fault: Exception
) -> None:
    incomplete: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    closed = []

    async def play(caller: Caller) -> None:
        incomplete.set_result(await caller.rest())

    async def body() -> AsyncIterator[bytes]:
        try:
            for _ in range(after):
                yield b"part"
            raise fault
        finally:
            closed.append(True)

    async with facing(play) as (upstream, _):
        with pytest.raises(type(fault)) as caught:
            await ask(upstream, body=body())
        assert not (await incomplete).endswith(b"0\r\n\r\n")
    assert caught.value is fault
    assert closed == [True]


@pytest.mark.parametrize(
    ("parts", "length", "message"),
    [
        ((b"abc",), 5, "body ended at `3` of the announced `5` bytes"),
        ((), 5, "body ended at `0` of the announced `5` bytes"),
        ((b"abc", b"def"), 5, "body is longer than the announced `5` bytes"),
    ],
)
async def test_a_body_of_another_length_than_announced_is_not_finished(
    parts: tuple[bytes, ...], length: int, message: str
) -> None:
    incomplete: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def play(caller: Caller) -> None:
        incomplete.set_result((await caller.rest()).partition(b"\r\n\r\n")[2])

    async with facing(play) as (upstream, _):
        with pytest.raises(ValueError, match=message):
            await ask(upstream, body=pieces(*parts), content_length=length)
        assert len(await incomplete) < length


@pytest.mark.parametrize("body", [b"abc", None])
async def test_bytes_of_another_length_than_announced_are_not_sent(body: bytes | None) -> None:
    async with facing(replying(OK)) as (upstream, server):
        with pytest.raises(ValueError, match="bytes, not `5`"):
            await ask(upstream, body=body, content_length=5)
    assert server.connections == 0


async def test_an_upload_cut_off_closes_the_iterator_it_read_from() -> None:
    closed = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        try:
            async for piece in endless():
                yield piece
        finally:
            closed.set()

    async def play(caller: Caller) -> None:
        await caller.head()
        caller.reset()

    async with facing(play) as (upstream, _):
        with pytest.raises(MaybeSent):
            await ask(upstream, body=body())
        await closed.wait()
