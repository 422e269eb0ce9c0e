"""Replies that no good server gives: each is whole, broken or none, and no request goes twice."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from gateway.upstream import MaybeSent, ReplyBroken
from tests.hostile_server import Caller
from tests.transport.facing import CHUNKED, OK, ask, facing, loop_turns

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\n"
LONG_HEAD = HEAD + b"Content-Length: 2\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
POISON = OK.replace(b"ok", b"no")
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Odd:
    """What the server says, what it says once its head was seen, and what is made of it.

    A server that `stays` answers the next request too, if it comes by the same connection.
    """

    first: bytes
    later: bytes
    becomes: bytes | type[Exception]
    stays: bool = False


def whole(first: bytes, later: bytes = b"", *, body: bytes = b"ok") -> Odd:
    return Odd(first, later, body, stays=True)


def ended(first: bytes, later: bytes = b"") -> Odd:
    return Odd(first, later, b"ok")


def broken(first: bytes, later: bytes = b"") -> Odd:
    return Odd(first, later, ReplyBroken)


def none(first: bytes = b"") -> Odd:
    return Odd(first, b"", MaybeSent)


# The parser below us is lenient with replies: it takes line feeds for line ends, folded headers,
# any version and any coding. That is Azure's word to us alone, so a reply it can read is
# whole.
ROWS: dict[str, Odd] = {
    "100 before the reply": whole(GO_ON + OK),
    "100 twice before the reply": whole(GO_ON * 2 + OK),
    "103 before the reply": whole(HINTS + OK),
    "102 fifty times": whole(b"HTTP/1.1 102 Processing\r\n\r\n" * 50 + OK),
    "100 a thousand times": whole(GO_ON * 1000 + OK),
    "100 and 103 and 102": whole(GO_ON + HINTS + b"HTTP/1.1 102 Processing\r\n\r\n" + OK),
    "100 and no more": none(GO_ON),
    "103 and no more": none(HINTS),
    "100 and half a head": none(GO_ON + b"HTTP/1.1 200 OK\r\nConte"),
    "an end by closing": ended(HEAD + b"\r\nok"),
    "an end by closing on HTTP/1.0": ended(b"HTTP/1.0 200 OK\r\n\r\n", b"ok"),
    "a length on HTTP/1.0": ended(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "a kept connection on HTTP/1.0": whole(
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"
    ),
    "chunks on HTTP/1.0": ended(
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    ),
    "204 with a body": whole(b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\n", b"ok", body=b""),
    "304 with a body": whole(b"HTTP/1.1 304 No\r\nContent-Length: 2\r\n\r\n", b"ok", body=b""),
    "204 in chunks": whole(
        b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\nok\r\n0\r\n\r\n", body=b""
    ),
    "more than the length": whole(LONG_HEAD + b"\r\nok", b"and more"),
    "more than the length in one": none(LONG_HEAD + b"\r\nok and more"),
    "more than the length, a reply": whole(LONG_HEAD + b"\r\nok", POISON),
    "less than the length": broken(HEAD + b"Content-Length: 9\r\n\r\n", b"ok"),
    "nothing of the length": broken(HEAD + b"Content-Length: 9\r\n\r\n"),
    "a length of a terabyte": broken(HEAD + b"Content-Length: 1099511627776\r\n\r\n", b"ok"),
    "a length of more than 64 bits": none(HEAD + b"Content-Length: 18446744073709551618\r\n\r\nok"),
    "a negative length": none(HEAD + b"Content-Length: -2\r\n\r\nok"),
    "a length with a sign": none(HEAD + b"Content-Length: +2\r\n\r\nok"),
    "a length in hexadecimal": none(HEAD + b"Content-Length: 0x2\r\n\r\nok"),
    "a length that is empty": none(HEAD + b"Content-Length:\r\n\r\nok"),
    "two lengths alike": none(LONG_HEAD + b"Content-Length: 2\r\n\r\nok"),
    "two lengths in one": none(HEAD + b"Content-Length: 2, 2\r\n\r\nok"),
    "a length and chunks": none(
        LONG_HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    ),
    "chunks and a length": none(
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    ),
    "chunks with an extension": whole(CHUNKED + b"2;a=b\r\nok\r\n0\r\n\r\n"),
    "chunks with a trailer": whole(CHUNKED + b"2\r\nok\r\n0\r\nX-A: b\r\n\r\n"),
    "chunks and more": whole(CHUNKED + b"2\r\nok\r\n0\r\n\r\n", b"and more"),
    "chunks and a second reply": whole(CHUNKED + b"2\r\nok\r\n0\r\n\r\n", POISON),
    "chunks without an end": broken(CHUNKED, b"2\r\nok\r\n"),
    "chunks with half an end": broken(CHUNKED, b"2\r\nok\r\n0\r\n"),
    "a chunk cut short": broken(CHUNKED, b"9\r\nok"),
    "a chunk of a negative size": broken(CHUNKED, b"-2\r\nok\r\n0\r\n\r\n"),
    "a chunk of a signed size": broken(CHUNKED, b"+2\r\nok\r\n0\r\n\r\n"),
    "a chunk with a prefix": broken(CHUNKED, b"0x2\r\nok\r\n0\r\n\r\n"),
    "a chunk with an underscore": broken(CHUNKED, b"0_2\r\nok\r\n0\r\n\r\n"),
    "a chunk of more than 64 bits": broken(CHUNKED, b"1" + b"0" * 16 + b"\r\nok\r\n"),
    "a chunk longer than its size": broken(CHUNKED, b"2\r\nokay\r\n0\r\n\r\n"),
    "another coding": ended(HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    "a coding after chunks": ended(HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\nok"),
    "a coding nobody knows": ended(HEAD + b"Transfer-Encoding: cow\r\n\r\nok"),
    "a body in gzip that is none": whole(LONG_HEAD + b"Content-Encoding: gzip\r\n\r\nok"),
    "a body in two encodings": whole(LONG_HEAD + b"Content-Encoding: gzip, br\r\n\r\nok"),
    "nothing": none(),
    "a line end alone": none(b"\r\n"),
    "a body without a head": none(b"ok"),
    "a status of two digits": none(b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok"),
    "a status of four digits": none(b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok"),
    "a status of letters": none(b"HTTP/1.1 2OO OK\r\nContent-Length: 2\r\n\r\nok"),
    "a status that is negative": none(b"HTTP/1.1 -20 OK\r\nContent-Length: 2\r\n\r\nok"),
    "no status": none(b"HTTP/1.1\r\nContent-Length: 2\r\n\r\nok"),
    "no reason": whole(b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"),
    "HTTP/2": ended(b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "HTTP/1.9": none(b"HTTP/1.9 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "another protocol": none(b"ICY 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "the hello of TLS": none(b"\x15\x03\x01\x00\x02\x02\x28"),
    "a header without a colon": none(HEAD + b"hello\r\nContent-Length: 2\r\n\r\nok"),
    "a header with a NUL": none(LONG_HEAD + b"X-A: a\x00b\r\n\r\nok"),
    "a header without a name": none(LONG_HEAD + b": a\r\n\r\nok"),
    "a header with a blank in its name": none(LONG_HEAD + b"X A: a\r\n\r\nok"),
    "a header with a blank before its colon": none(LONG_HEAD + b"X-A : a\r\n\r\nok"),
    "a header folded": ended(LONG_HEAD + b"X-A: a\r\n b\r\n\r\nok"),
    "line feeds alone": ended(OK.replace(b"\r\n", b"\n")),
    "a header with a return": none(LONG_HEAD + b"X-A: a\rb\r\n\r\nok"),
}


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("words", ROWS)
async def test_an_odd_reply_is_told_for_what_it_is_and_the_request_went_once(
    words: str, method: str
) -> None:
    odd, seen = ROWS[words], asyncio.Event()

    async def play(caller: Caller) -> None:
        is_first = caller.server.connections == 1
        await caller.request()
        await caller.send(odd.first if is_first else OK)
        if is_first and odd.becomes is not MaybeSent:
            await seen.wait()
            await caller.send(odd.later)
        if is_first and not odd.stays:
            caller.writer.write_eof()
            await caller.rest()
            return
        await caller.request()
        await caller.send(OK)

    async with facing(play) as (upstream, server):
        body = b"{}" if method == "POST" else None
        if odd.becomes is MaybeSent:
            with pytest.raises(MaybeSent):
                await ask(upstream, method, body=body)
        else:
            reply = await ask(upstream, method, body=body)
            seen.set()
            if isinstance(odd.becomes, bytes):
                assert await reply.read(100) == odd.becomes
            else:
                with pytest.raises(ReplyBroken):
                    await reply.read(100)
        await loop_turns()
        assert len(server.requests) == 1
        reply = await ask(upstream, "GET")
        assert (reply.status, await reply.read(2)) == (200, b"ok")
    assert len(server.requests) == 2
