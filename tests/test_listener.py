"""The door over raw sockets: what it refuses, what it lets through, and when it gives up."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import socket
import ssl
import stat
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from gateway.listener import Door, DoorLimits
from gateway.visitor import LINGER_BYTES_MAX
from tests.conftest import needs_real

pytestmark = pytest.mark.anyio

PATIENCE_S = 20


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    ],
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def _endless_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test pass only because a lingering connection was cut off in the end."""
    monkeypatch.setattr("gateway.visitor.LINGER_S", 3_600)


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


CL5 = b"Content-Length: 5"
MALFORMED = (400, "malformed_request")
HEADERS = (431, "headers_too_large")
UPGRADE = (400, "upgrade_not_supported")
METHOD = (405, "method_not_allowed")

REFUSED: dict[str, tuple[bytes, tuple[int, str]]] = {
    "absolute form": (request(b"http://gateway.example/openai"), MALFORMED),
    "authority form": (request(b"gateway.example:443"), MALFORMED),
    "asterisk form": (request(b"*", method=b"OPTIONS"), MALFORMED),
    "fragment": (request(b"/openai#files"), MALFORMED),
    "fragment in query": (request(b"/openai?a=b#files"), MALFORMED),
    "backslash": (request(b"/openai\\files"), MALFORMED),
    "backslash in query": (request(b"/openai?a=\\"), MALFORMED),
    "control byte": (request(b"/openai\x01"), MALFORMED),
    "delete byte": (request(b"/openai\x7f"), MALFORMED),
    "tab in target": (request(b"/openai\tfiles"), MALFORMED),
    "nul in target": (request(b"/openai\x00"), MALFORMED),
    "non-ascii target": (request("/openai/é".encode()), MALFORMED),
    "non-ascii query": (request("/openai?a=é".encode()), MALFORMED),
    "empty target": (b"GET HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
    "http/0.9": (b"GET /openai\r\n\r\n", MALFORMED),
    "http/1.2": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", MALFORMED),
    "http/2.0": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", MALFORMED),
    "http/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", MALFORMED),
    "tls hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", MALFORMED),
    "connect": (request(b"gateway.example:443", method=b"CONNECT"), METHOD),
    "trace": (request(method=b"TRACE"), METHOD),
    "known to the parser only": (request(method=b"PROPFIND"), METHOD),
    "another protocol's method": (b"SOURCE / ICE/1.0\r\nHost: a\r\n\r\n", METHOD),
    "unknown method": (request(method=b"FETCH"), METHOD),
    "lower-case method": (request(method=b"get"), METHOD),
    "no host": (request(host=b""), MALFORMED),
    "no host on http/1.0": (b"GET / HTTP/1.0\r\n\r\n", MALFORMED),
    "two hosts": (request(b"/", b"host: gateway.example"), MALFORMED),
    "empty host": (request(host=b"Host:\r\n"), MALFORMED),
    "host with a path": (request(host=b"Host: a/b\r\n"), MALFORMED),
    "host with a user": (request(host=b"Host: a@b\r\n"), MALFORMED),
    "two hosts in one": (request(host=b"Host: a, b\r\n"), MALFORMED),
    "folded header": (request(b"/", b"X-A: b\r\n c"), MALFORMED),
    "folded first header": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", MALFORMED),
    "nul in header": (request(b"/", b"X-A: b\x00c"), MALFORMED),
    "bare cr in header": (request(b"/", b"X-A: b\rX-B: c"), MALFORMED),
    "bare lf in header": (request(b"/", b"X-A: b\nX-B: c"), MALFORMED),
    "control byte in header": (request(b"/", b"X-A: b\x0bc"), MALFORMED),
    "bare lf everywhere": (b"GET / HTTP/1.1\nHost: a\n\n", MALFORMED),
    "space before the colon": (request(b"/", b"X-A : b"), MALFORMED),
    "non-ascii name": (request(b"/", b"X-\xc3\xa9: b"), MALFORMED),
    "no colon": (request(b"/", b"X-A"), MALFORMED),
    "no name": (request(b"/", b": b"), MALFORMED),
    "length and chunked": (chunked(b"0\r\n\r\n", CL5), MALFORMED),
    "chunked and length": (
        request(b"/", CL5, b"Transfer-Encoding: chunked", method=b"POST", body=b"0\r\n\r\n"),
        MALFORMED,
    ),
    "two lengths": (request(b"/", CL5, CL5, method=b"POST", body=b"hello"), MALFORMED),
    "list of lengths": (request(b"/", b"Content-Length: 5, 5", body=b"hello"), MALFORMED),
    "signed length": (request(b"/", b"Content-Length: +5", body=b"hello"), MALFORMED),
    "negative length": (request(b"/", b"Content-Length: -5", body=b"hello"), MALFORMED),
    "hexadecimal length": (request(b"/", b"Content-Length: 0x5", body=b"hello"), MALFORMED),
    "length with underscore": (request(b"/", b"Content-Length: 5_0", body=b"hello"), MALFORMED),
    "empty length": (request(b"/", b"Content-Length:", body=b"hello"), MALFORMED),
    "endless length": (request(b"/", b"Content-Length: " + b"9" * 30), MALFORMED),
    "gzip, chunked": (request(b"/", b"Transfer-Encoding: gzip, chunked"), MALFORMED),
    "identity": (request(b"/", b"Transfer-Encoding: identity"), MALFORMED),
    "xchunked": (request(b"/", b"Transfer-Encoding: xchunked"), MALFORMED),
    "empty coding": (request(b"/", b"Transfer-Encoding:"), MALFORMED),
    "chunked twice": (chunked(b"0\r\n\r\n", b"Transfer-Encoding: chunked"), MALFORMED),
    "chunked on http/1.0": (
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        MALFORMED,
    ),
    "websocket": (
        request(b"/", b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: eA=="),
        UPGRADE,
    ),
    "h2c": (request(b"/", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c"), UPGRADE),
    "upgrade alone": (request(b"/", b"Upgrade: h2c"), UPGRADE),
    "101 headers": (request(b"/", *[b"X-A: b"] * 100), HEADERS),
    "32 KiB in one header": (request(b"/", b"X-A: " + b"b" * 32_768), HEADERS),
    "32 KiB in many headers": (request(b"/", *[b"X-A: " + b"b" * 1024] * 33), HEADERS),
    "32 KiB in a name": (request(b"/", b"X" * 33_000 + b": b"), HEADERS),
    "long target": (request(b"/" + b"a" * 8_192), (414, "target_too_long")),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_ambiguous_is_answered_by_the_door_and_never_reaches_the_app(
    name: str,
) -> None:
    sent, expected = REFUSED[name]
    async with opened() as (door, app):
        assert error_of(await talk(door, sent)) == expected
        assert app.scopes == []
        assert await still_serves(door)


@pytest.mark.parametrize("name", [name for name in REFUSED if len(REFUSED[name][0]) < 300])
async def test_a_refusal_does_not_depend_on_how_the_bytes_were_cut(name: str) -> None:
    sent, expected = REFUSED[name]
    async with opened() as (door, app):
        assert error_of(await talk(door, *(sent[i : i + 1] for i in range(len(sent))))) == expected
        assert app.scopes == []


REFUSED_IN_BODY = {
    "trailer": b"3\r\nabc\r\n0\r\nX-Team: other\r\n\r\n",
    "unfinished trailer": b"0\r\nX-Team: " + b"a" * 40_000,
    "bad size": b"x\r\nabc\r\n0\r\n\r\n",
    "signed size": b"+3\r\nabc\r\n0\r\n\r\n",
    "negative size": b"-3\r\nabc\r\n0\r\n\r\n",
    "hexadecimal prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "endless size": b"f" * 17 + b"\r\nabc\r\n0\r\n\r\n",
    "size too small": b"2\r\nabc\r\n0\r\n\r\n",
    "lf after size": b"3\nabc\r\n0\r\n\r\n",
    "lf after extension": b"3;a\nabc\r\n0\r\n\r\n",
    "lf at the end": b"3\r\nabc\r\n0\r\n\n",
    "endless extension": b"3;a=" + b"b" * 40_000,
}


@pytest.mark.parametrize("name", REFUSED_IN_BODY)
async def test_a_malformed_body_is_refused_and_the_app_sees_the_caller_leave(name: str) -> None:
    async with opened() as (door, app):
        head = chunked(b"")
        async with dialled(door) as (reader, writer):
            writer.write(head)
            await app.arrived.wait()
            writer.write(REFUSED_IN_BODY[name])
            assert error_of(await reader.read()) == MALFORMED
            await app.ended.wait()
        assert app.bodies == []
        assert app.endings == ["disconnected"]
        assert await still_serves(door)


async def test_a_trailer_never_enters_the_headers_the_app_holds() -> None:
    async with opened() as (door, app):
        error_of(await talk(door, chunked(REFUSED_IN_BODY["trailer"], b"X-Team: mine")))
        await app.ended.wait()
        teams = [value for name, value in app.scopes[0]["headers"] if name == b"x-team"]
        assert teams == [b"mine"]


async def test_a_body_that_breaks_behind_a_begun_answer_ends_the_connection_unfinished() -> None:
    async with opened() as (door, app):
        async with dialled(door) as (reader, writer):
            writer.write(chunked(b"", target=b"/stream"))
            seen = await reader.readuntil(b"first\r\n")
            writer.write(b"oops\r\n")
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            assert b"400" not in seen
        await app.ended.wait()
        assert app.endings == ["disconnected"]


ADMITTED = {
    "plain": (request(close=True), b"/:"),
    "http/1.0 with a host": (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", b"/:"),
    "empty lines first": (b"\r\n\r\n" + request(close=True), b"/:"),
    "100 headers": (request(b"/", *[b"X-A: b"] * 98, close=True), b"/:"),
    "many bytes of headers": (request(b"/", b"X-A: " + b"b" * 32_600, close=True), b"/:"),
    "longest target": (request(b"/" + b"a" * 8_191, close=True), b"/" + b"a" * 8_191 + b":"),
    "host with a port": (request(host=b"Host: gateway_1:8080\r\n", close=True), b"/:"),
    "ipv6 host": (request(host=b"Host: [::1]:8080\r\n", close=True), b"/:"),
    "length": (request(b"/", CL5, method=b"POST", body=b"hello", close=True), b"/:hello"),
    "empty body": (request(b"/", b"Content-Length: 0", method=b"POST", close=True), b"/:"),
    "no body at all": (request(method=b"POST", close=True), b"/:"),
    "get with a body": (request(b"/", CL5, body=b"hello", close=True), b"/:hello"),
    "chunked": (
        chunked(b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", close=True),
        b"/:abc0123456789",
    ),
    "chunk extension": (chunked(b"3;a=b\r\nabc\r\n0\r\n\r\n", close=True), b"/:abc"),
    "one byte a chunk": (chunked(b"1\r\na\r\n" * 20_000 + b"0\r\n\r\n", close=True), b"a" * 20_000),
    "empty header": (request(b"/", b"X-A:", close=True), b"/:"),
    "latin header": (request(b"/", b"X-A: \xe9", close=True), b"/:"),
}


@pytest.mark.parametrize("name", ADMITTED)
async def test_what_real_clients_send_is_let_through(name: str) -> None:
    sent, expected = ADMITTED[name]
    async with opened() as (door, app):
        status, headers, body = parse(await talk(door, sent))
        assert (status, body.endswith(expected)) == (200, True)
        assert b"server" not in headers
        assert b"date" in headers
        assert app.endings == ["complete"]


@pytest.mark.parametrize("method", ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"])
async def test_the_methods_of_the_api_are_let_through(method: str) -> None:
    async with opened() as (door, app):
        await talk(door, request(method=method.encode(), close=True))
        assert [scope["method"] for scope in app.scopes] == [method]


async def test_the_scope_says_exactly_what_stood_on_the_request_line() -> None:
    async with opened() as (door, app):
        target = b"//openai/files%2Fa;b='c'?x[]=%C3%A9&y=a?b"
        await talk(door, request(target, close=True))
        (scope,) = app.scopes
        assert scope["raw_target"] == target
        assert scope["raw_path"] + b"?" + scope["query_string"] == target
        assert scope["path"] == "//openai/files/a;b='c'"
        assert (scope["type"], scope["scheme"], scope["http_version"]) == ("http", "http", "1.1")
        assert scope["server"] == ("127.0.0.1", door.port)


async def test_headers_are_an_immutable_snapshot_with_lower_case_names() -> None:
    async with opened() as (door, app):
        await talk(door, request(b"/", b"X-CaSe: \t A b \t", b"X-Case: c", close=True))
        headers = app.scopes[0]["headers"]
        assert headers == (
            (b"host", b"gateway.example"),
            (b"connection", b"close"),
            (b"x-case", b"A b"),
            (b"x-case", b"c"),
        )


async def test_the_answer_to_head_has_no_body_even_when_refused() -> None:
    async with opened() as (door, _):
        status, headers, body = parse(await talk(door, request(b"/#a", method=b"HEAD")))
        assert (status, body) == (400, b"")
        assert int(headers[b"content-length"]) > 0


async def test_expect_100_continue_is_answered_once_the_app_wants_the_body() -> None:
    async with opened() as (door, app), dialled(door) as (reader, writer):
        head = request(b"/", CL5, b"Expect: 100-continue", method=b"POST", close=True)
        writer.write(head)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello")
        assert parse(await reader.read())[0] == 200
        assert app.bodies == [b"hello"]


async def test_http_1_0_knows_no_100_continue() -> None:
    async with opened() as (door, _):
        head = b"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        assert parse(await talk(door, head + b"hello"))[0] == 200


async def test_nothing_is_written_behind_a_refusal_not_even_100_continue() -> None:
    async with opened() as (door, app), dialled(door) as (reader, writer):
        writer.write(chunked(b"oops\r\n", b"Expect: 100-continue", target=b"/patient"))
        status, headers, body = parse(await reader.readuntil(b"}}"))
        app.release.set()
        await app.ended.wait()
        assert (status, int(headers[b"content-length"])) == (400, len(body))
        assert await reader.read() == b""
        assert app.endings == ["disconnected"]


async def test_an_early_answer_to_an_expectation_comes_without_100_and_closes() -> None:
    async with opened() as (door, _):
        head = request(b"/early", CL5, b"Expect: 100-continue", method=b"POST")
        status, headers, body = parse(await talk(door, head))
        assert (status, headers[b"connection"], body) == (413, b"close", b"too much")


async def test_an_early_answer_arrives_although_the_caller_is_still_sending() -> None:
    async with opened() as (door, _), dialled(door) as (reader, writer):
        length = b"Content-Length: %d" % (8 * 1024 * 1024)
        writer.write(request(b"/early", length, method=b"POST") + b"a" * (8 * 1024 * 1024))
        await writer.drain()
        status, headers, body = parse(await reader.read())
        assert (status, headers[b"connection"], body) == (413, b"close", b"too much")


async def test_a_refused_caller_who_never_closes_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.visitor.LINGER_S", 0.05)
    limits = DoorLimits(connections_max=1)
    async with opened(limits) as (door, app), dialled(door) as (reader, writer):
        writer.write(request(b"/#"))
        assert error_of(await reader.read()) == MALFORMED
        while parse(await talk(door, request(close=True)))[0] == 503:
            assert app.scopes == []
        assert len(app.scopes) == 1


async def test_a_caller_who_never_stops_sending_after_the_answer_is_cut_off() -> None:
    async with opened() as (door, _), dialled(door) as (_reader, writer):
        writer.write(request(b"/early", b"Content-Length: 99999999999", method=b"POST"))
        with pytest.raises(ConnectionError):
            await pour(writer, 8 * LINGER_BYTES_MAX)


async def test_one_connection_carries_many_requests() -> None:
    async with opened() as (door, app), dialled(door) as (reader, writer):
        for number in range(5):
            target = b"/%d" % number
            writer.write(request(target, CL5, method=b"POST", body=b"hello") + b"\r\n")
            answer = await reader.readuntil(target + b":hello")
            assert parse(answer)[0] == 200
            assert b"connection" not in parse(answer)[1]
        assert len(app.scopes) == 5


async def test_requests_sent_ahead_are_answered_in_order() -> None:
    async with opened() as (door, app), dialled(door) as (reader, writer):
        writer.write(request(b"/hold/1", CL5, method=b"POST", body=b"first"))
        await app.entered.wait()
        writer.write(request(b"/2", CL5, method=b"POST", body=b"other"))
        writer.write(request(b"/3", close=True))
        await asyncio.sleep(0)
        assert len(app.scopes) == 1
        app.release.set()
        first, second = (await reader.readuntil(b"/hold/1:first")), (await reader.read())
        assert parse(first)[0] == 200
        assert b"/2:other" in second
        # The third stood in one segment with the second: it is answered after it or not at all.
        assert second.count(b"HTTP/1.1 200") == len(app.scopes) - 1


@pytest.mark.parametrize("more", [request(b"/2"), b"\x00\x01", b"GET / HTTP/1.1\r\nX\r\n\r\n"])
async def test_what_follows_in_the_same_segment_is_dropped_and_the_connection_closed(
    more: bytes,
) -> None:
    async with opened() as (door, app):
        status, headers, body = parse(await talk(door, request(b"/1") + more))
        assert (status, headers[b"connection"], body) == (200, b"close", b"/1:")
        assert [scope["path"] for scope in app.scopes] == ["/1"]


async def test_garbage_sent_ahead_is_refused_after_the_running_answer_not_within_it() -> None:
    async with opened() as (door, app), dialled(door) as (reader, writer):
        writer.write(request(b"/stream/hold"))
        await app.entered.wait()
        writer.write(b"\x00\x01garbage\r\n\r\n")
        app.release.set()
        answer, _, refusal = (await reader.read()).partition(b"0\r\n\r\n")
        assert answer.endswith(b"4\r\nlast\r\n")
        assert error_of(refusal) == MALFORMED


async def test_a_request_sent_once_a_bodiless_answer_is_seen_is_not_lost() -> None:
    async with opened() as (door, app), dialled(door) as (reader, writer):
        writer.write(request(b"/bodiless"))
        assert parse(await reader.readuntil(b"\r\n\r\n"))[0] == 204
        await app.entered.wait()
        writer.write(request(b"/next", b"X-A: " + b"b" * 20_000, close=True))
        app.release.set()
        assert parse(await reader.read())[2] == b"/next:"


async def test_a_caller_who_sends_ahead_is_not_read_without_limit() -> None:
    total_bytes = 16 * 1024 * 1024
    async with opened() as (door, app), dialled(door) as (reader, writer):
        writer.write(request(b"/hold"))
        await app.entered.wait()
        length = b"Content-Length: %d" % total_bytes
        writer.write(request(b"/next", length, method=b"HEAD", close=True))
        async with asyncio.TaskGroup() as group:
            pouring = group.create_task(pour(writer, total_bytes))
            await asyncio.sleep(0.2)
            assert not pouring.done()
            app.release.set()
        await reader.readuntil(b"/hold:")
        assert parse(await reader.read())[0] == 200
        assert [len(body) for body in app.bodies] == [0, total_bytes]


async def test_a_caller_who_leaves_is_told_to_the_app() -> None:
    async with opened() as (door, app):
        async with dialled(door) as (_reader, writer):
            writer.write(request(b"/listen"))
            await app.entered.wait()
        await app.ended.wait()
        assert app.endings == ["complete", "http.disconnect"]


@pytest.mark.parametrize(
    "sent",
    [b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b"],
    ids=["one byte", "a line", "half a header"],
)
async def test_a_head_that_does_not_end_is_refused_in_time(sent: bytes) -> None:
    async with opened(DoorLimits(header_timeout_s=0.05)) as (door, app):
        assert error_of(await talk(door, sent)) == (408, "request_timeout")
        assert app.scopes == []


async def test_a_head_that_trickles_in_does_not_move_its_deadline() -> None:
    async with (
        opened(DoorLimits(header_timeout_s=0.3)) as (door, app),
        dialled(door) as (reader, writer),
    ):
        answer = asyncio.ensure_future(reader.read())  # noqa: TID251  (awaited below)
        writer.write(b"GET / HTTP/1.1\r\nX-A: ")
        while not answer.done():
            writer.write(b"a")
            await asyncio.sleep(0.01)
        assert error_of(await answer) == (408, "request_timeout")
        assert app.scopes == []


async def test_a_body_that_stops_is_refused_while_the_app_waits_for_it() -> None:
    async with opened(DoorLimits(body_idle_timeout_s=0.05)) as (door, app):
        sent = request(b"/", CL5, method=b"POST", body=b"hel")
        assert error_of(await talk(door, sent)) == (408, "request_timeout")
        await app.ended.wait()
        assert app.endings == ["disconnected"]


async def test_a_body_that_stops_behind_a_begun_answer_ends_the_connection() -> None:
    async with opened(DoorLimits(body_idle_timeout_s=0.05)) as (door, app):
        async with dialled(door) as (reader, writer):
            writer.write(request(b"/stream", CL5, method=b"POST", body=b"hel"))
            assert (await reader.readuntil(b"first\r\n")).startswith(b"HTTP/1.1 200")
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        await app.ended.wait()
        assert app.endings == ["disconnected"]


async def test_the_body_deadline_does_not_run_while_the_app_is_not_reading() -> None:
    async with (
        opened(DoorLimits(body_idle_timeout_s=0.1)) as (door, app),
        dialled(door) as (reader, writer),
    ):
        writer.write(request(b"/patient", CL5, method=b"POST", body=b"hel", close=True))
        await app.entered.wait()
        await asyncio.sleep(0.3)
        writer.write(b"lo")
        app.release.set()
        assert parse(await reader.read())[2] == b"/patient:hello"


async def test_the_body_deadline_ends_with_the_body() -> None:
    async with (
        opened(DoorLimits(body_idle_timeout_s=0.1)) as (door, app),
        dialled(door) as (reader, writer),
    ):
        writer.write(request(b"/1", CL5, method=b"POST"))
        await app.arrived.wait()
        writer.write(b"hello")
        await reader.readuntil(b"/1:hello")
        await asyncio.sleep(0.3)
        writer.write(request(b"/2", close=True))
        assert parse(await reader.read())[2] == b"/2:"


async def test_a_slow_answer_has_no_deadline_at_the_door() -> None:
    limits = DoorLimits(header_timeout_s=0.02, body_idle_timeout_s=0.02, keep_alive_timeout_s=0.02)
    async with opened(limits) as (door, app), dialled(door) as (reader, writer):
        writer.write(request(b"/hold", close=True))
        await app.entered.wait()
        await asyncio.sleep(0.2)
        app.release.set()
        assert parse(await reader.read())[2] == b"/hold:"


@pytest.mark.parametrize("sent", [b"", b"\r\n", request()], ids=["silent", "blank", "after one"])
async def test_an_idle_connection_is_closed_without_a_word(sent: bytes) -> None:
    async with opened(DoorLimits(keep_alive_timeout_s=0.05)) as (door, app):
        answer = await talk(door, sent)
        assert answer.count(b"HTTP/1.1") == len(app.scopes) == (sent == request())


async def test_idle_connections_do_not_disturb_another_caller() -> None:
    async with opened() as (door, _):
        idle = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(200)]
        for _, writer in idle[::2]:
            writer.write(b"GET / HTTP/1.1\r\nX-A: ")
        for _ in range(20):
            assert await still_serves(door)
        for _, writer in idle:
            writer.close()


async def test_connections_beyond_the_limit_are_told_so_and_those_within_it_go_on() -> None:
    async with opened(DoorLimits(connections_max=2)) as (door, app):
        async with dialled(door) as (reader, writer), dialled(door):
            writer.write(request(b"/1"))
            await reader.readuntil(b"/1:")
            assert error_of(await talk(door)) == (503, "gateway_unavailable")
            writer.write(request(b"/2", close=True))
            assert parse(await reader.read())[2] == b"/2:"
        assert len(app.scopes) == 2


async def test_stop_lets_a_running_stream_end_and_refuses_new_connections() -> None:
    async with opened() as (door, app), dialled(door) as (reader, writer), dialled(door) as idle:
        writer.write(request(b"/stream/hold"))
        await app.entered.wait()
        async with asyncio.TaskGroup() as group:
            stopping = group.create_task(door.stop())
            assert await idle[0].read() == b""
            with pytest.raises(ConnectionError):
                await asyncio.open_connection("127.0.0.1", door.port)
            assert not stopping.done()
            app.release.set()
        assert (await reader.read()).endswith(b"4\r\nlast\r\n0\r\n\r\n")


async def test_stop_cuts_what_outlasts_the_drain(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "uvicorn.error")
    async with opened(drain_s=0.05) as (door, app), dialled(door) as (reader, writer):
        writer.write(request(b"/stream/hold"))
        await app.entered.wait()
        await door.stop()
        assert app.endings == ["complete", "cancelled"]
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readuntil(b"last")


async def test_stop_may_come_twice_or_before_start() -> None:
    door = Door(Recorder(), host="127.0.0.1", port=0)
    await door.stop()
    await door.start()
    await door.stop()
    await door.stop()
    await door.start()
    assert await still_serves(door)
    await door.stop()


async def test_a_port_that_is_taken_is_an_os_error() -> None:
    async with opened() as (door, _):
        second = Door(Recorder(), host="127.0.0.1", port=door.port)
        with pytest.raises(OSError, match="in use"):
            await second.start()
        assert await still_serves(door)


async def test_two_doors_share_one_loop() -> None:
    async with opened() as (one, seen_by_one), opened() as (other, seen_by_other):
        assert one.port != other.port
        await talk(one, request(b"/one", close=True))
        await talk(other, request(b"/other", close=True))
        assert [scope["path"] for scope in seen_by_one.scopes] == ["/one"]
        assert [scope["path"] for scope in seen_by_other.scopes] == ["/other"]


async def test_a_unix_socket_is_open_to_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    async with opened(uds=path) as (_, app):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(request(b"/admin", close=True))
        assert parse(await reader.read())[2] == b"/admin:"
        writer.close()
        assert len(app.scopes) == 1
        with pytest.raises(OSError, match="in use"):
            await Door(Recorder(), host="", port=0, uds=path).start()
    assert not path.exists()


async def test_an_app_that_fails_answers_500_and_the_door_lives_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError(scope["path"])

    caplog.set_level(logging.CRITICAL, "uvicorn.error")
    door = Door(broken, host="127.0.0.1", port=0)
    await door.start()
    for _ in range(2):
        assert parse(await talk(door, request(close=True)))[0] == 500
    await door.stop()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    openssl = shutil.which("openssl")
    needs_real("openssl", found=openssl is not None, how="apt-get install openssl")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    files = ["-keyout", str(key), "-out", str(cert)]
    subprocess.run([str(openssl), "req", *kind, *subject, *files], check=True, capture_output=True)
    return cert, key


@pytest.mark.parametrize(
    ("sent", "check"),
    [
        (request(b"/tls", close=True), lambda answer: parse(answer)[2] == b"/tls:"),
        (request(b"/tls#", close=True), lambda answer: error_of(answer) == MALFORMED),
        (request(b"/early", CL5, method=b"POST"), lambda answer: parse(answer)[0] == 413),
    ],
    ids=["answer", "refusal", "early answer"],
)
async def test_tls_can_end_at_the_door(
    certificate: tuple[Path, Path], sent: bytes, check: Callable[[bytes], bool]
) -> None:
    cert, key = certificate
    trust = ssl.create_default_context(cafile=str(cert))
    async with opened(tls_cert=cert, tls_key=key) as (door, app):
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port, ssl=trust)
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(parse(head)[1][b"content-length"])
        assert check(head + await reader.readexactly(length))
        assert all(scope["scheme"] == "https" for scope in app.scopes)
        writer.close()
