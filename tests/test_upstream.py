"""What Azure sees of a request, and what the street is told when it goes wrong."""

from __future__ import annotations

import asyncio
import gc
import shutil
import socket
import ssl
import subprocess
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import respx

from gateway.upstream import (
    AzureTransport,
    AzureUpstream,
    Credential,
    MaybeSent,
    NotSent,
    Reply,
    ReplyBroken,
    UpstreamTarget,
)
from tests.conftest import needs_real
from tests.hostile_server import Caller, HostileServer, Play, serve

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Return both loops: how a connection ends is told differently by each."""
    return "asyncio", {"use_uvloop": request.param}


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


# ------------------------------------------------------------------------------ what goes out


async def test_a_request_goes_out_with_nothing_added_but_host_key_and_length() -> None:
    headers = [(b"content-type", b"application/json"), (b"x-ms-client-request-id", b"7")]
    async with facing(replying(OK)) as (upstream, server):
        reply = await ask(
            upstream,
            path="/openai/deployments/gpt/chat/completions",
            query="api-version=2024-10-21",
            headers=headers,
            body=b'{"a":1}',
        )
        assert await reply.read(2) == b"ok"
    assert server.requests == [
        b"POST /openai/deployments/gpt/chat/completions?api-version=2024-10-21 HTTP/1.1\r\n"
        b"host: 127.0.0.1:%d\r\n"
        b"content-type: application/json\r\n"
        b"x-ms-client-request-id: 7\r\n"
        b"api-key: not-for-anybody\r\n"
        b"content-length: 7\r\n"
        b"\r\n"
        b'{"a":1}' % server.port
    ]


@pytest.mark.parametrize(
    ("method", "body", "tail"),
    [
        ("GET", None, b""),
        ("HEAD", None, b""),
        ("DELETE", None, b"content-length: 0\r\n"),
        ("POST", None, b"content-length: 0\r\n"),
        ("POST", b"", b"content-length: 0\r\n"),
    ],
)
async def test_a_request_without_a_body_says_so(
    method: str, body: bytes | None, tail: bytes
) -> None:
    async with facing(replying(b"HTTP/1.1 204 No Content\r\n\r\n")) as (upstream, server):
        reply = await ask(upstream, method, body=body)
        assert (reply.status, await reply.read(0)) == (204, b"")
    assert server.requests == [
        b"%s /openai/files HTTP/1.1\r\nhost: 127.0.0.1:%d\r\napi-key: not-for-anybody\r\n%s\r\n"
        % (method.encode(), server.port, tail)
    ]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/a%2Fb", ""),
        ("/a%2fb//c", "x=%2f&y=a+b%20c"),
        ("/a", "include[]=one&include[]=two&include%5B%5D=three"),
        ("/a:b;c=d,e", "filter='x'&q=(1)*~!$|^"),
        ("/a/%2e%2e/b", "a=?/b&c"),
    ],
)
async def test_a_target_goes_out_byte_for_byte(path: str, query: str) -> None:
    async with facing(replying(OK)) as (upstream, server):
        await (await ask(upstream, "GET", path=path, query=query)).read(2)
    target = f"{path}?{query}" if query else path
    assert server.requests[0].startswith(b"GET %s HTTP/1.1\r\n" % target.encode())


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("", ""),
        ("a", ""),
        ("/a/../b", ""),
        ("/a/./b", ""),
        ("/a?b", ""),
        ("/a?b", "c"),
        ("/a#b", ""),
        ("/a", "b#c"),
        ("/a b", ""),
        ("/a\r\nb", ""),
        ("/ä", ""),
        ("/a", "b=ä"),
    ],
)
async def test_a_target_that_would_be_rewritten_is_not_sent(path: str, query: str) -> None:
    async with facing(replying(OK)) as (upstream, server):
        with pytest.raises(ValueError, match="request target is not canonical"):
            await ask(upstream, "GET", path=path, query=query)
    assert server.connections == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[
            (name, b"1")
            for name in (
                b"api-key",
                b"Authorization",
                b"connection",
                b"content-length",
                b"Cookie",
                b"expect",
                b"host",
                b"te",
                b"transfer-encoding",
                b"upgrade",
                b"two words",
                b"a:b",
                b"a\r\nb",
                b"",
            )
        ],
        (b"x-a", b"1\r\nx-b: 2"),
        (b"x-a", b"\xff"),
        (b"x-a", b"\x00"),
    ],
)
async def test_a_header_that_is_ours_or_malformed_is_not_sent(name: bytes, value: bytes) -> None:
    async with facing(replying(OK)) as (upstream, server):
        with pytest.raises(ValueError, match="header `"):
            await ask(upstream, headers=[(name, value)])
    assert server.connections == 0


async def test_an_iterator_of_known_length_goes_out_with_its_length() -> None:
    async with facing(replying(OK)) as (upstream, server):
        await (await ask(upstream, body=pieces(b"ab", b"", b"cde"), content_length=5)).read(2)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.endswith(b"content-length: 5")
    assert b"transfer-encoding" not in head.lower()
    assert body == b"abcde"


async def test_an_iterator_of_unknown_length_goes_out_in_chunks() -> None:
    async with facing(replying(OK)) as (upstream, server):
        await (await ask(upstream, body=pieces(b"ab", b"", b"cde"))).read(2)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.lower().endswith(b"transfer-encoding: chunked")
    assert b"content-length" not in head.lower()
    assert body == b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"


@pytest.mark.parametrize("size", [32 * 1024, 32 * 1024 + 1, 3_000_000])
async def test_a_large_body_arrives_whole(size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    async with facing(replying(OK)) as (upstream, server):
        await (await ask(upstream, body=body[:size])).read(2)
        await (await ask(upstream, body=b"again")).read(2)
    assert server.requests[0].partition(b"\r\n\r\n")[2] == body[:size]
    assert (len(server.requests), server.connections) == (2, 1)


async def test_a_target_may_have_a_path_of_its_own() -> None:
    async with facing(replying(OK)) as (_, server):
        upstream = azure(f"{server.url}/api/projects/p", AzureTransport())
        await (await ask(upstream, "GET", path="/threads", query="api-version=v1")).read(2)
        with pytest.raises(ValueError, match="not canonical"):
            await ask(upstream, "GET", path="x/threads")
        await upstream.aclose()
    assert server.requests[0].startswith(b"GET /api/projects/p/threads?api-version=v1 HTTP/1.1\r\n")
    assert len(server.requests) == 1


async def test_the_credential_in_force_is_asked_for_at_every_request() -> None:
    async with facing(replying(OK)) as (_, server):
        targets = {"one": UpstreamTarget("one", server.url, Credential("api-key", "old"))}
        upstream = AzureUpstream(targets, AzureTransport())
        await (await ask(upstream)).read(2)
        bearer = Credential("authorization", "Bearer new")
        targets["one"] = UpstreamTarget("one", server.url, bearer)
        await (await ask(upstream)).read(2)
        with pytest.raises(KeyError):
            await upstream.send("two", method="GET", path="/", query="", headers=[], body=None)
        await upstream.aclose()
    assert b"\r\napi-key: old\r\n" in server.requests[0]
    assert b"\r\nauthorization: Bearer new\r\n" in server.requests[1]
    assert b"api-key" not in server.requests[1]


def test_a_credential_is_not_shown() -> None:
    target = UpstreamTarget("one", "https://x.openai.azure.com", Credential("api-key", SECRET))
    assert SECRET not in f"{target} {target!r} {target.credential}"


# ------------------------------------------------------------------------- what we do not do


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


# ------------------------------------------------------------------------------------ NotSent


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


# ---------------------------------------------------------------------------------------- TLS


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a certificate for 127.0.0.1 that vouches for itself, and its key."""
    openssl = shutil.which("openssl")
    needs_real("openssl", found=openssl is not None, how="apt-get install openssl")
    folder = tmp_path_factory.mktemp("tls")
    crt, key = folder / "server.crt", folder / "server.key"
    subprocess.run(
        [
            *(openssl or "", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=loopback", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(crt)),
        ],
        check=True,
        capture_output=True,
    )
    return crt, key


@pytest.fixture
def server_tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


async def test_a_server_of_a_private_authority_is_reached_when_it_is_trusted(
    certificate: tuple[Path, Path], server_tls: ssl.SSLContext
) -> None:
    trust = ssl.create_default_context(cafile=str(certificate[0]))
    async with facing(replying(OK), tls=server_tls, trust=trust) as (upstream, server):
        for _ in range(2):
            assert await (await ask(upstream, body=b"1")).read(2) == b"ok"
    assert (len(server.requests), server.connections) == (2, 1)


async def test_a_server_that_is_not_trusted_is_not_sent_to(server_tls: ssl.SSLContext) -> None:
    async with facing(replying(OK), tls=server_tls) as (upstream, server):
        with pytest.raises(NotSent, match="certificate"):
            await ask(upstream, body=b"1")
    assert server.requests == []


# ---------------------------------------------------------------------------------- MaybeSent


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


async def test_a_kept_connection_seen_to_close_is_not_used() -> None:
    gone = asyncio.Event()

    async def play(caller: Caller) -> None:
        await caller.request()
        await caller.send(OK)
        if caller.server.connections == 1:
            caller.writer.write_eof()
        await caller.rest()
        gone.set()

    async with facing(play) as (upstream, server):
        await (await ask(upstream)).read(2)
        await gone.wait()
        assert await (await ask(upstream)).read(2) == b"ok"
    assert (len(server.requests), server.connections) == (2, 2)


async def test_a_reset_of_an_idle_connection_is_nobodys_concern() -> None:
    begun, idle, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))

    async def play(caller: Caller) -> None:
        await caller.request()
        await caller.send(OK[:-1])
        await begun.wait()
        await caller.send(OK[-1:])
        await idle.wait()
        caller.reset()
        gone.set()

    async with facing(play) as (upstream, server):
        reply = await ask(upstream)
        begun.set()
        assert await reply.read(2) == b"ok"
        idle.set()
        await gone.wait()
        await loop_turns()
        reply = await ask(upstream)
        assert await reply.read(2) == b"ok"
        gc.collect()
        await loop_turns()
    assert server.connections == 2
    assert complaints == []


