"""Bounds: what the door lets through, and the answer it gives itself to what it does not.

The parser is llhttp. It refuses bare CR or LF, folded lines, control characters and odd numbers by
itself; what it lets through in a head and we do not stands in `faults`.

`Upgrade` is an offer, and a server may ignore it: then the request is served as it stands
(RFC 9110, section 7.8). Java's HttpClient offers HTTP/2 with every first request it sends in plain
text, and goes on in HTTP/1.1. Who asks for a websocket cannot go on without one and is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
REASONS = (
    "gateway_unavailable",
    "headers_too_large",
    "malformed_request",
    "method_not_allowed",
    "request_timeout",
    "target_too_long",
    "websocket",
)
"""What a refusal of the door is counted as: its code, and `websocket` for an upgrade to one."""

_TARGET = re.compile(rb'/[!"$-\[\]-~]*')
_HOST = re.compile(rb"([A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """What one connection may send and how long it may take; None means without limit.

    `keep_alive_timeout_s` also limits how long a new connection may stay silent, and
    `unread_timeout_s` for how long nothing of a whole answer may be taken once the connection is
    to end (over TLS: how long the rest of it may take). A body must come at
    `body_bytes_per_s_min` on the whole, or a caller who drips could hold his place for ever.
    """

    headers_max: int = 100
    header_bytes_max: int = 32_768
    target_bytes_max: int = 8_192
    header_timeout_s: float = 20
    body_idle_timeout_s: float = 60
    body_bytes_per_s_min: int = 512
    keep_alive_timeout_s: float = 75
    unread_timeout_s: float = 60
    connections_max: int | None = None

    def body_wait_s(self, body_bytes: int, waited_s: float) -> float:
        """Return how long the next bytes of a body may take: `body_bytes` came so far, for which we
        have waited `waited_s` seconds in all."""
        spare_s = self.body_idle_timeout_s + body_bytes / self.body_bytes_per_s_min - waited_s
        return min(self.body_idle_timeout_s, max(spare_s, 0))


class Cancellable(Protocol):
    """Something planned that need not happen."""

    def cancel(self) -> None:
        """Let it not happen."""


class Timers(Protocol):
    """A clock of seconds, and what acts by it."""

    def time(self) -> float:
        """Return the seconds since some moment."""
        ...

    def plan(self, delay_s: float, act: Callable[[], None]) -> Cancellable:
        """Do `act` in `delay_s`, unless it is cancelled."""
        ...


class DoorRefusal(Exception):
    """The answer the door gives itself; raised out of parser callbacks.

    `reason` is one of `REASONS`.
    """

    def __init__(
        self, status: int, code: str, message: str, *, counted_as: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.reason = counted_as or code

    def encode(self, default_headers: list[tuple[bytes, bytes]], *, is_head: bool) -> bytes:
        """Return the whole answer as it goes over the wire; it says `connection: close`."""
        error = {"code": self.code, "message": self.message, "type": "invalid_request_error"}
        body = json.dumps({"error": {**error, "param": None}}).encode()
        headers = [*default_headers, (b"content-type", b"application/json")]
        headers += [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        if self.status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append((b"allow", ", ".join(METHODS).encode()))
        lines = [b"%b: %b\r\n" % header for header in headers]
        phrase = HTTPStatus(self.status).phrase.encode()
        status_line = b"HTTP/1.1 %d %b\r\n" % (self.status, phrase)
        return b"".join([status_line, *lines, b"\r\n", b"" if is_head else body])


def malformed(reason: str) -> DoorRefusal:
    """Return the refusal of what has more than one reading, or none."""
    return DoorRefusal(400, "malformed_request", reason)


def unknown_method() -> DoorRefusal:
    """Return the refusal of a method the API does not have."""
    reason = f"the method is not one of `{', '.join(METHODS)}`"
    return DoorRefusal(405, "method_not_allowed", reason)


def too_many_headers(limits: DoorLimits) -> DoorRefusal:
    """Return the refusal of a head that is too large."""
    reason = f"more than `{limits.headers_max}` headers or `{limits.header_bytes_max}` bytes"
    return DoorRefusal(431, "headers_too_large", reason)


def too_late(reason: str) -> DoorRefusal:
    """Return the refusal of what did not come in time."""
    return DoorRefusal(408, "request_timeout", reason)


def faults(
    target: bytes, version: str, headers: list[tuple[bytes, bytes]]
) -> Iterator[DoorRefusal]:
    """Yield what is wrong with a request head that the parser itself accepted."""
    if version not in ("1.0", "1.1"):
        yield malformed("the protocol is neither `HTTP/1.1` nor `HTTP/1.0`")
    if _TARGET.fullmatch(target) is None:
        reason = "a path and query in printable ASCII, without host, fragment or backslash"
        yield malformed(f"the request target must be {reason}")
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1:
        yield malformed(f"exactly one `host` header is required, not `{len(hosts)}`")
    elif _HOST.fullmatch(hosts[0]) is None:
        yield malformed("the `host` header is not a host name with an optional port")
    if b"websocket" in _offers(headers):
        reason = "`upgrade` to a websocket is not supported; speak plain `HTTP/1.1`"
        yield DoorRefusal(400, "upgrade_not_supported", reason, counted_as="websocket")
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if codings and (codings != [b"chunked"] or version != "1.1"):
        yield malformed("`transfer-encoding` must be exactly `chunked`, on `HTTP/1.1`")
    lengths = sum(name == b"content-length" for name, _ in headers)
    if lengths + len(codings) > 1:
        yield malformed("the body's length is given more than once")


def _offers(headers: list[tuple[bytes, bytes]]) -> set[bytes]:
    """Return the names of the protocols that `Upgrade` offers, in lower case."""
    offers = (value for name, value in headers if name == b"upgrade")
    return {
        protocol.partition(b"/")[0].strip()
        for value in offers
        for protocol in value.lower().split(b",")
    }
