"""NotSent: nothing was written, and the request may be repeated."""

from __future__ import annotations

import socket

import pytest

from gateway.upstream import AzureTransport, NotSent
from tests.hostile_server import Caller, serve
from tests.transport.facing import CHUNKED, OK, ask, azure, facing, replying

pytestmark = pytest.mark.anyio


async def test_a_refused_connection_is_not_sent() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        upstream = azure(f"http://127.0.0.1:{bound.getsockname()[1]}", AzureTransport())
        with pytest.raises(NotSent, match=r"no connection to `127\.0\.0\.1`"):
            await ask(upstream, body=b"1")
        await upstream.aclose()


async def test_an_unknown_name_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_args: object, **_kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    upstream = azure("http://nowhere.invalid", AzureTransport())
    with pytest.raises(NotSent, match=r"no connection to `nowhere\.invalid`"):
        await ask(upstream, body=b"1")
    await upstream.aclose()


async def test_a_connection_nobody_accepts_is_not_sent() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        try:
            for client in waiting:
                client.setblocking(False)
                client.connect_ex(server.getsockname())
            transport = AzureTransport(connect_timeout_s=0.2)
            upstream = azure(f"http://127.0.0.1:{server.getsockname()[1]}", transport)
            with pytest.raises(NotSent):
                await ask(upstream, body=b"1")
            await upstream.aclose()
        finally:
            for client in waiting:
                client.close()


async def test_a_handshake_that_does_not_come_is_not_sent() -> None:
    async def play(caller: Caller) -> None:
        await caller.rest()

    async with serve(play) as server:
        transport = AzureTransport(connect_timeout_s=0.2)
        upstream = azure(f"https://127.0.0.1:{server.port}", transport)
        with pytest.raises(NotSent):
            await ask(upstream, body=b"1")
        await upstream.aclose()
    assert server.connections == 1


async def test_a_server_without_tls_is_not_sent_to() -> None:
    async def play(caller: Caller) -> None:
        await caller.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await caller.rest()

    async with serve(play) as server:
        upstream = azure(f"https://127.0.0.1:{server.port}", AzureTransport())
        with pytest.raises(NotSent):
            await ask(upstream, body=b"1")
        await upstream.aclose()
    assert server.requests == []


async def test_a_place_in_the_pool_that_does_not_come_free_is_not_sent() -> None:
    async with facing(replying(CHUNKED), connect_timeout_s=0.2, total_connections=1) as (
        upstream,
        server,
    ):
        reply = await ask(upstream)
        with pytest.raises(NotSent):
            await ask(upstream)
        await reply.aclose()
        await (await ask(upstream)).aclose()
    assert len(server.requests) == 2


async def test_nothing_is_sent_after_the_end() -> None:
    async with facing(replying(OK)) as (upstream, server):
        await (await ask(upstream)).read(2)
        await upstream.aclose()
        with pytest.raises(NotSent, match="the transport is closed"):
            await ask(upstream)
    assert len(server.requests) == 1
