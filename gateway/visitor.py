"""A visitor: one connection, from its first byte to the answer, under the door's limits.

The parser is llhttp, by way of httptools and uvicorn. It refuses bare CR or LF, folded lines,
control characters and odd numbers by itself; what it lets through and we do not stands in `_faults`
and in the callbacks, which run inside the parser and refuse by raising.
"""

from __future__ import annotations

import asyncio
import json
import re
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http import httptools_impl as uvicorn_http
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.server import ServerState

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent, ASGISendEvent

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
LINGER_S = 5.0
LINGER_BYTES_MAX = 32 * 1024 * 1024
# What chunking may add to a body: sizes, extensions, line ends. One byte a chunk costs five more.
FRAMING_BYTES_MAX = 16 * 1024
FRAMING_BYTES_PER_BODY_BYTE_MAX = 8
REQUEST_LINE_BYTES = 64

_TARGET = re.compile(rb'/[!"$-\[\]-~]*')
_HOST = re.compile(rb"([A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """What one connection may send and how long it may take; None means without limit.

    `keep_alive_timeout_s` also limits how long a new connection may stay silent.
    """

    headers_max: int = 100
    header_bytes_max: int = 32_768
    target_bytes_max: int = 8_192
    header_timeout_s: float = 20
    body_idle_timeout_s: float = 60
    keep_alive_timeout_s: float = 75
    connections_max: int | None = None


class _Refusal(Exception):
    """The answer the door gives itself; raised out of parser callbacks."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def encode(self, default_headers: list[tuple[bytes, bytes]], *, is_head: bool) -> bytes:
        error = {"code": self.code, "message": self.message, "type": "invalid_request_error"}
        body = json.dumps({"error": {**error, "param": None}}).encode()
        headers = [*default_headers, (b"content-type", b"application/json")]
        headers += [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        if self.status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append((b"allow", ", ".join(METHODS).encode()))
        lines = [b"%b: %b\r\n" % header for header in headers]
        status_line = uvicorn_http.STATUS_LINE[self.status]
        return b"".join([status_line, *lines, b"\r\n", b"" if is_head else body])


def _malformed(reason: str) -> _Refusal:
    return _Refusal(400, "malformed_request", reason)


def _unknown_method() -> _Refusal:
    reason = f"the method is not one of `{', '.join(METHODS)}`"
    return _Refusal(405, "method_not_allowed", reason)


def _too_many_headers(limits: DoorLimits) -> _Refusal:
    reason = f"more than `{limits.headers_max}` headers or `{limits.header_bytes_max}` bytes"
    return _Refusal(431, "headers_too_large", reason)


def _faults(target: bytes, version: str, headers: list[tuple[bytes, bytes]]) -> Iterator[_Refusal]:
    """Yield what is wrong with a request head that the parser itself accepted."""
    if version not in ("1.0", "1.1"):
        yield _malformed("the protocol is neither `HTTP/1.1` nor `HTTP/1.0`")
    if _TARGET.fullmatch(target) is None:
        reason = "a path and query in printable ASCII, without host, fragment or backslash"
        yield _malformed(f"the request target must be {reason}")
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1:
        yield _malformed(f"exactly one `host` header is required, not `{len(hosts)}`")
    elif _HOST.fullmatch(hosts[0]) is None:
        yield _malformed("the `host` header is not a host name with an optional port")
    names = [name for name, _ in headers]
    if b"upgrade" in names:
        reason = "`upgrade` is not supported; speak plain `HTTP/1.1`"
        yield _Refusal(400, "upgrade_not_supported", reason)
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if codings and (codings != [b"chunked"] or version != "1.1"):
        yield _malformed("`transfer-encoding` must be exactly `chunked`, on `HTTP/1.1`")
    if names.count(b"content-length") + len(codings) > 1:
        yield _malformed("the body's length is given more than once")


class _Exchange(uvicorn_http.RequestResponseCycle):
    """One request and its answer, as uvicorn's cycle with a body deadline and a lingering end."""

    def __init__(self, visitor: Visitor) -> None:
        version = visitor.parser.get_http_version()
        super().__init__(
            scope=visitor.scope,
            transport=visitor.transport,
            flow=visitor.flow,
            logger=visitor.logger,
            access_logger=visitor.access_logger,
            access_log=False,
            default_headers=visitor.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=visitor.expect_100_continue and version != "1.0",
            keep_alive=version != "1.0" and visitor.parser.should_keep_alive(),
            on_response=visitor.on_response_complete,
        )
        self.visitor = visitor

    async def receive(self) -> ASGIReceiveEvent:
        if not self.more_body or self.message_event.is_set():
            return await super().receive()
        limit_s = self.visitor.limits.body_idle_timeout_s
        late = _Refusal(408, "request_timeout", f"no byte of the body came for `{limit_s:g}` s")
        timer = self.visitor.loop.call_later(limit_s, self.visitor.refuse, late)
        try:
            return await super().receive()
        finally:
            timer.cancel()

    async def send(self, message: ASGISendEvent) -> None:
        if not self.response_started and self.more_body:
            self.keep_alive = False  # Says `connection: close`: the rest of the body is not read.
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if is_last and (self.more_body or self.visitor.is_deaf):
            self.keep_alive = True  # Keeps uvicorn from closing at once; the visitor lingers.
        await super().send(message)


class Visitor(uvicorn_http.HttpToolsProtocol):
    """One connection. Callbacks run inside the parser and refuse by raising."""

    def __init__(
        self, config: Config, state: ServerState, limits: DoorLimits, gone: asyncio.Event
    ) -> None:
        super().__init__(config, state, {}, asyncio.get_running_loop())
        self.limits = limits
        self._gone = gone
        self.is_deaf = False
        self._exchange: _Exchange | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.url = self._held = self._first_byte = b""
        self._discarded_bytes = 0
        self._head_bytes = self._header_bytes = 0
        self._body_wire_bytes = self._body_bytes = 0

    @property
    def is_busy(self) -> bool:
        """Whether the app still owes an answer that can reach the wire."""
        exchange = self._exchange
        return not (exchange is None or exchange.response_complete or exchange.disconnected)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        maximum = self.limits.connections_max
        if maximum is not None and len(self.connections) > maximum:
            reason = f"all `{maximum}` connections are in use; try again later"
            self.refuse(_Refusal(503, "gateway_unavailable", reason))
            transport.close()
        else:
            self._watch(self.limits.keep_alive_timeout_s, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch(None)
        super().connection_lost(exc)
        self._gone.set()

    def data_received(self, data: bytes) -> None:
        if self.is_deaf:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > LINGER_BYTES_MAX:
                self.transport.abort()
        elif not self.is_busy:
            self._read_head(data)
        elif self.cycle.more_body:
            self._body_wire_bytes += len(data)
            self._feed(data)
        else:
            self._held += data
            if len(self._held) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()

    def _read_head(self, data: bytes) -> None:
        is_new = self._head_bytes == 0
        if is_new:
            # Empty lines before a request are to be ignored, and must not start its deadline.
            data = data.lstrip(b"\r\n")
            if not data:
                return
            self._first_byte = data[:1]
        self._head_bytes += len(data)
        self._feed(data)
        if is_new and not self.is_busy and not self.is_deaf:
            limit_s = self.limits.header_timeout_s
            reason = f"the request head was not complete within `{limit_s:g}` s"
            late = _Refusal(408, "request_timeout", reason)
            self._watch(limit_s, lambda: self.refuse(late))

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
            self._check_unfinished()
        except _Refusal as refusal:
            self.refuse(refusal)
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, _Refusal):
                raise
            self.refuse(error.__context__)
        except httptools.HttpParserInvalidMethodError:
            is_text = self._first_byte.isalpha()
            self.refuse(_unknown_method() if is_text else _malformed("this is not HTTP"))
        except httptools.HttpParserError:
            self.refuse(_malformed("the request is not well-formed HTTP/1.1"))

    def _check_unfinished(self) -> None:
        """Bound what the parser keeps to itself: a head, or a trailer or chunk extension."""
        if not self.is_busy:
            overhead_bytes = REQUEST_LINE_BYTES + len(self.url)
            if self._head_bytes > self.limits.header_bytes_max + overhead_bytes:
                raise _too_many_headers(self.limits)
        elif self._body_wire_bytes > (
            FRAMING_BYTES_MAX + (1 + FRAMING_BYTES_PER_BODY_BYTE_MAX) * self._body_bytes
        ):
            raise _malformed("the body consists mostly of chunk framing")

    def on_message_begin(self) -> None:
        if self.is_busy:
            raise _malformed("a second request came before the first was answered")
        super().on_message_begin()
        self._header_bytes = self._body_wire_bytes = self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        most = self.limits.target_bytes_max
        if len(self.url) > most:
            reason = f"the request target is longer than `{most}` bytes"
            raise _Refusal(414, "target_too_long", reason)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.is_busy:
            raise _malformed("trailers after the body are not accepted; send them as headers")
        self._header_bytes += len(name) + len(value) + len(b": \r\n")
        super().on_header(name, value.strip(b" \t"))
        is_many = len(self.headers) > self.limits.headers_max
        if is_many or self._header_bytes > self.limits.header_bytes_max:
            raise _too_many_headers(self.limits)

    def on_headers_complete(self) -> None:
        method = self.parser.get_method().decode("ascii")
        if method not in METHODS:
            raise _unknown_method()
        version = self.parser.get_http_version()
        for refusal in _faults(self.url, version, self.headers):
            raise refusal
        raw_path, _, query = self.url.partition(b"?")
        # INVARIANT: path, query and headers of the scope are what stood on the wire, once and for
        # all; the tuple is a copy, so nothing the parser reports later can enter it.
        cast(dict[str, Any], self.scope).update(
            method=method,
            http_version=version,
            raw_target=self.url,
            raw_path=raw_path,
            path=urllib.parse.unquote(raw_path.decode("ascii")),
            query_string=query,
            headers=tuple(self.headers),
        )
        self._watch(None)
        self._head_bytes = 0
        self.cycle = self._exchange = _Exchange(self)
        self._start_asgi_task(self.cycle, self.app)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.is_deaf or self.cycle.more_body:
            self._linger()
            return
        self.flow.resume_reading()
        self._watch(self.limits.keep_alive_timeout_s, self.transport.close)
        held, self._held = self._held, b""
        self.data_received(held)

    def refuse(self, refusal: _Refusal) -> None:
        """Answer in the app's stead, if it owes an answer and has not begun; end the connection."""
        exchange = self._exchange
        if self.transport.is_closing():
            return
        if exchange is not None and self.is_busy:
            if not exchange.more_body:
                # The fault is in what follows a good request, which still gets its answer.
                self.is_deaf, exchange.keep_alive = True, False
                return
            exchange.disconnected, exchange.waiting_for_100_continue = True, False
            exchange.message_event.set()
            if exchange.response_started:
                self.transport.abort()
                return
        is_head = bool(self.url) and self.parser.get_method() == b"HEAD"
        self.transport.write(refusal.encode(self.server_state.default_headers, is_head=is_head))
        self._linger()

    def _linger(self) -> None:
        self.is_deaf = True
        self._held = b""
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._watch(LINGER_S, self.transport.abort)

    def _watch(self, delay_s: float | None, act: Callable[[], None] = lambda: None) -> None:
        """Do `act` after `delay_s` instead of what was planned; None plans nothing."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if delay_s is None else self.loop.call_later(delay_s, act)
