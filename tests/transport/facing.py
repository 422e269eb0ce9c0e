"""An upstream of ours, face to face with a hostile server, and what both of them say."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import httpx

from gateway.upstream import AzureTransport, AzureUpstream, Credential, Reply, UpstreamTarget
from tests.hostile_server import Caller, HostileServer, Play, serve

SECRET = "not-for-anybody"


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


PIECE = b"x" * 64 * 1024


def azure(base_url: str, transport: httpx.AsyncBaseTransport) -> AzureUpstream:
    target = UpstreamTarget("one", base_url, Credential("api-key", SECRET))
    return AzureUpstream({"one": target}, transport)


@asynccontextmanager
async def facing(
    play: Play,
    *,
    tls: ssl.SSLContext | None = None,
    trust: ssl.SSLContext | None = None,
    connect_timeout_s: float = 10,
    read_timeout_s: float = 10,
    total_connections: int = 0,
) -> AsyncIterator[tuple[AzureUpstream, HostileServer]]:
    transport = AzureTransport(
        connect_timeout_s=connect_timeout_s,
        read_timeout_s=read_timeout_s,
        total_connections=total_connections,
        ssl_context=trust,
    )
    async with serve(play, tls) as server:
        upstream = azure(server.url, transport)
        try:
            yield upstream, server
        finally:
            await upstream.aclose()


async def ask(
    upstream: AzureUpstream,
    method: str = "POST",
    *,
    path: str = "/openai/files",
    query: str = "",
    headers: Sequence[tuple[bytes, bytes]] = (),
    body: bytes | AsyncIterator[bytes] | None = None,
    content_length: int | None = None,
) -> Reply:
    return await upstream.send(
        "one",
        method=method,
        path=path,
        query=query,
        headers=headers,
        body=body,
        content_length=content_length,
    )


def replying(reply: bytes) -> Play:
    """Return a play that answers every request of a connection with ``reply``."""

    async def play(caller: Caller) -> None:
        while True:
            await caller.request()
            await caller.send(reply)

    return play


def then(reply: bytes, misdeed: Callable[[Caller], None]) -> Play:
    """Return a play that reads one request, sends ``reply`` and does ``misdeed``."""

    async def play(caller: Caller) -> None:
        await caller.request()
        await caller.send(reply)
        misdeed(caller)
        await caller.rest()

    return play


async def endless(started: asyncio.Event | None = None) -> AsyncIterator[bytes]:
    while True:
        yield PIECE
        if started is not None:
            started.set()


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def loop_turns() -> None:
    """Let the loop hand over what loopback has delivered: that is there once it was written."""
    for _ in range(5):
        await asyncio.sleep(0)
