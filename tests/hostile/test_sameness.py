"""What Azure receives is exactly what the gateway's parsers said it was, or nothing at all.

Three readers who share no code look at every generated request: the gateway's parsers, Python's own
`json` and `urllib.parse`, and the simulator, whose journal tells what arrived.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.core.canonical import dump, parse_object
from gateway.core.target import parse_target
from tests.hostile.wall import (
    CHAT_TARGET,
    FILES_TARGET,
    KEY_LINE,
    Answer,
    Wall,
    assert_refusal,
    post,
    request,
)
from tests.street.living import VERSION

pytestmark = pytest.mark.anyio

EXAMPLES = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])


async def told(wall: Wall, sent: bytes) -> tuple[Answer, list[dict[str, Any]]]:
    """Send a request and return its answer and what arrived of it."""
    mark = await wall.street.mark()
    (answer,) = await wall.say(sent)
    rows = await wall.street.journal(mark)
    await wall.arrived(mark)
    if b"apim-request-id" in answer.headers:
        assert len(rows) == 1
    else:
        assert_refusal(answer)
        assert rows == []
    return answer, rows


# ------------------------------------------------------------------------------------ documents

ODD_NUMBERS = (
    *("0", "-0", "-0.0", "0.1", "1E5", "1e+2", "1e400", "-1e400", "5e-324", "1e-400", "NaN", "01"),
    *("9007199254740993", "18446744073709551615", "18446744073709551616", "9" * 4400, "1.0"),
    *("-9223372036854775808", "-9223372036854775809", "1.10", "100000000000000000000.0"),
    *("0.1000000000000000055511151231257827", "1e22", "1e23", "123456789012345678.5"),
)
NUMBERS = st.one_of(
    st.integers(-(1 << 70), 1 << 70).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(ODD_NUMBERS),
)
CHARACTERS = st.one_of(
    st.characters(codec="utf-8").map(lambda c: json.dumps(c, ensure_ascii=False)[1:-1]),
    st.characters(codec="utf-8").map(lambda c: json.dumps(c)[1:-1]),
    st.sampled_from(["\\/", "/", "\\u0041", "A", "\\u00e9", "\\ud83d\\ude00", "\\u0000", "\\b"]),
)
ODD_CHARACTERS = st.sampled_from(["\\ud800", "\\udc00", "\\x41", "\t", "\\", "\\u12"])
PLAIN = st.lists(CHARACTERS, max_size=5).map("".join)
TEXTS = st.one_of(PLAIN, PLAIN, PLAIN, st.tuples(PLAIN, ODD_CHARACTERS, PLAIN).map("".join)).map(
    lambda text: f'"{text}"'
)
BLANKS = st.sampled_from(["", "", "", " ", "\n", "\t\r\n "])
SCALARS = st.one_of(NUMBERS, TEXTS, st.sampled_from(["true", "false", "null"]))


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    items = st.lists(st.tuples(BLANKS, inner, BLANKS).map("".join), max_size=4)
    names = st.one_of(TEXTS, st.sampled_from(['"a"', '"\\u0061"', '"b"', '"file_id"']))
    fields = st.lists(
        st.tuples(names, BLANKS, st.just(":"), BLANKS, inner).map("".join), max_size=4
    )
    return st.one_of(
        items.map(lambda each: "[" + ",".join(each) + "]"),
        fields.map(lambda each: "{" + ",".join(each) + "}"),
    )


VALUES = st.recursive(SCALARS, _nested, max_leaves=12)


class Ambiguous(ValueError):
    """Python's reader could read it, and another reader otherwise."""


def independent(raw: bytes) -> object:
    """Return the document as Python reads it, fields in order and integers by their digits.

    Raises:
        ValueError: it is not JSON, or not the same for everybody.
    """

    def fields(pairs: list[tuple[str, object]]) -> object:
        if len({name for name, _ in pairs}) != len(pairs):
            raise Ambiguous
        return ("object", *pairs)

    def whole(digits: str) -> object:
        number = int(digits) if len(digits) < 100 else 1 << 65
        if not -(1 << 63) <= number < 1 << 64:
            raise Ambiguous
        return ("integer", number)

    def fraction(digits: str) -> object:
        number = float(digits)
        if number in (float("inf"), float("-inf")):
            raise Ambiguous
        return ("double", number.hex())

    def never(_: str) -> object:
        raise Ambiguous

    text = raw.decode("utf-8")
    document = json.loads(
        text, object_pairs_hook=fields, parse_int=whole, parse_float=fraction, parse_constant=never
    )
    json.dumps(document, ensure_ascii=False).encode("utf-8")  # Raises for half a surrogate pair.
    return document


@EXAMPLES
@example(value='[1e400,"a"]', depth=0)
@example(value='{"a":18446744073709551616}', depth=0)
@example(value='{"a":1,"\\u0061":2}', depth=0)
@example(value='"\\udc00"', depth=0)
@given(
    value=st.one_of(VALUES, VALUES, st.sampled_from(ODD_NUMBERS)),
    depth=st.sampled_from([0, 0, 0, 0, 20, 80, 300]),
)
async def test_a_document_arrives_as_it_was_judged_or_not_at_all(
    wall: Wall, value: str, depth: int
) -> None:
    nested = "[" * depth + value + "]" * depth
    raw = f'{{"messages":[{{"role":"user","content":"hi"}}],"metadata":{nested}}}'.encode()
    answer, rows = await told(wall, post(target=CHAT_TARGET, body=raw))
    try:
        said = independent(raw)
    except ValueError:
        assert rows == [], raw
        return
    assert bool(rows) is (depth < 60), (answer, raw)
    for row in rows:
        sent = dump(parse_object(raw))
        assert row["body_sha256"] == hashlib.sha256(sent).hexdigest()
        assert independent(sent) == said
        assert row["json"]["metadata"] == json.loads(raw)["metadata"]


