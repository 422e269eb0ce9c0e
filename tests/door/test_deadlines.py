"""Deadlines: whoever keeps the door waiting is told so, and nobody else is."""

from __future__ import annotations

import asyncio

import pytest

from gateway.listener import DoorLimits
from tests.door.knocking import (
    CL5,
    HandTimers,
    dialled,
    error_of,
    opened,
    parse,
    request,
    talk,
    until,
    visitor_of,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "sent",
    [b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b"],
    ids=["one byte", "a line", "half a header"],
)
async def test_a_head_that_does_not_end_is_refused_in_time(sent: bytes) -> None:
    async with opened(DoorLimits(header_timeout_s=0.05)) as (door, app):
        assert error_of(await talk(door, sent)) == (408, "request_timeout")
        assert app.scopes == []


async def test_a_head_that_trickles_in_does_not_move_its_deadline() -> None:
    timers, limits = HandTimers(), DoorLimits(header_timeout_s=20)
    async with (
        opened(limits, timers=timers) as (door, app),
        dialled(door) as (reader, writer),
    ):
        writer.write(b"GET / HTTP/1.1\r\nX-A: ")
        await until(lambda: timers.left == [20])
        for passed_s in range(1, 20):
            writer.write(b"a")
            timers.advance(1)
            # One byte more of the head, which is what it counts.
            await until(lambda: visitor_of(door)._head_bytes == 21 + passed_s)  # noqa: B023
            assert timers.left == [20 - passed_s]
        timers.advance(1)
        assert error_of(await reader.read()) == (408, "request_timeout")
        assert app.scopes == []


async def test_a_body_that_stops_is_refused_while_the_app_waits_for_it() -> None:
    async with opened(DoorLimits(body_idle_timeout_s=0.05)) as (door, app):
        sent = request(b"/", CL5, method=b"POST", body=b"hel")
        assert error_of(await talk(door, sent)) == (408, "request_timeout")
        await app.ended.wait()
        assert app.endings == ["disconnected"]


async def test_a_body_that_stops_behind_a_begun_answer_ends_the_connection() -> None:
    async with opened(DoorLimits(body_idle_timeout_s=0.05)) as (door, app):
        async with dialled(door) as (reader, writer):
            writer.write(request(b"/stream", CL5, method=b"POST", body=b"hel"))
            assert (await reader.readuntil(b"first\r\n")).startswith(b"HTTP/1.1 200")
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        await app.ended.wait()
        assert app.endings == ["disconnected"]


async def test_the_body_deadline_does_not_run_while_the_app_is_not_reading() -> None:
    timers = HandTimers()
    async with (
        opened(timers=timers) as (door, app),
        dialled(door) as (reader, writer),
    ):
        writer.write(request(b"/patient", CL5, method=b"POST", body=b"hel", close=True))
        await app.entered.wait()
        assert timers.left == []
        timers.advance(86_400)
        writer.write(b"lo")
        app.release.set()
        assert parse(await reader.read())[2] == b"/patient:hello"


async def test_a_body_that_drips_is_refused_though_it_never_stops() -> None:
    timers, dripped = HandTimers(), 0
    limits = DoorLimits(body_idle_timeout_s=10, body_bytes_per_s_min=2)
    head = request(b"/", b"Content-Length: 100", method=b"POST")
    async with opened(limits, timers=timers) as (door, app), dialled(door) as (reader, writer):
        writer.write(head)
        await app.arrived.wait()
        while visitor_of(door).is_busy:
            writer.write(b"x")
            dripped += 1
            # The app has taken the byte and waits for the next.
            await until(lambda: visitor_of(door).body_bytes == dripped)  # noqa: B023
            await until(lambda: visitor_of(door).cycle.body == b"" and bool(timers.left))
            timers.advance(1)
        assert error_of(await reader.read()) == (408, "request_timeout")
    # Ten seconds to begin with, and half a second more for each byte that came.
    assert dripped == 20


@pytest.mark.parametrize(
    ("body_bytes", "waited_s", "wait_s"),
    [(0, 0, 60), (0, 59, 1), (512, 60, 1), (51_200, 60, 60), (512, 61, 0), (512, 1000, 0)],
)
def test_a_body_may_take_a_minute_and_a_second_more_for_every_512_bytes(
    body_bytes: int, waited_s: float, wait_s: float
) -> None:
    assert DoorLimits().body_wait_s(body_bytes, waited_s) == wait_s


async def test_the_body_deadline_ends_with_the_body() -> None:
    timers, limits = HandTimers(), DoorLimits(body_idle_timeout_s=10, keep_alive_timeout_s=75)
    async with (
        opened(limits, timers=timers) as (door, _),
        dialled(door) as (reader, writer),
    ):
        writer.write(request(b"/1", CL5, method=b"POST"))
        await until(lambda: timers.left == [10])
        writer.write(b"hello")
        await reader.readuntil(b"/1:hello")
        assert timers.left == [75]
        timers.advance(74)
        writer.write(request(b"/2", close=True))
        assert parse(await reader.read())[2] == b"/2:"


async def test_a_slow_answer_has_no_deadline_at_the_door() -> None:
    timers = HandTimers()
    async with opened(timers=timers) as (door, app), dialled(door) as (reader, writer):
        writer.write(request(b"/hold", close=True))
        await app.entered.wait()
        assert timers.left == []
        timers.advance(86_400)
        app.release.set()
        assert parse(await reader.read())[2] == b"/hold:"


@pytest.mark.parametrize("sent", [b"", b"\r\n", request()], ids=["silent", "blank", "after one"])
async def test_an_idle_connection_is_closed_without_a_word(sent: bytes) -> None:
    async with opened(DoorLimits(keep_alive_timeout_s=0.05)) as (door, app):
        answer = await talk(door, sent)
        assert answer.count(b"HTTP/1.1") == len(app.scopes) == (sent == request())
