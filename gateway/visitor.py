"""A visitor: one connection, from its first byte to the answer, under the door's limits.

The parser is llhttp, by way of httptools and uvicorn. Callbacks run inside the parser and refuse
by raising; what is refused stands in `bounds`.

Whoever does not read his answer cannot keep his connection: once there is nothing more to be said
to him, it is cut as soon as he has taken nothing for a while.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http import httptools_impl as uvicorn_http
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.server import ServerState

from gateway.bounds import (
    METHODS,
    Cancellable,
    DoorLimits,
    DoorRefusal,
    Timers,
    faults,
    malformed,
    too_late,
    too_many_headers,
    unknown_method,
)
from gateway.closing import ClosingCycle
from gateway.core.proxies import Proxies

if TYPE_CHECKING:
    from starlette.types import ASGIApp
    from uvicorn._types import ASGIReceiveEvent, ASGISendEvent

LINGER_S = 5.0
LINGER_BYTES_MAX = 32 * 1024 * 1024
# What chunking may add to a body: sizes, extensions, line ends. One byte a chunk costs five more.
FRAMING_BYTES_MAX = 16 * 1024
FRAMING_BYTES_PER_BODY_BYTE_MAX = 8
REQUEST_LINE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms on which a door lets anybody in.

    Deadlines pass by `timers`; `on_refusal` hears the reason of every refusal, `gone` is set
    whenever a visitor has left.
    """

    limits: DoorLimits
    proxies: Proxies
    timers: Timers
    on_refusal: Callable[[str], None]
    gone: asyncio.Event = field(default_factory=asyncio.Event)


_FRAMING = (b"content-length", b"transfer-encoding")


class _Exchange(ClosingCycle):
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
        self._waited_s = 0.0

    async def run_asgi(self, app: ASGIApp) -> None:  # type: ignore[override]
        try:
            await super().run_asgi(app)
        finally:
            if not (self.response_complete or self.disconnected):
                self.visitor.leave(LINGER_S)  # The app broke off: nothing more will be said.

    async def receive(self) -> ASGIReceiveEvent:
        if not self.more_body or self.message_event.is_set():
            return await super().receive()
        visitor, limits = self.visitor, self.visitor.limits
        limit_s = limits.body_wait_s(visitor.body_bytes, self._waited_s)
        late = too_late(
            f"no byte of the body came for `{limits.body_idle_timeout_s:g}` s, or on the whole "
            f"fewer than `{limits.body_bytes_per_s_min}` a second"
        )
        timers = visitor.terms.timers
        timer, began = timers.plan(limit_s, lambda: visitor.refuse(late)), timers.time()
        try:
            return await super().receive()
        finally:
            timer.cancel()
            self._waited_s += timers.time() - began

    async def send(self, message: ASGISendEvent) -> None:
        if not self.response_started and self.more_body:
            self.keep_alive = False  # Says `connection: close`: the rest of the body is not read.
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if is_last and (self.more_body or self.visitor.is_deaf):
            self.keep_alive = True  # Keeps uvicorn from closing at once; the visitor lingers.
        await super().send(message)


