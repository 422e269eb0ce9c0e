"""`Upgrade`: an offer we do not take changes nothing, least of all where a body ends."""

from __future__ import annotations

import asyncio

import pytest

from gateway.listener import Door
from tests.door.knocking import (
    CL5,
    MALFORMED,
    chunked,
    dialled,
    error_of,
    opened,
    parse,
    request,
    talk,
)

pytestmark = pytest.mark.anyio

# What Java's HttpClient sends with its first request over plain text.
JAVA = (
    b"Connection: Upgrade, HTTP2-Settings",
    b"Content-Length: 0",
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    b"Upgrade: h2c",
    b"User-Agent: Java-http-client/17.0.15",
)
H2C = (b"Connection: Upgrade", b"Upgrade: h2c")
CHUNKED = b"Transfer-Encoding: chunked"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: gateway.example\r\n\r\n"
LENGTH = b"Content-Length: %d" % len(SMUGGLED)
IN_CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)

# a request with an offer, and the body that the app must get
OFFERED: dict[str, tuple[bytes, bytes]] = {
    "java, get": (request(b"/a", *JAVA), b""),
    "no length": (request(b"/a", *H2C), b""),
    "post without a body": (request(b"/a", *H2C, method=b"POST"), b""),
    "length": (request(b"/a", *H2C, LENGTH, method=b"POST", body=SMUGGLED), SMUGGLED),
    "length first": (request(b"/a", LENGTH, *H2C, method=b"POST", body=SMUGGLED), SMUGGLED),
    "chunked": (request(b"/a", *H2C, CHUNKED, method=b"POST", body=IN_CHUNKS), SMUGGLED),
    "get with a body": (request(b"/a", *H2C, LENGTH, body=SMUGGLED), SMUGGLED),
    "put": (request(b"/a", *H2C, LENGTH, method=b"PUT", body=SMUGGLED), SMUGGLED),
    "tls": (
        request(b"/a", b"Connection: upgrade", b"Upgrade: TLS/1.0", CL5, body=b"hello"),
        b"hello",
    ),
    "no connection option": (request(b"/a", b"Upgrade: h2c", CL5, body=b"hello"), b"hello"),
    "an empty offer": (
        request(b"/a", b"Connection: Upgrade", b"Upgrade:", CL5) + b"hello",
        b"hello",
    ),
    "no offer after all": (request(b"/a", b"Connection: Upgrade", CL5, body=b"hello"), b"hello"),
}


async def answers(door: Door, pieces: list[bytes]) -> bytes:
    """Send the pieces, then a plain request once the first is answered; return all answers."""
    async with dialled(door) as (reader, writer):
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(parse(head)[1][b"content-length"]))
        writer.write(request(b"/next", close=True))
        return head + body + await reader.read()


@pytest.mark.parametrize("name", OFFERED)
@pytest.mark.parametrize("cut", [0, 1, 7], ids=["whole", "byte by byte", "by sevens"])
async def test_an_offer_is_ignored_and_the_connection_goes_on(name: str, cut: int) -> None:
    sent, body = OFFERED[name]
    size = cut or len(sent)
    pieces = [sent[start : start + size] for start in range(0, len(sent), size)]
    async with opened() as (door, app):
        answer = await answers(door, pieces)
        assert answer.count(b"HTTP/1.1 200 OK") == 2
        assert b" 101 " not in answer
        assert b"/a:" + body in answer
        assert answer.endswith(b"/next:")
        assert app.bodies == [body, b""]
        assert [scope["path"] for scope in app.scopes] == ["/a", "/next"]


async def test_wherever_the_bytes_are_cut_the_body_ends_where_it_says() -> None:
    sent, body = OFFERED["chunked"]
    async with opened() as (door, app):
        for at in range(1, len(sent)):
            assert (await answers(door, [sent[:at], sent[at:]])).endswith(b"/next:")
        assert app.bodies == [body, b""] * (len(sent) - 1)


async def test_every_request_of_a_connection_may_offer() -> None:
    sent, body = OFFERED["length"]
    async with opened() as (door, app), dialled(door) as (reader, writer):
        for _ in range(5):
            writer.write(sent)
            await reader.readuntil(b"/a:" + body)
        assert app.bodies == [body] * 5


@pytest.mark.parametrize("name", ["java, get", "length", "chunked"])
@pytest.mark.parametrize("more", [SMUGGLED, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x00\x01"])
async def test_what_follows_an_offer_in_the_same_segment_is_dropped(name: str, more: bytes) -> None:
    sent, body = OFFERED[name]
    async with opened() as (door, app):
        status, headers, told = parse(await talk(door, sent + more))
        assert (status, headers[b"connection"], told) == (200, b"close", b"/a:" + body)
        assert [scope["path"] for scope in app.scopes] == ["/a"]


@pytest.mark.parametrize(
    "sent",
    [
        request(b"/a", b"Connection: Upgrade, close", b"Upgrade: h2c", CL5) + b"hello" + SMUGGLED,
        b"POST /a HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
        b"Content-Length: 5\r\n\r\nhello" + SMUGGLED,
    ],
    ids=["close", "http/1.0"],
)
async def test_an_offer_with_the_last_request_does_not_keep_the_connection(sent: bytes) -> None:
    counted: list[str] = []
    async with opened(on_refusal=counted.append) as (door, app):
        status, headers, body = parse(await talk(door, sent))
        assert (status, headers[b"connection"], body) == (200, b"close", b"/a:hello")
        assert app.bodies == [b"hello"]
        # Whoever says that this is his last request says so of what follows it, too.
        assert counted == []


@pytest.mark.parametrize(
    "body",
    [b"x\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\nX-Team: other\r\n\r\n", b"2\r\nabc\r\n0\r\n\r\n"],
    ids=["bad size", "trailer", "size too small"],
)
async def test_a_body_behind_an_offer_is_judged_like_any_other(body: bytes) -> None:
    async with opened() as (door, app):
        assert error_of(await talk(door, chunked(body, *H2C))) == MALFORMED
        await app.ended.wait()
        assert app.bodies == []


async def test_an_expectation_beside_an_offer_is_met() -> None:
    async with opened() as (door, app), dialled(door) as (reader, writer):
        head = request(b"/", *H2C, CL5, b"Expect: 100-continue", method=b"POST", close=True)
        writer.write(head)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello")
        assert parse(await reader.read())[2] == b"/:hello"
        assert app.bodies == [b"hello"]


async def test_the_answer_to_head_with_an_offer_has_no_body() -> None:
    async with opened() as (door, _):
        status, headers, body = parse(
            await talk(door, request(b"/a", *H2C, method=b"HEAD", close=True))
        )
        assert (status, headers[b"content-length"], body) == (200, b"3", b"")
