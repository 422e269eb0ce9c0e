"""Sieges: whoever is slow, idle or many costs other callers nothing."""

from __future__ import annotations

import asyncio
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from gateway.listener import Door, DoorLimits
from tests.conftest import needs_real
from tests.door.knocking import HandTimers, error_of, opened, parse, request, talk, until

ROOT = Path(__file__).resolve().parents[2]
IDLE = 10_000
AT_ONCE = 250
DRIPPING_HEADS = 500
DRIPPING_BODIES = 200
ROUNDS = 20
BODY = bytes(range(256)) * 256
POST = request(b"/whole", b"Content-Length: %d" % len(BODY), method=b"POST", body=BODY, close=True)


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Let this process, and those it starts, open as many files as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = hard == resource.RLIM_INFINITY or hard >= IDLE + 1_000
    needs_real(f"{IDLE + 1_000:,} file descriptors", found=enough, how="raise `ulimit -Hn`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def served_well(door: Door) -> bool:
    """Return whether a caller who does everything right gets a whole, right answer."""
    status, _, body = parse(await talk(door, POST))
    return (status, body) == (200, b"/whole:" + BODY)


@pytest.mark.anyio
async def test_seven_hundred_who_drip_cost_a_caller_nothing_and_end_in_time(
    descriptors: None,
) -> None:
    timers, limits = HandTimers(), DoorLimits(header_timeout_s=20, body_idle_timeout_s=60)
    async with opened(limits, timers=timers) as (door, app):
        heads = [
            await asyncio.open_connection("127.0.0.1", door.port) for _ in range(DRIPPING_HEADS)
        ]
        bodies = [
            await asyncio.open_connection("127.0.0.1", door.port) for _ in range(DRIPPING_BODIES)
        ]
        for _, writer in heads:
            writer.write(b"GET / HTTP/1.1\r\nX-A: ")
        for _, writer in bodies:
            writer.write(request(b"/slow", b"Content-Length: 100", method=b"POST"))
        for _ in range(ROUNDS):
            for _, writer in (*heads, *bodies):
                writer.write(b"a")
            assert await served_well(door)
        await until(lambda: timers.left.count(20) == DRIPPING_HEADS)
        assert door.connections_open >= DRIPPING_HEADS + DRIPPING_BODIES
        timers.advance(20)
        for reader, _ in heads:
            assert error_of(await reader.read()) == (408, "request_timeout")
        for reader, writer in bodies:
            writer.write(b"a" * (100 - ROUNDS))
            assert (await reader.readuntil(b"/slow:" + b"a" * 100)).startswith(b"HTTP/1.1 200")
        assert len(app.scopes) == ROUNDS + DRIPPING_BODIES
        for _, writer in (*heads, *bodies):
            writer.close()


@pytest.fixture
def standing(descriptors: None) -> Iterator[int]:
    """Run a door in a process of its own and return its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.door.standing"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        assert process.poll() is None
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0


def dial(port: int, number: int) -> socket.socket:
    """Return a connection; the sources take turns, so that none of them runs out of ports."""
    source = (f"127.0.0.{2 + number % 8}", 0)
    return socket.create_connection(("127.0.0.1", port), 60, source_address=source)


def exchange(caller: socket.socket, sent: bytes, wanted: bytes) -> bool:
    """Return whether what is sent gets a good answer that ends with `wanted`, and no more."""
    caller.sendall(sent)
    return received(caller, wanted)


def received(caller: socket.socket, wanted: bytes) -> bool:
    seen = b""
    while not seen.endswith(wanted):
        data = caller.recv(1024 * 1024)
        if not data:
            return False
        seen += data
    status, headers, body = parse(seen)
    return (status, int(headers[b"content-length"]), body) == (200, len(wanted), wanted)


def test_ten_thousand_idle_callers_cost_another_nothing_and_may_go_on(standing: int) -> None:
    with ExitStack() as stack:

        def served_well() -> bool:
            with closing(dial(standing, 0)) as caller:
                return exchange(caller, POST, b"/whole:" + BODY)

        idle: list[socket.socket] = []
        while len(idle) < IDLE:
            new = [
                stack.enter_context(closing(dial(standing, number))) for number in range(AT_ONCE)
            ]
            for caller in new:
                caller.sendall(request(b"/first"))
            assert all(received(caller, b"/first:") for caller in new)
            idle += new
            assert served_well()
        assert all(served_well() for _ in range(50))
        for number, caller in enumerate(idle[:: IDLE // 200]):
            target = b"/again/%d" % number
            assert exchange(caller, request(target), target + b":")
        assert served_well()
