"""The network below `azure`: httpx's transport interface over aiohttp's pool.

Everything is taken off that aiohttp does of its own accord: it sends an idempotent request twice
when a kept connection turns out closed (see `_once`), hands what arrived on an idle connection to
the next request as its reply (see `_Pool`), keeps cookies, follows redirects and adds headers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from functools import lru_cache
from typing import TYPE_CHECKING

import aiohttp
import httpx
from aiohttp.payload import Payload
from yarl import URL

from gateway.upstream.faults import MaybeSent, NotSent, ReplyBroken

if TYPE_CHECKING:
    import ssl

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

HEAD_BYTES_MAX = 64 * 1024
_HEADERS_MAX = 256
# Less than a transport takes without asking its writer to wait, and so never in need of a timeout.
_WRITE_BYTES = 32 * 1024
# How much of a reply is handed on at once. What is kept for a reader who is slower than Azure is a
# few of these and what the pool reads ahead: about 1 MiB in all.
_READ_BYTES = 64 * 1024
_KEEPALIVE_S = 15.0
_URLS_KEPT = 1024
_TAINTED_MAX = 16


class Chunks(httpx.AsyncByteStream):
    """A caller's iterator as the stream of a request, held to the length that was said.

    `failure` is what the iterator raised, or that it was not of that length.
    """

    def __init__(self, chunks: AsyncIterator[bytes], length: int | None) -> None:
        self.failure: BaseException | None = None
        self._chunks = chunks
        self._length = length

    async def __aiter__(self) -> AsyncIterator[bytes]:
        sent, length = 0, self._length
        try:
            async for chunk in self._chunks:
                sent += len(chunk)
                if length is not None and sent > length:
                    raise ValueError(f"body is longer than the announced `{length}` bytes")
                if chunk:
                    yield chunk
            if length not in (None, sent):
                raise ValueError(f"body ended at `{sent}` of the announced `{length}` bytes")
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as failure:
            self.failure = failure
            raise
        finally:
            if isinstance(self._chunks, AsyncGenerator):
                await self._chunks.aclose()


class AzureTransport(httpx.AsyncBaseTransport):
    """httpx's transport interface over a pool of aiohttp.

    `connect_timeout_s` covers name, address, TLS and the wait for a place in the pool;
    `read_timeout_s` is the longest silence: before the head, between two parts of a body, and while
    the upstream does not take in what we send. A head may have `HEAD_BYTES_MAX` bytes; a longer one
    is `MaybeSent`, and so is one that arrives in one piece with a malformed body. 0 connections
    means no limit. A connection is kept for 15 idle seconds.
    """

    def __init__(
        self,
        *,
        connect_timeout_s: float = 10,
        read_timeout_s: float = 600,
        total_connections: int = 0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=connect_timeout_s, sock_read=read_timeout_s
        )
        self._read_timeout_s = read_timeout_s
        self._total_connections = total_connections
        self._ssl: ssl.SSLContext | bool = ssl_context or True
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` once; return its reply as soon as the head is here.

        Raises:
            NotSent, MaybeSent: as `AzureUpstream.send`.
            ReplyBroken: by the reply's stream.
        """
        if self._closed:
            raise NotSent("the transport is closed")
        session = self._session or self._open()
        # aiohttp decides on chunked coding itself and refuses to be told.
        headers = [
            (name.decode("ascii"), value.decode("ascii"))
            for name, value in request.headers.raw
            if name.lower() != b"transfer-encoding"
        ]
        url = _wire_url(str(request.url))
        data = _outgoing(request.stream, stall_s=self._read_timeout_s)
        try:
            reply = await session.request(
                request.method, url, headers=headers, data=data, allow_redirects=False
            )
        except MaybeSent:
            failure = request.stream.failure if isinstance(request.stream, Chunks) else None
            if failure is None:
                raise
        else:
            return await _usable(reply)
        # Not from within the pool: it would take an OSError of the iterator for its own.
        raise failure

    async def aclose(self) -> None:
        """Close every connection; a request after this is `NotSent`."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        # Not before the first request, because a session belongs to the running event loop.
        limit = self._total_connections
        self._session = aiohttp.ClientSession(
            connector=_Pool(limit=limit, ssl=self._ssl, keepalive_timeout=_KEEPALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            auto_decompress=False,
            trust_env=False,
            timeout=self._timeout,
            max_field_size=HEAD_BYTES_MAX,
            max_headers=_HEADERS_MAX,
            middlewares=(_once,),
        )
        return self._session


@lru_cache(maxsize=_URLS_KEPT)
def _wire_url(url: str) -> URL:
    return URL(url, encoded=True)


class _Pool(aiohttp.TCPConnector):
    """A pool that never lends out a connection on which something arrived unasked.

    aiohttp parses such bytes (a late 408, the second half of a doubled reply) as they come and
    would give them to the next request as its reply, whosever that is.
    """

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 the name is aiohttp's
    ) -> Connection:
        for _ in range(_TAINTED_MAX):
            connection = await super().connect(req, traces, timeout)
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        raise NotSent(f"`{req.url.host}` speaks before it is spoken to")


async def _once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Translate every fault of one attempt, which also makes it the only one.

    aiohttp repeats GET, PUT and DELETE when it sees `ClientOSError` or `ServerDisconnectedError`.
    Middleware stands inside that loop, and the loop does not know our exceptions.
    """
    fault: NotSent | MaybeSent
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        fault = NotSent(f"no connection to `{request.url.host}`: {_why(error)}")
    except (aiohttp.ClientError, OSError) as error:
        fault = MaybeSent(f"no reply from `{request.url.host}`: {_why(error)}")
    # Raised out here, on its own: aiohttp's exceptions carry the request's headers and our key.
    raise fault


