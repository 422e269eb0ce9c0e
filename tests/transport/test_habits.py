"""What an HTTP client does of its own accord, and this one does not."""

from __future__ import annotations

import asyncio

import pytest

from gateway.upstream import AzureTransport
from tests.hostile_server import Caller, serve
from tests.transport.facing import OK, ask, azure, facing, replying

pytestmark = pytest.mark.anyio


async def test_cookies_are_neither_kept_nor_sent() -> None:
    reply = OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: team=a; Path=/\r\n\r\n")
    async with serve(replying(reply)) as server:
        # By name, because a jar would not keep the cookies of an address.
        upstream = azure(f"http://localhost:{server.port}", AzureTransport())
        for _ in range(2):
            await (await ask(upstream, "GET")).read(2)
        await upstream.aclose()
    assert len(server.requests) == 2
    assert b"cookie" not in server.requests[1].lower()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_reply_like_any_other(status: int) -> None:
    moved = b"HTTP/1.1 %d Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n" % status
    async with facing(replying(moved)) as (upstream, server):
        reply = await ask(upstream, body=b"1")
        assert (reply.status, await reply.read(0)) == (status, b"")
    assert len(server.requests) == 1


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with facing(replying(OK)) as (upstream, _):
        assert await (await ask(upstream)).read(2) == b"ok"


async def test_a_coded_body_is_not_decoded() -> None:
    coded = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8bxx"
    async with facing(replying(coded)) as (upstream, _):
        assert await (await ask(upstream)).read(4) == b"\x1f\x8bxx"


async def test_reply_headers_keep_their_order_and_number_with_names_lower_cased() -> None:
    head = b"HTTP/1.1 429 Slow\r\nX-B: 1\r\nRetry-After: 3\r\nx-b: 2\r\nContent-Length: 0\r\n\r\n"
    async with facing(replying(head)) as (upstream, _):
        reply = await ask(upstream)
        await reply.read(0)
    assert reply.status == 429
    assert list(reply.headers) == [
        (b"x-b", b"1"),
        (b"retry-after", b"3"),
        (b"x-b", b"2"),
        (b"content-length", b"0"),
    ]


async def test_a_connection_is_kept_and_used_again() -> None:
    async with facing(replying(OK)) as (upstream, server):
        for _ in range(3):
            await (await ask(upstream, body=b"1")).read(2)
    assert (len(server.requests), server.connections) == (3, 1)


async def test_more_than_a_hundred_requests_are_under_way_at_once() -> None:
    everybody = asyncio.Event()

    async def play(caller: Caller) -> None:
        await caller.request()
        if len(caller.server.requests) == 120:
            everybody.set()
        await everybody.wait()
        await caller.send(OK)
        await caller.rest()

    async with facing(play) as (upstream, server), asyncio.TaskGroup() as group:
        for _ in range(120):
            group.create_task(ask(upstream))
    assert server.connections == 120