async def test_a_kept_connection_keeps_none_of_its_replies() -> None:
    begun: asyncio.Queue[None] = asyncio.Queue()

    async def play(caller: Caller) -> None:
        while True:
            await caller.request()
            await caller.send(OK[:-1])
            await begun.get()
            await caller.send(OK[-1:])

    async with facing(play) as (upstream, server):
        for _ in range(20):
            reply = await ask(upstream)
            begun.put_nowait(None)
            await reply.read(2)
        del reply
        gc.collect()
        kept = [thing for thing in gc.get_objects() if type(thing).__name__ == "ClientResponse"]
        assert kept == []
    assert (len(server.requests), server.connections) == (20, 1)


@pytest.mark.parametrize(
    "unasked",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoi",
        b"garbage\r\n\r\n",
    ],
)
async def test_what_arrives_on_an_idle_connection_is_nobodys_reply(unasked: bytes) -> None:
    idle, spoken = asyncio.Event(), asyncio.Event()

    async def play(caller: Caller) -> None:
        await caller.request()
        await caller.send(OK)
        if caller.server.connections == 1:
            await idle.wait()
            await caller.send(unasked)
            spoken.set()
        await caller.rest()

    async with facing(play) as (upstream, server):
        await (await ask(upstream)).read(2)
        idle.set()
        await spoken.wait()
        await loop_turns()
        reply = await ask(upstream)
        assert (reply.status, await reply.read(6)) == (200, b"ok")
    assert server.connections == 2


