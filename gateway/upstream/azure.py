"""Requests to Azure and their replies, as the street sees them: canonical targets, our credential.

Requests and replies are httpx's, so that a test can put `httpx.MockTransport` in the place of the
network.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import httpx

from gateway.upstream.faults import NotSent, ReplyBroken
from gateway.upstream.transport import Chunks

Headers = Sequence[tuple[bytes, bytes]]

_URLS_KEPT = 1024
_TOKEN_BYTES_MAX = 64 * 1024

# What we set ourselves, what belongs to one connection, and what makes aiohttp act (`expect`).
_OURS = frozenset(
    b"api-key authorization connection content-length cookie expect host keep-alive "
    b"proxy-authorization proxy-connection te trailer transfer-encoding upgrade".split()
)
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_VALUE = re.compile(rb"[\t\x20-\x7e]*").fullmatch
_TOKEN = re.compile(rb"[\x21-\x7e]+").fullmatch


@dataclass(frozen=True, slots=True)
class Credential:
    """What we show Azure: (`api-key`, key) or (`authorization`, `Bearer …`). Its repr hides it."""

    header: str
    value: str = field(repr=False)


class TokenFile:
    """A bearer token that somebody else keeps fresh in a file; it is read again when that changes.

    Its repr shows the path only. Raises NotSent while the file holds no token.
    """

    header = "authorization"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._value = ""

    @property
    def value(self) -> str:
        """The header's value, as of the file's last change."""
        try:
            found = self._path.stat()
            seen = (found.st_mtime_ns, found.st_ino, found.st_size)
            if seen != self._seen:
                self._value, self._seen = self._read(), seen
        except OSError:
            raise NotSent("the token file cannot be read") from None
        return self._value

    def _read(self) -> str:
        token = self._path.read_bytes()[:_TOKEN_BYTES_MAX].strip()
        if _TOKEN(token) is None:
            raise NotSent("the token file holds no token")
        return f"Bearer {token.decode('ascii')}"

    def __repr__(self) -> str:
        return f"TokenFile({str(self._path)!r})"


@dataclass(frozen=True, slots=True)
class UpstreamTarget:
    """One Azure resource; `base_url` is scheme and host, perhaps a path, without a last slash."""

    name: str
    base_url: str
    credential: Credential | TokenFile


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
            stream = Chunks(body, content_length)
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
