"""Answers nobody reads: whoever takes nothing of what he is owed loses his connection for it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import visitor
from gateway.answer import Answer
from gateway.listener import Door, DoorLimits
from tests.door.knocking import (
    HandTimers,
    dialled,
    parse,
    request,
    respond,
    serving,
    talk,
    until,
    visitor_of,
)

pytestmark = pytest.mark.anyio

# More than the kernel keeps for both ends of a connection together.
PIECE = b"a" * (8 * 1024 * 1024)
LIMITS = DoorLimits(unread_timeout_s=60, keep_alive_timeout_s=75)


async def whole(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer at once and completely."""
    await respond(send, 200, PIECE)


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    """Begin an answer and leave it without an end."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": PIECE, "more_body": True})


async def given_up(scope: Scope, receive: Receive, send: Send) -> None:
    """Stream without end, as the street does, until it gives the reader up."""
    answer = Answer(send, "gw-test", stall_s=0.01)
    await answer.begin(200, [])
    while not answer.is_gone:
        await answer.chunk(PIECE)


@asynccontextmanager
async def asked(door: Door, *, close: bool) -> AsyncIterator[socket.socket]:
    """Ask and read nothing; yield once the app has done its part."""
    with socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(caller, ("127.0.0.1", door.port))
        await loop.sock_sendall(caller, request(close=close))
        await until(lambda: door.connections_open == 1 and visitor_of(door).cycle is not None)
        await until(lambda: not door._state.tasks)
        yield caller


def owed_bytes(door: Door) -> int:
    return visitor_of(door).transport.get_write_buffer_size()


@pytest.mark.parametrize("app", [broken, given_up])
async def test_a_reply_that_broke_off_does_not_keep_its_connection(
    app: ASGIApp, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "uvicorn.error")
    timers = HandTimers()
    async with serving(app, limits=LIMITS, timers=timers) as door, asked(door, close=False):
        assert owed_bytes(door) > 0
        assert timers.left == [visitor.LINGER_S]
        timers.advance(visitor.LINGER_S - 1)
        assert door.connections_open == 1
        timers.advance(1)
        await until(lambda: door.connections_open == 0)


async def test_the_last_answer_of_a_connection_does_not_keep_it() -> None:
    timers = HandTimers()
    async with serving(whole, limits=LIMITS, timers=timers) as door, asked(door, close=True):
        assert owed_bytes(door) > 0
        timers.advance(59)
        assert door.connections_open == 1
        timers.advance(1)
        await until(lambda: door.connections_open == 0)


async def test_an_answer_nobody_reads_does_not_keep_an_idle_connection() -> None:
    timers = HandTimers()
    async with serving(whole, limits=LIMITS, timers=timers) as door, asked(door, close=False):
        assert timers.left == [75]
        timers.advance(75 + 59)
        assert door.connections_open == 1
        timers.advance(1)
        await until(lambda: door.connections_open == 0)


async def test_whoever_takes_a_little_now_and_then_gets_all_of_it() -> None:
    timers = HandTimers()
    async with (
        serving(whole, limits=LIMITS, timers=timers) as door,
        asked(door, close=True) as caller,
    ):
        loop, seen = asyncio.get_running_loop(), b""
        while door.connections_open and owed_bytes(door):
            owed = owed_bytes(door)
            while door.connections_open and owed_bytes(door) == owed:
                seen += await loop.sock_recv(caller, 1024 * 1024)
            timers.advance(60)
        while data := await loop.sock_recv(caller, 1024 * 1024):
            seen += data
        assert parse(seen)[2] == PIECE


async def test_whoever_reads_gets_all_of_a_broken_reply_and_then_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("CRITICAL", "uvicorn.error")
    async with serving(broken) as door:
        _, _, body = parse(await talk(door, request()))
        size, _, rest = body.partition(b"\r\n")
        assert (int(size, 16), rest) == (len(PIECE), PIECE + b"\r\n")


@pytest.mark.parametrize(
    ("app", "close"),
    [(broken, False), (given_up, False), (whole, True), (whole, False)],
    ids=["broken", "given up", "last answer", "idle"],
)
async def test_a_stop_does_not_wait_for_readers_who_never_read(
    app: ASGIApp,
    close: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("CRITICAL", "uvicorn.error")
    monkeypatch.setattr("gateway.visitor.LINGER_S", 0.01)
    # An hour: were it waited for, this test would run out of patience.
    async with serving(app, drain_s=3_600) as door, asked(door, close=close):
        await door.stop()
        assert door.connections_open == 0


async def test_a_stop_does_not_wait_for_what_is_answered_meanwhile_and_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.visitor.LINGER_S", 0.01)
    entered, release = asyncio.Event(), asyncio.Event()

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        entered.set()
        await release.wait()
        await whole(scope, receive, send)

    async with serving(late, limits=LIMITS, drain_s=3_600) as door, dialled(door) as (_, writer):
        writer.write(request())
        await entered.wait()
        async with asyncio.TaskGroup() as group:
            stopping = group.create_task(door.stop())
            await until(lambda: not visitor_of(door).cycle.keep_alive)
            assert not stopping.done()
            release.set()
        assert door.connections_open == 0


async def test_over_tls_a_stop_does_not_wait_either(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.visitor.LINGER_S", 0.01)
    cert, key = certificate
    trust = ssl.create_default_context(cafile=str(cert))
    async with serving(whole, drain_s=3_600, tls_cert=cert, tls_key=key) as door:
        # A reader that keeps at most so much stops reading from its connection.
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", door.port, ssl=trust, limit=4096
        )
        writer.write(request(close=True))
        await reader.readuntil(b"\r\n\r\n")
        await until(lambda: not door._state.tasks)
        assert door.connections_open == 1
        await door.stop()
        assert door.connections_open == 0
        writer.close()
