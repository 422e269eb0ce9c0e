"""Request heads over raw sockets: what is refused, and what of the rest the app gets to see."""

from __future__ import annotations

import pytest

from tests.door.knocking import (
    CL5,
    HEADERS,
    MALFORMED,
    METHOD,
    UPGRADE,
    chunked,
    error_of,
    opened,
    parse,
    request,
    still_serves,
    talk,
)

pytestmark = pytest.mark.anyio


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
    "websocket, loud": (request(b"/", b"Connection: Upgrade", b"Upgrade: WebSocket"), UPGRADE),
    "websocket with a version": (request(b"/", b"Upgrade: websocket/13"), UPGRADE),
    "websocket in a list": (
        request(b"/", b"Connection: Upgrade", b"Upgrade: h2c , websocket"),
        UPGRADE,
    ),
    "websocket in a second line": (
        request(b"/", b"Connection: Upgrade", b"Upgrade: h2c", b"Upgrade: websocket"),
        UPGRADE,
    ),
    "websocket without connection": (request(b"/", b"Upgrade: websocket"), UPGRADE),
    "websocket on http/1.0": (
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        UPGRADE,
    ),
    "connect with an offer": (
        request(b"a:443", b"Connection: Upgrade", b"Upgrade: h2c", method=b"CONNECT"),
        METHOD,
    ),
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