class Visitor(uvicorn_http.HttpToolsProtocol):
    """One connection. Callbacks run inside the parser and refuse by raising."""

    def __init__(self, config: Config, state: ServerState, terms: Terms) -> None:
        super().__init__(config, state, {}, asyncio.get_running_loop())
        self.terms, self.limits = terms, terms.limits
        self._patience_s = terms.limits.unread_timeout_s
        self.is_deaf = self._is_retelling = False
        self._exchange: _Exchange | None = None
        self._timer: Cancellable | None = None
        self.url = self._held = self._first_byte = b""
        self._discarded_bytes = 0
        self._head_bytes = self._header_bytes = 0
        self._body_wire_bytes = self.body_bytes = 0

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
            self.refuse(DoorRefusal(503, "gateway_unavailable", reason))
            transport.close()
        else:
            self._watch(self.limits.keep_alive_timeout_s, self._close_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch(None)
        super().connection_lost(exc)
        self.terms.gone.set()

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
            late = too_late(reason)
            self._watch(limit_s, lambda: self.refuse(late))

    def _feed(self, data: bytes) -> None:
        rest = b""
        try:
            self.parser.feed_data(data)
            self._check_unfinished()
        except httptools.HttpParserUpgrade as offer:
            self._ignore_offer()
            rest = data[offer.args[0] :]
        except DoorRefusal as refusal:
            self.refuse(refusal)
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, DoorRefusal):
                raise
            self.refuse(error.__context__)
        except httptools.HttpParserInvalidMethodError:
            is_text = self._first_byte.isalpha()
            self.refuse(unknown_method() if is_text else malformed("this is not HTTP"))
        except httptools.HttpParserError:
            self.refuse(malformed("the request is not well-formed HTTP/1.1"))
        if rest:
            self._feed(rest)

    def _ignore_offer(self) -> None:
        """Read on as if no upgrade had been offered.

        llhttp ends such a message with its head, whatever length it gives, and would read the
        body as the next request. So the framing of the head is told to another parser, without
        the offer, and that one reads the body and whatever comes after it.
        """
        told = [header for header in self.headers if header[0] in _FRAMING]
        if not self.parser.should_keep_alive():
            told.append((b"connection", b"close"))
        lines = b"".join(b"%b: %b\r\n" % header for header in told)
        head = b"%b / HTTP/1.1\r\n%b\r\n" % (self.parser.get_method(), lines)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._is_retelling = True
        self.parser.feed_data(head)
        self._is_retelling = False

    def _check_unfinished(self) -> None:
        """Bound what the parser keeps to itself: a head, or a trailer or chunk extension."""
        if not self.is_busy:
            overhead_bytes = REQUEST_LINE_BYTES + len(self.url)
            if self._head_bytes > self.limits.header_bytes_max + overhead_bytes:
                raise too_many_headers(self.limits)
        elif self._body_wire_bytes > (
            FRAMING_BYTES_MAX + (1 + FRAMING_BYTES_PER_BODY_BYTE_MAX) * self.body_bytes
        ):
            raise malformed("the body consists mostly of chunk framing")

    def on_message_begin(self) -> None:
        if self._is_retelling:
            return
        if self.is_busy:
            raise malformed("a second request came before the first was answered")
        super().on_message_begin()
        self._header_bytes = self._body_wire_bytes = self.body_bytes = 0

    def on_url(self, url: bytes) -> None:
        if self._is_retelling:
            return
        super().on_url(url)
        most = self.limits.target_bytes_max
        if len(self.url) > most:
            reason = f"the request target is longer than `{most}` bytes"
            raise DoorRefusal(414, "target_too_long", reason)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_retelling:
            return
        if self.is_busy:
            raise malformed("trailers after the body are not accepted; send them as headers")
        self._header_bytes += len(name) + len(value) + len(b": \r\n")
        super().on_header(name, value.strip(b" \t"))
        is_many = len(self.headers) > self.limits.headers_max
        if is_many or self._header_bytes > self.limits.header_bytes_max:
            raise too_many_headers(self.limits)

    def on_headers_complete(self) -> None:
        if self._is_retelling:
            return
        method = self.parser.get_method().decode("ascii")
        if method not in METHODS:
            raise unknown_method()
        version = self.parser.get_http_version()
        for refusal in faults(self.url, version, self.headers):
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
            client=self._client(),
        )
        self._watch(None)
        self._head_bytes = 0
        self.cycle = self._exchange = _Exchange(self)
        self._start_asgi_task(self.cycle, self.app)

    def _client(self) -> tuple[str, int] | None:
        """Return who asks; the port is 0 where only a proxy could know it."""
        if self.client is None:
            return None
        forwarded = [value for name, value in self.headers if name == b"x-forwarded-for"]
        address = self.terms.proxies.client(self.client[0], forwarded)
        return self.client if address == self.client[0] else (address, 0)

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():  # Else llhttp says so before the body; see above.
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self.leave(self._patience_s)
            return
        if self.is_deaf or self.cycle.more_body:
            self._linger()
            return
        self.flow.resume_reading()
        self._watch(self.limits.keep_alive_timeout_s, self._close_idle)
        held, self._held = self._held, b""
        self.data_received(held)

    def refuse(self, refusal: DoorRefusal) -> None:
        """Answer in the app's stead, if it owes an answer and has not begun; end the connection."""
        exchange = self._exchange
        if self.transport.is_closing():
            return
        self.terms.on_refusal(refusal.reason)
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
        self._cut_once_stalled(LINGER_S)

    def leave(self, patience_s: float) -> None:
        """Close once what was said is taken, or nothing of it was for `patience_s`."""
        if not self.transport.is_closing():  # Closed twice, asyncio's TLS can no longer abort.
            self.transport.close()
        self._cut_once_stalled(patience_s)

    def shutdown(self) -> None:
        self._patience_s = LINGER_S
        if self._exchange is not None and self.is_busy:
            self._exchange.keep_alive = False
        else:
            self.leave(self._patience_s)

    def _close_idle(self) -> None:
        self.leave(self._patience_s)

    def _cut_once_stalled(self, patience_s: float) -> None:
        unread_bytes = self.transport.get_write_buffer_size()

        def look() -> None:
            if self.transport.get_write_buffer_size() < unread_bytes:
                self._cut_once_stalled(patience_s)
            else:
                self.transport.abort()

        self._watch(patience_s, look)

    def _watch(self, delay_s: float | None, act: Callable[[], None] = lambda: None) -> None:
        """Do `act` after `delay_s` instead of what was planned; None plans nothing."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if delay_s is None else self.terms.timers.plan(delay_s, act)
