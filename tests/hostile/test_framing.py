"""Framing over raw sockets: where one request ends and whether there is a second one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.wall import (
    CHAT_TARGET,
    CLEAN_CHAT,
    HELLO,
    JSON_LINE,
    KEY_LINE,
    RED_FILE,
    Vector,
    Wall,
    in_words,
    post,
    request,
)
from tests.street.living import VERSION

pytestmark = pytest.mark.anyio

SIZE = len(HELLO)
# What a smuggler wants to be read as a request of its own.
HIDDEN = (
    b"DELETE /openai/files/" + RED_FILE + b"?api-version=" + VERSION.encode() + b" HTTP/1.1\r\n"
    b"Host: gateway\r\n" + KEY_LINE + b"\r\nX-Smuggled: smuggled\r\n\r\n"
)
CODED = b"Transfer-Encoding: chunked"
WHOLE = b"%x\r\n%b\r\n0\r\n\r\n" % (SIZE, HELLO)


def framed(*lines: bytes, body: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    """Return a POST whose framing is `lines` and `body`, taken as they are."""
    sent = request(CHAT_TARGET, KEY_LINE, JSON_LINE, *lines, method=b"POST", body=body)
    return sent.replace(b"HTTP/1.1", version, 1)


LENGTHS = (
    *(b"+%d", b"-%d", b"%d,%d", b"%d, %d", b"0x%x", b"%d_0", b" %d 0", b"%d;", b"%d.0", b"%de0"),
    *(b"1 %d", b"%d\x00", b"\x0b%d", b'"%d"', b"%d bytes", b"%dL", b"'%d'", b"(%d)", b"%d\t0"),
)
ODD_LENGTHS = (
    *(b"", b" ", b"-1", b"-0", b"0x0", b"NaN", b"Infinity", b"null", b"ten", b"1e1", b"9" * 30),
    *(b"18446744073709551616", b"18446744073709551664", b"9223372036854775808", b"\xd9\xa3"),
    *(b"4294967343.", b"\xc2\xb2", b"1" * 5000, b"00x", b"0 0"),
)
CODINGS = (
    *(b"xchunked", b"chunkedx", b" chunked, identity", b"identity, chunked", b"chunked, chunked"),
    *(
        b"gzip, chunked",
        b"chunked, gzip",
        b"identity",
        b"",
        b'"chunked"',
        b"chunked;q=1",
        b"chunke",
    ),
    *(b"chunked\x00", b"\x0bchunked", b"x chunked", b"chunked x", b"cow", b"deflate", b"trailers"),
    *(
        b"chunked;a=b",
        b"chunked,",
        b",chunked",
        b"ch\xc3\xbcnked",
        b"chunKed, cow",
        b"compress",
        b"chunked \t",
    ),
)
HARMLESS_CODINGS = (b"CHUNKED", b"Chunked", b"\tchunked")
CHUNKS: dict[str, bytes] = {
    "a size that is none": b"zz\r\n" + HELLO + b"\r\n0\r\n\r\n",
    "a size with a sign": b"+%x\r\n%b\r\n0\r\n\r\n" % (SIZE, HELLO),
    "a negative size": b"-1\r\n%b\r\n0\r\n\r\n" % HELLO,
    "a size with a prefix": b"0x%x\r\n%b\r\n0\r\n\r\n" % (SIZE, HELLO),
    "a size with an underscore": b"3_0\r\n%b\r\n0\r\n\r\n" % HELLO,
    "a size with a blank before it": b" %x\r\n%b\r\n0\r\n\r\n" % (SIZE, HELLO),
    "a size that is empty": b"\r\n%b\r\n0\r\n\r\n" % HELLO,
    "a size beyond 64 bits": b"1%016x\r\n%b\r\n0\r\n\r\n" % (SIZE, HELLO),
    "a size of a hundred digits": b"f" * 100 + b"\r\n" + HELLO,
    "a size too small": b"%x\r\n%b\r\n0\r\n\r\n" % (SIZE - 3, HELLO),
    "a size too large by one": b"%x\r\n%b\r\n0\r\n\r\n" % (SIZE + 1, HELLO),
    "a line feed after the size": b"%x\n%b\r\n0\r\n\r\n" % (SIZE, HELLO),
    "a line feed after the data": b"%x\r\n%b\n0\r\n\r\n" % (SIZE, HELLO),
    "line feeds alone": b"%x\n%b\n0\n\n" % (SIZE, HELLO),
    "a return after the size": b"%x\r%b\r\n0\r\n\r\n" % (SIZE, HELLO),
    "two returns": b"%x\r\r\n%b\r\n0\r\n\r\n" % (SIZE, HELLO),
    "no line end after the data": b"%x\r\n%b0\r\n\r\n" % (SIZE, HELLO),
    "letters after the data": b"%x\r\n%bxx\r\n0\r\n\r\n" % (SIZE, HELLO),
    "an extension with a line feed": b"%x;a=b\n%b\r\n0\r\n\r\n" % (SIZE, HELLO),
    "an extension with a NUL": b"%x;a=\x00\r\n%b\r\n0\r\n\r\n" % (SIZE, HELLO),
    "an extension with a return": b"%x;a\rb\r\n%b\r\n0\r\n\r\n" % (SIZE, HELLO),
    "an extension of 2,000,000 bytes": b"%x;%b\r\n%b\r\n0\r\n\r\n"
    % (SIZE, b"a" * 2_000_000, HELLO),
    "a thousand extensions": b"1;%b\r\n{\r\n" % (b"a" * 300) * 1000,
    "a trailer": WHOLE[:-2] + b"X-A: b\r\n\r\n",
    "a trailer with a length": WHOLE[:-2] + b"Content-Length: 0\r\n\r\n",
    "a trailer with a key": WHOLE[:-2] + KEY_LINE + b"\r\n\r\n",
    "a trailer with a host": WHOLE[:-2] + b"Host: other.example\r\n\r\n",
    "a trailer with a coding": WHOLE[:-2] + CODED + b"\r\n\r\n",
    "a trailer that is a request": WHOLE[:-2] + HIDDEN,
    "a trailer folded": WHOLE[:-2] + b" X-A: b\r\n\r\n",
    "a trailer without a colon": WHOLE[:-2] + b"hello\r\n\r\n",
    "a trailer with a line feed": WHOLE[:-2] + b"X-A: b\n\n",
    "a trailer of 40,000 bytes": WHOLE[:-2] + b"X-A: " + b"b" * 40_000 + b"\r\n\r\n",
    "an end that is no number": b"%x\r\n%b\r\no\r\n\r\n" % (SIZE, HELLO),
    "a request where a size should be": b"%x\r\n%b\r\n%b" % (SIZE, HELLO, HIDDEN),
}
GOOD_CHUNKS: dict[str, bytes] = {
    "in one": WHOLE,
    "one byte each": b"".join(b"1\r\n%c\r\n" % byte for byte in HELLO) + b"0\r\n\r\n",
    "with zeros before the size": b"000" + WHOLE,
    "with an extension": b"%x;a=b\r\n%b\r\n0\r\n\r\n" % (SIZE, HELLO),
    "with a quoted extension": b'%x;a="b c"\r\n%b\r\n0\r\n\r\n' % (SIZE, HELLO),
    "with an extension at the end": b"%x\r\n%b\r\n0;a\r\n\r\n" % (SIZE, HELLO),
    "with zeros at the end": b"%x\r\n%b\r\n0000\r\n\r\n" % (SIZE, HELLO),
}
LINES: dict[str, bytes] = {
    "line feeds alone": CLEAN_CHAT.replace(b"\r\n", b"\n"),
    "a line feed after the first line": CLEAN_CHAT.replace(b"\r\n", b"\n", 1),
    "returns alone": CLEAN_CHAT.replace(b"\r\n", b"\r"),
    "a line feed before the body": CLEAN_CHAT.replace(b"\r\n\r\n", b"\n\n"),
    "two returns": CLEAN_CHAT.replace(b"\r\n", b"\r\r\n", 2),
    "HTTP/0.9": b"POST " + CHAT_TARGET + b"\r\n\r\n",
    "HTTP/1.2": CLEAN_CHAT.replace(b"HTTP/1.1", b"HTTP/1.2"),
    "HTTP/2.0": CLEAN_CHAT.replace(b"HTTP/1.1", b"HTTP/2.0"),
    "HTTP/1.10": CLEAN_CHAT.replace(b"HTTP/1.1", b"HTTP/1.10"),
    "http/1.1 in lower case": CLEAN_CHAT.replace(b"HTTP/1.1", b"http/1.1"),
    "another protocol": CLEAN_CHAT.replace(b"HTTP/1.1", b"ICY/1.1"),
    "no protocol": CLEAN_CHAT.replace(b" HTTP/1.1", b"", 1),
    "a tab before the target": CLEAN_CHAT.replace(b"POST ", b"POST\t", 1),
    "a blank before the method": b" " + CLEAN_CHAT,
    "a method in lower case": CLEAN_CHAT.replace(b"POST", b"post", 1),
    "a method nobody knows": CLEAN_CHAT.replace(b"POST", b"SMUGGLE", 1),
    "a method that only traces": CLEAN_CHAT.replace(b"POST", b"TRACE", 1),
    "a method that connects": CLEAN_CHAT.replace(b"POST", b"CONNECT", 1),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "the hello of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40,
    "the line of a proxy": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + CLEAN_CHAT,
    "a NUL in front": b"\x00" + CLEAN_CHAT,
    "a byte order mark": b"\xef\xbb\xbf" + CLEAN_CHAT,
}


def vectors() -> Iterator[Vector]:
    for shape in LENGTHS:
        value = shape.replace(b"%d", b"%d" % SIZE).replace(b"%x", b"%x" % SIZE)
        words = f"a length like {value!r}"
        yield Vector(words, framed(b"Content-Length:" + value, body=HELLO))
    for value in ODD_LENGTHS:
        words = f"a length like {value[:24]!r} of {len(value)}"
        yield Vector(words, framed(b"Content-Length: " + value, body=HELLO))
    for value in CODINGS:
        line = b"Transfer-Encoding: " + value
        yield Vector(f"a coding like {value!r}", framed(line, body=WHOLE))
        length = b"Content-Length: %d" % len(WHOLE)
        yield Vector(f"a coding like {value!r} and a length", framed(line, length, body=WHOLE))
    for value in HARMLESS_CODINGS:
        yield Vector(f"the coding {value!r}", framed(b"Transfer-Encoding: " + value, body=WHOLE), 1)
    for what, body in CHUNKS.items():
        yield Vector(f"chunks with {what}", framed(CODED, body=body))
    for what, body in GOOD_CHUNKS.items():
        yield Vector(f"chunks {what}", framed(CODED, body=body), 1)
    for what, sent in LINES.items():
        yield Vector(f"the head: {what}", sent)
    two_blanks = CLEAN_CHAT.replace(b"POST ", b"POST  ", 1)
    yield Vector("the head: two blanks before the target", two_blanks, 1)
    yield from _hiding()
    yield from _leaving()


def _hiding() -> Iterator[Vector]:
    """A second request where another server would look for one.

    What follows a whole request in one segment is dropped and the connection closed, so that even
    an honest second request has to be sent again: it is never read out of another one's bytes.
    """
    coded_end = b"0\r\n\r\n"
    length = b"Content-Length: %d" % len(coded_end + HIDDEN)
    both = (b"Content-Length: 4", CODED), (CODED, b"Content-Length: 4")
    for lines in both:
        first = lines[0].partition(b":")[0].decode()
        yield Vector(f"length and coding, {first} first", framed(*lines, body=coded_end + HIDDEN))
    yield Vector("a length over an end of chunks", framed(length, CODED, body=coded_end + HIDDEN))
    yield Vector("two lengths, the first shorter", framed(*_lengths(4, SIZE), body=HELLO))
    yield Vector("two lengths, the second shorter", framed(*_lengths(SIZE, 4), body=HELLO))
    yield Vector(
        "two lengths, one hidden by a blank",
        framed(b"Content-Length: %d" % SIZE, b"Content-Length : 4", body=HELLO),
    )
    yield Vector(
        "two codings, the first unknown", framed(b"Transfer-Encoding: cow", CODED, body=WHOLE)
    )
    yield Vector(
        "two codings, the second unknown", framed(CODED, b"Transfer-Encoding: cow", body=WHOLE)
    )
    yield Vector("two codings alike", framed(CODED, CODED, body=WHOLE))
    yield Vector("a coding folded", framed(b"Transfer-Encoding:\r\n chunked", body=WHOLE))
    yield Vector(
        "a coding behind a line feed", framed(b"X-A: b\nTransfer-Encoding: chunked", body=WHOLE)
    )
    yield Vector(
        "a coding behind a return", framed(b"X-A: b\rTransfer-Encoding: chunked", body=WHOLE)
    )
    yield Vector("chunks on HTTP/1.0", framed(CODED, body=WHOLE, version=b"HTTP/1.0"))
    yield Vector("a body that nobody announced", framed(body=HELLO))
    yield Vector("a request for a body, not announced", framed(body=HIDDEN))
    yield Vector("a length of nought over a request", framed(b"Content-Length: 0", body=HIDDEN))
    yield Vector("a request inside a body", post(body=HIDDEN))
    yield Vector(
        "a request inside chunks",
        framed(CODED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
    )
    yield Vector("a request behind a request", CLEAN_CHAT + HIDDEN, 1)
    yield Vector("a request behind chunks", framed(CODED, body=WHOLE) + HIDDEN, 1)
    yield Vector("half a request behind a request", CLEAN_CHAT + b"DELETE /openai/fi", 1)
    yield Vector("the same request twice", CLEAN_CHAT * 2, 1)
    yield Vector("rubbish behind a request", CLEAN_CHAT + b"\x00\x01rubbish\r\n\r\n", 1)
    yield Vector(
        "a request behind one that is to be the last", post(b"Connection: close") + HIDDEN, 1
    )
    yield Vector(
        "a request behind an offer to upgrade",
        post(b"Connection: Upgrade", b"Upgrade: h2c") + HIDDEN,
        1,
    )
    offered = (b"Connection: Upgrade", b"Upgrade: h2c")
    yield Vector("chunks behind an offer to upgrade", framed(*offered, CODED, body=WHOLE), 1)
    yield Vector("an offer to upgrade over a request", post(*offered, body=HIDDEN))
    yield Vector(
        "an offer to upgrade with two lengths", framed(*offered, *_lengths(4, SIZE), body=HELLO)
    )
    yield Vector(
        "an offer to upgrade with length and coding",
        framed(*offered, b"Content-Length: 4", CODED, body=WHOLE),
    )
    yield Vector(
        "an offer to upgrade with a coding nobody knows",
        framed(*offered, b"Transfer-Encoding: cow", body=WHOLE),
    )
    refused = request(
        CHAT_TARGET,
        b"api-key: none",
        JSON_LINE,
        b"Content-Length: %d" % len(HIDDEN),
        method=b"POST",
        body=HIDDEN,
    )
    yield Vector("a request inside the body of one that is refused", refused)
    yield Vector(
        "a request inside a body that is too large to be read",
        framed(b"Content-Length: 2000000", body=HIDDEN * 20),
    )
    get = request(
        b"/gateway/v1/nothing", KEY_LINE, b"Content-Length: %d" % len(HIDDEN), body=HIDDEN
    )
    yield Vector("a request inside the body of a GET", get)


def _lengths(first: int, second: int) -> tuple[bytes, bytes]:
    return b"Content-Length: %d" % first, b"Content-Length: %d" % second


def _leaving() -> Iterator[Vector]:
    """Callers who leave before their request is whole."""
    for part in (1, 10, 60, len(CLEAN_CHAT) - SIZE - 2, len(CLEAN_CHAT) - SIZE):
        yield Vector(f"gone after {part} bytes", CLEAN_CHAT[:part], answers=0)
    yield Vector("gone before the last byte", CLEAN_CHAT[:-1], answers=0)
    yield Vector("gone in the middle of the body", CLEAN_CHAT[:-20], answers=0)
    for part in (1, 2, 4, 5, 8):
        sent = framed(CODED, body=WHOLE)[:-part]
        yield Vector(f"gone {part} bytes before the end of chunks", sent, answers=0)
    yield Vector(
        "a length longer than what comes",
        framed(b"Content-Length: %d" % (SIZE + 1), body=HELLO),
        answers=0,
    )


VECTORS = in_words(vectors)


@pytest.mark.parametrize("words", VECTORS)
async def test_no_bytes_are_read_as_another_request_than_the_one_they_are(
    wall: Wall, words: str
) -> None:
    await wall.withstands(VECTORS[words], clean=CLEAN_CHAT)
