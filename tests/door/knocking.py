"""How the door is knocked at: an app that writes down what reached it, a client of raw bytes, and
deadlines that pass by hand.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.listener import Door, DoorLimits
from gateway.visitor import Visitor

PATIENCE_S = 20

CL5 = b"Content-Length: 5"
MALFORMED = (400, "malformed_request")
HEADERS = (431, "headers_too_large")
UPGRADE = (400, "upgrade_not_supported")
METHOD = (405, "method_not_allowed")


@dataclass
class Recorder:
    """An app that writes down what reached it; the path says how it behaves."""

    scopes: list[Scope] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    endings: list[str] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        self.arrived.set()
        try:
            await self._answer(scope, receive, send)
        except asyncio.CancelledError:
            self.endings.append("cancelled")
            raise
        finally:
            self.ended.set()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == "/early":
            await respond(send, 413, b"too much")
            return
        if path.startswith("/stream"):
            start = {"type": "http.response.start", "status": 200, "headers": []}
            await send(start)
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
        if path == "/patient":
            self.entered.set()
            await self.release.wait()
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.endings.append("disconnected")
                return
            body += message["body"]
            if not message["more_body"]:
                break
            self.entered.set()
        self.bodies.append(body)
        self.endings.append("complete")
        if path.startswith("/hold") or path == "/stream/hold":
            self.entered.set()
            await self.release.wait()
        if path == "/listen":
            self.entered.set()
            self.endings.append((await receive())["type"])
        if path.startswith("/stream"):
            await send({"type": "http.response.body", "body": b"last", "more_body": False})
        elif path == "/bodiless":
            start = {"type": "http.response.start", "status": 204, "headers": []}
            await send(start)
            self.entered.set()
            await self.release.wait()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await respond(send, 200, path.encode() + b":" + body)


async def respond(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


@asynccontextmanager
async def opened(
    limits: DoorLimits | None = None, *, drain_s: float = 30, **how: Any
) -> AsyncIterator[tuple[Door, Recorder]]:
    app = Recorder()
    door = Door(
        app, host="127.0.0.1", port=0, limits=limits or DoorLimits(), drain_s=drain_s, **how
    )
    await door.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield door, app
    finally:
        app.release.set()
        await door.stop()


@asynccontextmanager
async def serving(app: ASGIApp, *, drain_s: float = 30, **how: Any) -> AsyncIterator[Door]:
    """Open a door before an app of the test's own."""
    door = Door(app, host="127.0.0.1", port=0, drain_s=drain_s, **how)
    await door.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield door
    finally:
        await door.stop()


@asynccontextmanager
async def dialled(door: Door) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def talk(door: Door, *pieces: bytes) -> bytes:
    """Send the pieces, one write each, and return all that came back until the door closed."""
    async with dialled(door) as (reader, writer):
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        return await reader.read()


async def pour(writer: asyncio.StreamWriter, total_bytes: int) -> None:
    block = b"a" * (1024 * 1024)
    for _ in range(total_bytes // len(block)):
        writer.write(block)
        await writer.drain()


async def still_serves(door: Door) -> bool:
    return await talk(door, request(close=True)) != b""


def request(
    target: bytes = b"/",
    *headers: bytes,
    method: bytes = b"GET",
    host: bytes = b"Host: gateway.example\r\n",
    body: bytes = b"",
    close: bool = False,
) -> bytes:
    closing = b"Connection: close\r\n" if close else b""
    lines = b"".join(header + b"\r\n" for header in headers)
    return method + b" " + target + b" HTTP/1.1\r\n" + host + closing + lines + b"\r\n" + body


def chunked(body: bytes, *headers: bytes, target: bytes = b"/", close: bool = False) -> bytes:
    coding = b"Transfer-Encoding: chunked"
    return request(target, coding, *headers, method=b"POST", body=body, close=close)


def parse(answer: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines)
    return int(status.split()[1]), headers, body


def error_of(answer: bytes) -> tuple[int, str]:
    """Return the status and code of a refusal, having checked everything else about it."""
    status, headers, body = parse(answer)
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"connection"] == b"close"
    assert int(headers[b"content-length"]) == len(body)
    assert b"server" not in headers
    assert b"date" in headers
    (key, error), *others = json.loads(body).items()
    assert (key, others) == ("error", [])
    assert set(error) == {"code", "message", "type", "param"}
    assert error["param"] is None
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert not error["message"].endswith(".")
    return status, error["code"]


@dataclass
class Planned:
    """Something a door means to do when its time has come."""

    due: float
    act: Callable[[], None]
    is_off: bool = False

    def cancel(self) -> None:
        self.is_off = True


class HandTimers:
    """Deadlines that pass only when a test says so; a door takes them as `timers`."""

    def __init__(self) -> None:
        self.now = 0.0
        self._planned: list[Planned] = []

    def plan(self, delay_s: float, act: Callable[[], None]) -> Planned:
        planned = Planned(self.now + delay_s, act)
        self._planned.append(planned)
        return planned

    def time(self) -> float:
        """Return the seconds that have passed."""
        return self.now

    @property
    def left(self) -> list[float]:
        """In how many seconds the door means to do something, soonest first."""
        return sorted(each.due - self.now for each in self._planned if not each.is_off)

    def advance(self, seconds: float) -> None:
        """Let time pass; what falls due in it is done in its order, also what that plans."""
        until = self.now + seconds
        while due := [p for p in self._planned if not p.is_off and p.due <= until]:
            first = min(due, key=lambda planned: planned.due)
            first.cancel()
            self.now = first.due
            first.act()
        self.now = until


async def until(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds; whoever calls sets the limit of the wait."""
    is_so = condition()
    while not is_so:
        await asyncio.sleep(0)
        is_so = condition()


def visitor_of(door: Door) -> Visitor:
    """Return the only connection there is."""
    (visitor,) = door._state.connections
    assert isinstance(visitor, Visitor)
    return visitor