# -------------------------------------------------------------------------------------- queries

SHOWN = st.characters(codec="utf-8").filter(str.isprintable)
WORDS = st.text(SHOWN, max_size=8)
ESCAPES = st.sampled_from(["%", "%4", "%zz", "%00", "%0a", "%ff", "%ed%a0%80", "%c0%af", "+", ";"])
PAIRS = st.tuples(
    st.sampled_from(
        ["limit", "order", "after", "before", "run_id", "run%5Fid", "debug", "%61fter"]
    ),
    st.one_of(
        WORDS.map(lambda word: quote(word, safe="")),
        WORDS.map(lambda word: quote(word, safe="!'()*,:@/?$").replace("%20", "+")),
        st.tuples(WORDS.map(quote), ESCAPES).map("".join),
        st.sampled_from(["7", "asc", "%61sc", "a%2526b", "a%26b%3Dc"]),
    ),
)


@EXAMPLES
@given(pairs=st.lists(PAIRS, max_size=4))
async def test_a_query_arrives_as_it_was_judged_or_not_at_all(
    wall: Wall, pairs: Sequence[tuple[str, str]]
) -> None:
    query = "&".join([*(f"{name}={value}" for name, value in pairs), f"api-version={VERSION}"])
    target = f"/openai/threads/{await _thread(wall)}/messages?{query}".encode()
    _, rows = await told(wall, request(target, KEY_LINE))
    for row in rows:
        arrived = parse_qsl(
            row["target"].partition("?")[2], keep_blank_values=True, strict_parsing=True
        )
        said = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
        assert arrived == said
        assert arrived == list(parse_target(target).query)


async def _thread(wall: Wall) -> str:
    mark = b"@THREAD@"
    if mark not in wall.names:
        wall.names[mark] = (await wall.street.thread()).encode()
    return wall.names[mark].decode()


# ---------------------------------------------------------------------------------------- forms


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a client writes the parameters of a Content-Disposition."""

    words: str
    name: str
    filename: str

    def head(self, name: str, filename: str | None) -> str:
        written = "form-data; " + self.name.format(name)
        if filename is not None:
            escaped = quote(filename, safe="")
            quoted = filename.replace('"', "%22")
            written += "; " + self.filename.format(quoted, escaped)
        return f"Content-Disposition: {written}\r\n"


SPELLINGS = [
    Spelling("quoted", 'name="{}"', 'filename="{}"'),
    Spelling("quoted, other case", 'NAME="{}"', 'FileName="{}"'),
    Spelling("said twice", "name={}", "filename=\"{0}\"; filename*=utf-8''{1}"),
    Spelling("said twice, first escaped", "name={}", "filename*=UTF-8'en'{1}; filename=\"{0}\""),
]
STEMS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Zs"]),
    min_size=1,
    max_size=8,
).filter(lambda stem: not set('\\/%"=?') & set(stem))
PIECES = st.sampled_from(
    (
        *("a,b", "\r\n", "\n", "\r\n--", "--", "B", "--B", "--B--", "\r\n--B\r\n", "é", "\t"),
        *("\r\n--B--\r\n", 'Content-Disposition: form-data; name="purpose"', "\r\n\r\n", "-"),
        *("----xyz", "\r\n--" + "x" * 69),
    )
)
CONTENTS = st.lists(PIECES, min_size=1, max_size=8).map(lambda pieces: "".join(pieces).encode())
BOUNDARIES = st.sampled_from(["B", "B-", "----xyz", "a'b(c)+_,./:=?", "a b", "x" * 70, "0"])


@EXAMPLES
@given(
    stem=STEMS,
    content=CONTENTS,
    spelling=st.sampled_from(SPELLINGS),
    boundary=BOUNDARIES,
    file_first=st.booleans(),
    cuts=st.lists(st.integers(1, 700), max_size=6),
)
async def test_a_form_arrives_as_it_was_judged_or_not_at_all(
    wall: Wall,
    *,
    stem: str,
    content: bytes,
    spelling: Spelling,
    boundary: str,
    file_first: bool,
    cuts: list[int],
) -> None:
    filename = f"{stem}.txt"
    line = f"--{boundary}\r\n"
    parts = [
        (line + spelling.head("purpose", None) + "\r\nassistants\r\n").encode(),
        (line + spelling.head("file", filename) + "\r\n").encode() + content + b"\r\n",
    ]
    body = b"".join(reversed(parts) if file_first else parts) + f"--{boundary}--\r\n".encode()
    answer, rows = await told(wall, _in_chunks(body, boundary, cuts))
    is_plain = f"--{boundary}".encode() not in content
    assert rows or not is_plain or len(filename.encode()) > 200, (answer, body)
    for row in rows:
        purpose, file = row["form"]
        assert (purpose["name"], purpose["filename"], purpose["bytes"]) == ("purpose", None, 10)
        assert (file["name"], file["filename"]) == ("file", filename)
        assert file["sha256"] == hashlib.sha256(content).hexdigest()


def _in_chunks(body: bytes, boundary: str, cuts: Sequence[int]) -> bytes:
    edges = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    pieces = [body[a:b] for a, b in itertools.pairwise(edges)]
    sent = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    media = f'Content-Type: multipart/form-data; boundary="{boundary}"'.encode()
    lines = (KEY_LINE, media, b"Transfer-Encoding: chunked")
    return request(FILES_TARGET, *lines, method=b"POST", body=sent)
