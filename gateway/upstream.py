"""Azure, as far as this program is concerned: the only module that talks to it.

What a caller of `AzureUpstream.send` must know afterwards is not why a request failed but whether
Azure may be working on it: that decides whether it may be repeated and whether money may have been
spent. So there are three faults and no others:

* `NotSent`: nothing was written. Everything before the connection stands: name, address, TLS, the
  wait for a place in the pool. It may be repeated.
* `MaybeSent`: writing may have begun and no usable reply head came. Every fault that is not known
  to be of the first kind is of this one, also those nobody thought of.
* `ReplyBroken`: the head was handed over and the body ended badly.

Requests and replies are httpx's, so that a test can put `httpx.MockTransport` in the place of the
network. The network itself is aiohttp's pool, with everything taken off that it does of its own
accord: it sends an idempotent request twice when a kept connection turns out closed (see `_once`),
hands what arrived on an idle connection to the next request as its reply (see `_Pool`), keeps
cookies, follows redirects and adds headers.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import aiohttp
import httpx
from aiohttp.payload import Payload
from yarl import URL

if TYPE_CHECKING:
    import ssl

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

Headers = Sequence[tuple[bytes, bytes]]

HEAD_BYTES_MAX = 64 * 1024
_HEADERS_MAX = 256
# Less than a transport takes without asking its writer to wait, and so never in need of a timeout.
_WRITE_BYTES = 32 * 1024
_KEEPALIVE_S = 15.0
_URLS_KEPT = 1024
_TAINTED_MAX = 16

# What we set ourselves, what belongs to one connection, and what makes aiohttp act (`expect`).
_OURS = frozenset(
    b"api-key authorization connection content-length cookie expect host keep-alive "
    b"proxy-authorization proxy-connection te trailer transfer-encoding upgrade".split()
)
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_VALUE = re.compile(rb"[\t\x20-\x7e]*").fullmatch


class NotSent(Exception):
    """Certainly nothing of the request reached the upstream; it may be repeated."""


class MaybeSent(Exception):
    """Bytes may have reached the upstream, and no usable reply head was received."""


class ReplyBroken(Exception):
    """The reply head was received and its body ended badly, or is longer than was asked for."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What we show Azure: (`api-key`, key) or (`authorization`, `Bearer …`). Its repr hides it."""

    header: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class UpstreamTarget:
    """One Azure resource; `base_url` is scheme and host, perhaps a path, without a last slash."""

    name: str
    base_url: str
    credential: Credential