async def test_a_doubled_reply_is_read_once_and_its_connection_closed() -> None:
    async with facing(replying(OK + OK.replace(b"ok", b"no"))) as (upstream, server):
        for _ in range(2):
            assert await (await ask(upstream)).read(2) == b"ok"
    assert server.connections == 2


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


# -------------------------------------------------------------------------------- ReplyBroken


LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"


@pytest.mark.parametrize(
    ("beginning", "misdeed"),
    [
        pytest.param(LONG, Caller.close, id="length-closed"),
        pytest.param(LONG, Caller.reset, id="length-reset"),
        pytest.param(CHUNKED + b"3\r\nabc\r\n", Caller.close, id="chunked-closed"),
        pytest.param(CHUNKED + b"3\r\nabc\r\n", Caller.reset, id="chunked-reset"),
        pytest.param(
            CHUNKED + b"3\r\nabc\r\n", lambda c: c.writer.write(b"zz\r\n"), id="bad-chunk-size"
        ),
        pytest.param(
            CHUNKED + b"3\r\nabc", lambda c: c.writer.write(b"def\r\n"), id="chunk-too-long"
        ),
        pytest.param(CHUNKED + b"3\r\nabc\r\n", lambda _: None, id="silence"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nabc", Caller.reset, id="until-closed-reset"),
    ],
)
async def test_a_body_that_ends_badly_is_broken_after_what_came_of_it(
    beginning: bytes, misdeed: Callable[[Caller], None]
) -> None:
    seen = asyncio.Event()

    async def play(caller: Caller) -> None:
        await caller.request()
        await caller.send(beginning)
        await seen.wait()
        misdeed(caller)
        await caller.rest()

    async with facing(play, read_timeout_s=0.3) as (upstream, server):
        reply = await ask(upstream)
        chunks = reply.chunks()
        assert await anext(chunks) == b"abc"
        seen.set()
        with pytest.raises(ReplyBroken, match="reply broke off"):
            await anext(chunks)
        await reply.aclose()
    assert len(server.requests) == 1


async def test_a_reply_longer_than_asked_for_is_broken_and_its_connection_closed() -> None:
    gone = asyncio.Event()

    async def play(caller: Caller) -> None:
        await caller.request()
        await caller.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabcd")
        await caller.rest()
        gone.set()

    async with facing(play) as (upstream, _):
        with pytest.raises(ReplyBroken, match="longer than `3` bytes"):
            await (await ask(upstream)).read(3)
        await gone.wait()


# ------------------------------------------------------------------------------------ streams


async def test_a_reply_is_handed_over_as_it_arrives() -> None:
    turns: asyncio.Queue[bytes] = asyncio.Queue()

    async def play(caller: Caller) -> None:
        await caller.request()
        await caller.send(CHUNKED)
        while data := await turns.get():
            await caller.send(b"%x\r\n%s\r\n" % (len(data), data))
        await caller.send(b"0\r\n\r\n")
        await caller.rest()

    async with facing(play) as (upstream, _):
        reply = await ask(upstream, body=b"1")
        chunks = reply.chunks()
        for data in (b"data: 1\n\n", b"data: 2\n\n", b"data: [DONE]\n\n"):
            turns.put_nowait(data)
            assert await anext(chunks) == data
        turns.put_nowait(b"")
        with pytest.raises(StopAsyncIteration):
            await anext(chunks)


async def test_a_body_is_handed_over_once() -> None:
    async with facing(replying(OK)) as (upstream, _):
        reply = await ask(upstream)
        await reply.read(2)
        with pytest.raises(RuntimeError, match="taken before"):
            reply.chunks()


@pytest.mark.parametrize("begun", [False, True])
async def test_a_reply_let_go_before_its_end_closes_its_connection(begun: bool) -> None:
    gone = asyncio.Event()

    async def play(caller: Caller) -> None:
        await caller.request()
        await caller.send(CHUNKED + b"3\r\nabc\r\n")
        await caller.rest()
        gone.set()

    async with facing(play) as (upstream, server):
        reply = await ask(upstream)
        if begun:
            assert await anext(reply.chunks()) == b"abc"
        await reply.aclose()
        await gone.wait()
        await (await ask(upstream)).aclose()
    assert server.connections == 2


@pytest.mark.parametrize("stage", ["head", "body", "upload"])
async def test_a_cancelled_request_closes_its_connection(stage: str) -> None:
    reached, gone = asyncio.Event(), asyncio.Event()
    heard = bytearray()

    async def play(caller: Caller) -> None:
        await caller.head()
        if stage == "body":
            await caller.send(CHUNKED)
        if stage != "upload":
            reached.set()
        heard.extend(await caller.rest())
        gone.set()

    async def one(upstream: AzureUpstream) -> None:
        body = endless(reached) if stage == "upload" else None
        reply = await ask(upstream, body=body)
        async for _ in reply.chunks():
            pass

    async with facing(play) as (upstream, _), asyncio.TaskGroup() as group:
        task = group.create_task(one(upstream))
        await reached.wait()
        await loop_turns()
        task.cancel()
        await gone.wait()
    assert task.cancelled()
    assert not heard.endswith(b"0\r\n\r\n")


# ------------------------------------------------------------------------------------ uploads


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


# --------------------------------------------------------------------- in place of the network


HOST = "https://x.openai.azure.com"


def router() -> respx.MockRouter:
    return respx.MockRouter(assert_all_called=False)


async def test_a_test_puts_respx_in_the_place_of_the_network() -> None:
    mock = router()
    route = mock.post(f"{HOST}/openai/v1/responses", params={"api-version": "preview"}).respond(
        201, headers=[("X-B", "1"), ("x-b", "2")], content=b"made"
    )
    upstream = azure(HOST, httpx.MockTransport(mock.async_handler))
    for body in (b'{"a":1}', pieces(b'{"a"', b":1}")):
        reply = await ask(
            upstream, path="/openai/v1/responses", query="api-version=preview", body=body
        )
        assert (reply.status, await reply.read(4)) == (201, b"made")
        assert [value for name, value in reply.headers if name == b"x-b"] == [b"1", b"2"]
        sent = route.calls.last.request
        assert sent.content == b'{"a":1}'
        assert sent.headers["api-key"] == SECRET
    await upstream.aclose()


async def test_a_host_that_is_not_mocked_fails() -> None:
    mock = router()
    mock.get(f"{HOST}/known").respond(200)
    upstream = azure("https://other.openai.azure.com", httpx.MockTransport(mock.async_handler))
    with pytest.raises(AssertionError, match="not mocked"):
        await ask(upstream, "GET", path="/known")


@pytest.mark.parametrize("fault", [NotSent("no"), MaybeSent("perhaps")])
async def test_a_mocked_network_raises_our_faults(fault: Exception) -> None:
    mock = router()
    mock.get(f"{HOST}/a").mock(side_effect=fault)
    upstream = azure(HOST, httpx.MockTransport(mock.async_handler))
    with pytest.raises(type(fault)):
        await ask(upstream, "GET", path="/a")


async def test_a_global_respx_does_not_reach_the_real_transport() -> None:
    async with facing(replying(OK)) as (upstream, server):
        with respx.mock(assert_all_called=False) as mock:
            mock.route().respond(500)
            assert (await ask(upstream)).status == 200
    assert len(server.requests) == 1
