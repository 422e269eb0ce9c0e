"""One connection, many requests: each has its turn."""

from __future__ import annotations

import asyncio

import pytest

from tests.door.knocking import (
    CL5,
    MALFORMED,
    dialled,
    error_of,
    opened,
    parse,
    pour,
    request,
    talk,
    until,
    visitor_of,
)

pytestmark = pytest.mark.anyio


async def test_one_connection_carries_many_requests() -> None:
    async with opened() as (door, app), dialled(door) as (reader, writer):
        for number in range(5):
            target = b"/%d" % number
            writer.write(request(target, CL5, method=b"POST", body=b"hello") + b"\r\n")
            answer = await reader.readuntil(target + b":hello")
            assert parse(answer)[0] == 200
            assert b"connection" not in parse(answer)[1]
        assert len(app.scopes) == 5


async def test_requests_sent_ahead_are_answered_in_order() -> None:
    async with opened() as (door, app), dialled(door) as (reader, writer):
        writer.write(request(b"/hold/1", CL5, method=b"POST", body=b"first"))
        await app.entered.wait()
        writer.write(request(b"/2", CL5, method=b"POST", body=b"other"))
        writer.write(request(b"/3", close=True))
        await asyncio.sleep(0)
        assert len(app.scopes) == 1
        app.release.set()
        first, second = (await reader.readuntil(b"/hold/1:first")), (await reader.read())
        assert parse(first)[0] == 200
        assert b"/2:other" in second
        # The third stood in one segment with the second: it is answered after it or not at all.
        assert second.count(b"HTTP/1.1 200") == len(app.scopes) - 1


@pytest.mark.parametrize("more", [request(b"/2"), b"\x00\x01", b"GET / HTTP/1.1\r\nX\r\n\r\n"])
async def test_what_follows_in_the_same_segment_is_dropped_and_the_connection_closed(
    more: bytes,
) -> None:
    async with opened() as (door, app):
        status, headers, body = parse(await talk(door, request(b"/1") + more))
        assert (status, headers[b"connection"], body) == (200, b"close", b"/1:")
        assert [scope["path"] for scope in app.scopes] == ["/1"]


async def test_garbage_sent_ahead_is_refused_after_the_running_answer_not_within_it() -> None:
    async with opened() as (door, app), dialled(door) as (reader, writer):
        writer.write(request(b"/stream/hold"))
        await app.entered.wait()
        writer.write(b"\x00\x01garbage\r\n\r\n")
        app.release.set()
        answer, _, refusal = (await reader.read()).partition(b"0\r\n\r\n")
        assert answer.endswith(b"4\r\nlast\r\n")
        assert error_of(refusal) == MALFORMED


async def test_a_request_sent_once_a_bodiless_answer_is_seen_is_not_lost() -> None:
    async with opened() as (door, app), dialled(door) as (reader, writer):
        writer.write(request(b"/bodiless"))
        assert parse(await reader.readuntil(b"\r\n\r\n"))[0] == 204
        await app.entered.wait()
        writer.write(request(b"/next", b"X-A: " + b"b" * 20_000, close=True))
        app.release.set()
        assert parse(await reader.read())[2] == b"/next:"


async def test_a_caller_who_sends_ahead_is_not_read_without_limit() -> None:
    total_bytes = 16 * 1024 * 1024
    async with opened() as (door, app), dialled(door) as (reader, writer):
        writer.write(request(b"/hold"))
        await app.entered.wait()
        length = b"Content-Length: %d" % total_bytes
        writer.write(request(b"/next", length, method=b"HEAD", close=True))
        async with asyncio.TaskGroup() as group:
            pouring = group.create_task(pour(writer, total_bytes))
            await until(lambda: visitor_of(door).flow.read_paused)
            # What the kernel keeps for both ends is less than is being poured.
            assert not pouring.done()
            assert len(visitor_of(door)._held) < total_bytes / 16
            app.release.set()
        await reader.readuntil(b"/hold:")
        assert parse(await reader.read())[0] == 200
        assert [len(body) for body in app.bodies] == [0, total_bytes]


async def test_a_caller_who_leaves_is_told_to_the_app() -> None:
    async with opened() as (door, app):
        async with dialled(door) as (_reader, writer):
            writer.write(request(b"/listen"))
            await app.entered.wait()
        await app.ended.wait()
        assert app.endings == ["complete", "http.disconnect"]