class Reply:
    """A reply whose head is here: `status`, and `headers` as sent, their names lower-cased.

    Whoever holds it reads it to its end or calls `aclose`.
    """

    __slots__ = ("_stream", "_taken", "headers", "status")

    def __init__(self, response: httpx.Response) -> None:
        if not isinstance(response.stream, httpx.AsyncByteStream):
            raise TypeError("the transport's reply cannot be read asynchronously")
        self.status: int = response.status_code
        self.headers: Headers = [(name.lower(), value) for name, value in response.headers.raw]
        self._stream = response.stream
        self._taken = False

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the body as it arrives, not decoded; to be asked for once.

        Raises:
            ReplyBroken: while iterating: the body was cut short, is malformed or fell silent.
        """
        if self._taken:
            raise RuntimeError("the reply's body was taken before")
        self._taken = True
        return aiter(self._stream)

    async def read(self, limit_bytes: int) -> bytes:
        """Return the whole body.

        Raises:
            ReplyBroken: as `chunks`, or it is longer than `limit_bytes`; the rest is not read.
        """
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > limit_bytes:
                await self.aclose()
                raise ReplyBroken(f"reply is longer than `{limit_bytes}` bytes")
        return bytes(body)

    async def aclose(self) -> None:
        """Let go of the reply; before its end this closes the connection, and Azure sees that."""
        await self._stream.aclose()


class AzureUpstream:
    """Sends the street's requests to the resources in `targets`, which is consulted every time."""

    def __init__(
        self, targets: Mapping[str, UpstreamTarget], transport: httpx.AsyncBaseTransport
    ) -> None:
        self._targets = targets
        self._transport = transport

    async def send(
        self,
        upstream: str,
        *,
        method: str,
        path: str,
        query: str,
        headers: Headers,
        body: bytes | AsyncIterator[bytes] | None,
        content_length: int | None = None,
    ) -> Reply:
        """Send one request once; return its reply as soon as the head is here.

        `path` and `query` (without its `?`) go out byte for byte. Beside `headers` Azure sees the
        host, our credential, and a content length or chunked coding. An iterator's own exception
        aborts the request and is raised as it is; a cancelled call closes the connection. After
        anything but `NotSent`, Azure may have the request.

        Raises:
            NotSent: nothing was written.
            MaybeSent: something may have been, and no usable reply head came.
            KeyError: there is no such upstream.
            ValueError: the target is not canonical, a header is ours to set or malformed, or the
                body is not as long as was said.
        """
        target = self._targets[upstream]
        url, host = _target_url(target.base_url, path, query)
        credential = target.credential
        fields = [
            (b"host", host),
            *_checked(headers),
            (credential.header.encode("ascii"), credential.value.encode("ascii")),
        ]
        stream: httpx.AsyncByteStream
        if body is None or isinstance(body, bytes):
            stream = httpx.ByteStream(body or b"")
            length = len(body or b"")
            if content_length not in (None, length):
                raise ValueError(f"body has `{length}` bytes, not `{content_length}`")
            if body is not None or method not in ("GET", "HEAD"):
                fields.append((b"content-length", b"%d" % length))
        else:
            stream = _Chunks(body, content_length)
            if content_length is None:
                fields.append((b"transfer-encoding", b"chunked"))
            else:
                fields.append((b"content-length", b"%d" % content_length))
        request = httpx.Request(method, url, headers=fields, stream=stream)
        return Reply(await self._transport.handle_async_request(request))

    async def aclose(self) -> None:
        """Close the transport and every connection it keeps."""
        await self._transport.aclose()


@lru_cache(maxsize=_URLS_KEPT)
def _target_url(base_url: str, path: str, query: str) -> tuple[httpx.URL, bytes]:
    """Return the URL and its host header, or raise ValueError if it would not go out as given."""
    target = f"{path}?{query}" if query else path
    wanted = httpx.URL(base_url).raw_path.rstrip(b"/") + target.encode()
    try:
        url = httpx.URL(base_url + target)
    except httpx.InvalidURL:
        raise ValueError("request target is not canonical") from None
    if not path.startswith("/") or "?" in path or url.raw_path != wanted:
        raise ValueError("request target is not canonical")
    return url, url.netloc


def _checked(headers: Headers) -> Headers:
    """Return `headers`, or raise ValueError naming the first that must not be sent."""
    for name, value in headers:
        if not _NAME(name) or name.lower() in _OURS:
            raise ValueError(f"header `{name.decode('ascii', 'replace')}` is not the caller's")
        if not _VALUE(value):
            raise ValueError(f"header `{name.decode('ascii')}` holds more than printable ascii")
    return headers


class _Chunks(httpx.AsyncByteStream):
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
            failure = request.stream.failure if isinstance(request.stream, _Chunks) else None
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
            max_line_size=HEAD_BYTES_MAX,
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
            async with asyncio.timeout(self._stall_s):
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
        if protocol is None:
            return
        closed = protocol.closed
        if closed is None:
            self._give_up()
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
        self._give_up()

    def _give_up(self) -> None:
        content = self._reply.content
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("malformed"))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while chunk := await self._reply.content.readany():
                yield chunk
            if self._torn:
                raise ReplyBroken("reply broke off: its connection was reset")
        except (aiohttp.ClientError, OSError) as error:
            raise ReplyBroken(f"reply broke off: {_why(error)}") from None
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        # Not gently either: a reply nobody wants would be taken in and thrown away.
        if not self._reply.closed:
            connection = self._reply.connection
            if connection is not None and connection.transport is not None:
                connection.transport.abort()
            self._reply.close()
