"""Bodies: what breaks one, who waits for it, and an answer that comes before its end."""

from __future__ import annotations

import asyncio

import pytest

from gateway.listener import DoorLimits
from gateway.visitor import LINGER_BYTES_MAX
from tests.door.knocking import (
    CL5,
    MALFORMED,
    chunked,
    dialled,
    error_of,
    opened,
    parse,
    pour,
    request,
    still_serves,
    talk,
)

pytestmark = pytest.mark.anyio


REFUSED_IN_BODY = {
    "trailer": b"3\r\nabc\r\n0\r\nX-Team: other\r\n\r\n",
    "unfinished trailer": b"0\r\nX-Team: " + b"a" * 40_000,
    "bad size": b"x\r\nabc\r\n0\r\n\r\n",
    "signed size": b"+3\r\nabc\r\n0\r\n\r\n",
    "negative size": b"-3\r\nabc\r\n0\r\n\r\n",
    "hexadecimal prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "endless size": b"f" * 17 + b"\r\nabc\r\n0\r\n\r\n",
    "size too small": b"2\r\nabc\r\n0\r\n\r\n",
    "lf after size": b"3\nabc\r\n0\r\n\r\n",
    "lf after extension": b"3;a\nabc\r\n0\r\n\r\n",
    "lf at the end": b"3\r\nabc\r\n0\r\n\n",
    "endless extension": b"3;a=" + b"b" * 40_000,
}


@pytest.mark.parametrize("name", REFUSED_IN_BODY)
async def test_a_malformed_body_is_refused_and_the_app_sees_the_caller_leave(name: str) -> None:
    async with opened() as (door, app):
        head = chunked(b"")
        async with dialled(door) as (reader, writer):
            writer.write(head)
            await app.arrived.wait()
            writer.write(REFUSED_IN_BODY[name])
            assert error_of(await reader.read()) == MALFORMED
            await app.ended.wait()
        assert app.bodies == []
        assert app.endings == ["disconnected"]
        assert await still_serves(door)


async def test_a_trailer_never_enters_the_headers_the_app_holds() -> None:
    async with opened() as (door, app):
        error_of(await talk(door, chunked(REFUSED_IN_BODY["trailer"], b"X-Team: mine")))
        await app.ended.wait()
        teams = [value for name, value in app.scopes[0]["headers"] if name == b"x-team"]
        assert teams == [b"mine"]


async def test_a_body_that_breaks_behind_a_begun_answer_ends_the_connection_unfinished() -> None:
    async with opened() as (door, app):
        async with dialled(door) as (reader, writer):
            writer.write(chunked(b"", target=b"/stream"))
            seen = await reader.readuntil(b"first\r\n")
            writer.write(b"oops\r\n")
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            assert b"400" not in seen
        await app.ended.wait()
        assert app.endings == ["disconnected"]


async def test_expect_100_continue_is_answered_once_the_app_wants_the_body() -> None:
    async with opened() as (door, app), dialled(door) as (reader, writer):
        head = request(b"/", CL5, b"Expect: 100-continue", method=b"POST", close=True)
        writer.write(head)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello")
        assert parse(await reader.read())[0] == 200
        assert app.bodies == [b"hello"]


async def test_http_1_0_knows_no_100_continue() -> None:
    async with opened() as (door, _):
        head = b"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        assert parse(await talk(door, head + b"hello"))[0] == 200


async def test_nothing_is_written_behind_a_refusal_not_even_100_continue() -> None:
    async with opened() as (door, app), dialled(door) as (reader, writer):
        writer.write(chunked(b"oops\r\n", b"Expect: 100-continue", target=b"/patient"))
        status, headers, body = parse(await reader.readuntil(b"}}"))
        app.release.set()
        await app.ended.wait()
        assert (status, int(headers[b"content-length"])) == (400, len(body))
        assert await reader.read() == b""
        assert app.endings == ["disconnected"]


async def test_an_early_answer_to_an_expectation_comes_without_100_and_closes() -> None:
    async with opened() as (door, _):
        head = request(b"/early", CL5, b"Expect: 100-continue", method=b"POST")
        status, headers, body = parse(await talk(door, head))
        assert (status, headers[b"connection"], body) == (413, b"close", b"too much")


async def test_an_early_answer_arrives_although_the_caller_is_still_sending() -> None:
    async with opened() as (door, _), dialled(door) as (reader, writer):
        length = b"Content-Length: %d" % (8 * 1024 * 1024)
        writer.write(request(b"/early", length, method=b"POST") + b"a" * (8 * 1024 * 1024))
        await writer.drain()
        status, headers, body = parse(await reader.read())
        assert (status, headers[b"connection"], body) == (413, b"close", b"too much")


async def test_a_refused_caller_who_never_closes_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.visitor.LINGER_S", 0.05)
    limits = DoorLimits(connections_max=1)
    async with opened(limits) as (door, app), dialled(door) as (reader, writer):
        writer.write(request(b"/#"))
        assert error_of(await reader.read()) == MALFORMED
        while parse(await talk(door, request(close=True)))[0] == 503:
            assert app.scopes == []
        assert len(app.scopes) == 1


async def test_a_caller_who_never_stops_sending_after_the_answer_is_cut_off() -> None:
    async with opened() as (door, _), dialled(door) as (_reader, writer):
        writer.write(request(b"/early", b"Content-Length: 99999999999", method=b"POST"))
        with pytest.raises(ConnectionError):
            await pour(writer, 8 * LINGER_BYTES_MAX)