async def _usable(reply: aiohttp.ClientResponse) -> httpx.Response:
    """Return the reply as httpx's, or raise MaybeSent if its head is none we can pass on."""
    body = _Incoming(reply)
    head_bytes = sum(len(name) + len(value) + 4 for name, value in reply.raw_headers)
    if head_bytes > HEAD_BYTES_MAX or reply.status == 101:
        await body.aclose()
        raise MaybeSent(f"reply head `{reply.status}` of `{head_bytes}` bytes is not usable")
    return httpx.Response(reply.status, headers=reply.raw_headers, stream=body)


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def _outgoing(
    stream: httpx.SyncByteStream | httpx.AsyncByteStream, *, stall_s: float
) -> bytes | _Upload | None:
    """Return a request's body in the form aiohttp is given it."""
    if isinstance(stream, httpx.ByteStream):
        body = b"".join(stream)
        if len(body) <= _WRITE_BYTES:
            return body or None
        return _Upload(_slices(body), stall_s=stall_s)
    if not isinstance(stream, httpx.AsyncByteStream):
        raise TypeError("the request's body cannot be read asynchronously")
    return _Upload(aiter(stream), stall_s=stall_s)


async def _slices(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), _WRITE_BYTES):
        yield body[start : start + _WRITE_BYTES]


class _Upload(Payload):
    """A body sent piece by piece; one that cannot be sent whole takes its connection down.

    Closing gently would first wait for the peer to take in what is left, perhaps for ever.
    """

    def __init__(self, source: AsyncIterator[bytes], *, stall_s: float) -> None:
        super().__init__(source)
        self._source = source
        self._stall_s = stall_s

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        # Asked for now: a cancelled request has let go of its transport when we hear of it.
        transport = writer.transport
        try:
            async for chunk in self._source:
                async with asyncio.timeout(self._stall_s):
                    await writer.write(chunk)
                    await writer.drain()
        except BaseException:
            if transport is not None:
                transport.abort()
            raise
        finally:
            if isinstance(self._source, AsyncGenerator):
                await self._source.aclose()

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("an upload is sent once and kept nowhere")


def _heard(closed: asyncio.Future[None]) -> bool:
    """Return whether a connection ended in peace; one that nobody asks about is logged."""
    return not closed.cancelled() and closed.exception() is None


class _Incoming(httpx.AsyncByteStream):
    """The body of a reply as it arrives.

    aiohttp does not tell a reader that a later chunk was malformed, whom it then leaves waiting
    without a timeout, nor that the connection was reset which alone marks the end of a reply. Both
    are seen from the connection's own end.
    """

    def __init__(self, reply: aiohttp.ClientResponse) -> None:
        self._reply = reply
        self._torn = False
        protocol = reply.connection.protocol if reply.connection is not None else None
        closed = protocol.closed if protocol is not None else None
        if closed is None:  # Nothing more can come: the reply is here in one piece.
            return

        def forget() -> None:
            closed.remove_done_callback(self._lost)

        # The future lives as long as the connection: it keeps one `_heard` and no replies.
        closed.remove_done_callback(_heard)
        closed.add_done_callback(_heard)
        closed.add_done_callback(self._lost)
        reply.content.on_eof(forget)

    def _lost(self, closed: asyncio.Future[None]) -> None:
        self._torn = not _heard(closed)
        content = self._reply.content
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("malformed"))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while chunk := await self._reply.content.read(_READ_BYTES):
                yield chunk
            if self._torn:
                raise ReplyBroken("reply broke off: its connection was reset")
        except (aiohttp.ClientError, OSError) as error:
            raise ReplyBroken(f"reply broke off: {_why(error)}") from None
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        # Without effect on a connection whose reply came to its end: that is back in the pool.
        self._reply.close()
