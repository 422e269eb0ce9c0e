"""Queries: parameters from a list, each read once and written by ourselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.wall import (
    CLEAN_FILE,
    FILE,
    KEY,
    KEY_LINE,
    RED_FILE,
    Vector,
    Wall,
    in_words,
    request,
)
from tests.street.living import VERSION

pytestmark = pytest.mark.anyio

PATH = b"/openai/files/" + FILE
NOW = VERSION.encode()
VERSIONED = b"api-version=" + NOW

HARMLESS: dict[str, bytes] = {
    "the version's name escaped": b"api%2dversion=" + NOW,
    "the version's name escaped in every letter": b"%61%70%69%2D%76%65%72%73%69%6F%6E=" + NOW,
    "the version escaped": b"api-version=2024%2D05%2d01-preview",
}
VERSIONS: dict[str, bytes] = {
    "twice": VERSIONED + b"&" + VERSIONED,
    "twice, one other": VERSIONED + b"&api-version=2023-05-15",
    "twice, the first other": b"api-version=2023-05-15&" + VERSIONED,
    "twice, one escaped": VERSIONED + b"&api%2Dversion=" + NOW,
    "twice, apart": VERSIONED + b"&a=b&" + VERSIONED,
    "in another case": VERSIONED + b"&API-Version=" + NOW,
    "in another case alone": b"Api-Version=" + NOW,
    "with an underscore": VERSIONED + b"&api_version=" + NOW,
    "without its hyphen": VERSIONED + b"&apiversion=" + NOW,
    "as a list": b"api-version[]=" + NOW,
    "as a list beside it": VERSIONED + b"&api-version[]=" + NOW,
    "as the first of a list": VERSIONED + b"&api-version[0]=" + NOW,
    "as a field of an object": VERSIONED + b"&api-version[a]=" + NOW,
    "as a list, escaped": VERSIONED + b"&api-version%5B%5D=" + NOW,
    "with a blank before its name": VERSIONED + b"&+api-version=" + NOW,
    "with a blank behind its name": VERSIONED + b"&api-version+=" + NOW,
    "with a dot before its name": VERSIONED + b"&.api-version=" + NOW,
    "with a dollar before its name": VERSIONED + b"&$api-version=" + NOW,
    "with a NUL in its name": VERSIONED + b"&api-version%00=" + NOW,
    "with a blank behind it": VERSIONED + b"+",
    "with a blank before it": b"api-version=%20" + NOW,
    "with another hyphen": "api‐version=".encode() + NOW,
    "with another hyphen, escaped": b"api%E2%80%90version=" + NOW,
    "of a thousand characters": b"api-version=" + b"2" * 1000,
    "a list of two": VERSIONED + b",2023-05-15",
    "with another parameter in it": VERSIONED + b"%26a=b",
    "with a fragment in it": VERSIONED + b"%23a",
    "with a question mark": VERSIONED + b"?a=b",
    "with a second query": VERSIONED + b"?" + VERSIONED,
    "with a path in it": b"api-version=../../openai/files",
    "with a line end in it": VERSIONED + b"%0d%0aapi-key:%20a",
    "escaped twice": b"api-version=2024%252D05-01-preview",
    "in fullwidth digits": "api-version=２０２４-05-01-preview".encode(),
    "in fullwidth digits, escaped": b"api-version=%EF%BC%92024-05-01-preview",
    "that nobody knows": b"api-version=1999-01-01",
}
SEPARATORS: dict[str, bytes] = {
    "a semicolon": VERSIONED + b";a=b",
    "a semicolon before it": b"a=b;" + VERSIONED,
    "a semicolon before a second": VERSIONED + b";" + VERSIONED,
    "an escaped semicolon": VERSIONED + b"%3ba=b",
    "two ampersands": VERSIONED + b"&&a=b",
    "an ampersand at the end": VERSIONED + b"&",
    "an ampersand at the start": b"&" + VERSIONED,
    "an ampersand of HTML": VERSIONED + b"&amp;a=b",
    "a comma": VERSIONED + b",a=b",
    "a bar": VERSIONED + b"|a=b",
    "a blank": VERSIONED + b"%20a=b",
    "a line feed": VERSIONED + b"%0aa=b",
    "a question mark first": b"?" + VERSIONED,
    "an equals sign first": b"=" + VERSIONED,
    "two equals signs": b"api-version==" + NOW,
    "a name alone": VERSIONED + b"&a",
    "a name alone first": b"a&" + VERSIONED,
    "no name": VERSIONED + b"&=b",
    "an equals sign alone": VERSIONED + b"&=",
}
BAD_BYTES: dict[str, bytes] = {
    "a percent sign": b"%",
    "a half escape": b"%4",
    "an escape that is none": b"%zz",
    "an escape of IIS": b"%u0041",
    "an escape with a sign": b"%-1",
    "an escape with a blank": b"% 1",
    "a NUL": b"%00",
    "a line end": b"%0d%0a",
    "a tab": b"%09",
    "an escape character": b"%1b",
    "a delete": b"%7f",
    "a control character of the second kind": b"%c2%85",
    "a byte that is no UTF-8": b"%ff",
    "a dot in an overlong form": b"%c0%ae",
    "a surrogate": b"%ed%a0%80",
    "a character beyond the last": b"%f4%90%80%80",
    "a byte order mark": b"%ef%bb%bf",
    "a zero-width space": b"%e2%80%8b",
    "a line separator": b"%e2%80%a8",
    "a mark that turns the text": b"%e2%80%ae",
    "a raw byte": b"\xff",
    "a raw letter with an accent": "é".encode(),
    "a raw tab": b"\t",
    "a backslash": b"\\",
    "a fragment": b"#a",
}
NAMES = (
    *(b"debug", b"api-key", b"key", b"subscription-key", b"code", b"sig", b"access_token", b"team"),
    *(b"limit", b"after", b"before", b"order", b"include[]", b"include", b"purpose", b"file_id"),
    *(b"url", b"redirect", b"callback", b"_method", b"method", b"host", b"path", b"$filter"),
    *(b"deployment", b"model", b"user", b"x-ms-client-request-id", b"timeout", b"stream"),
    *(b"__proto__", b"constructor", b"a.b", b"a[b]", b"a" * 500),
)


def vectors() -> Iterator[Vector]:
    for what, query in HARMLESS.items():
        yield Vector(what, asking(query), 1)
    for what, query in VERSIONS.items():
        yield Vector(f"the version {what}", asking(query))
    for what, query in SEPARATORS.items():
        yield Vector(f"parted by {what}", asking(query))
    for what, trick in BAD_BYTES.items():
        yield Vector(f"{what} in a value", asking(VERSIONED + trick))
        yield Vector(f"{what} in a name", asking(VERSIONED + b"&a" + trick + b"=b"))
        yield Vector(f"{what} in the version's name", asking(b"api-" + trick + b"version=" + NOW))
    for name in NAMES:
        words = name.decode()[:30]
        yield Vector(f"nobody listed `{words}`", asking(VERSIONED + b"&" + name + b"=a"))
        yield Vector(f"nobody listed `{words}`, in front", asking(name + b"=a&" + VERSIONED))
    yield Vector("33 parameters", asking(b"&".join([VERSIONED, *[b"a=b"] * 32])))
    yield Vector("a thousand parameters", asking(b"&".join([VERSIONED, *[b"a=b"] * 1000])))
    yield Vector("a query of 9,000 bytes", asking(VERSIONED + b"&a=" + b"b" * 9000))
    yield Vector("the key in the query", request(PATH + b"?api-key=" + KEY + b"&" + VERSIONED))
    yield Vector("a path in the query", asking(VERSIONED + b"&path=/openai/files/" + RED_FILE))


def asking(query: bytes) -> bytes:
    return request(PATH + b"?" + query, KEY_LINE)


VECTORS = in_words(vectors)


@pytest.mark.parametrize("words", VECTORS)
async def test_no_query_reaches_azure_but_the_one_we_write(wall: Wall, words: str) -> None:
    await wall.withstands(VECTORS[words], clean=CLEAN_FILE)


async def test_a_list_is_asked_for_with_the_parameters_that_were_read(wall: Wall) -> None:
    street = wall.street
    thread = await street.thread()
    mark = await street.mark()
    query = b"limit=7&order=%61sc&api-version=" + NOW
    target = b"/openai/threads/" + thread.encode() + b"/messages?" + query
    (answer,) = await wall.say(request(target, KEY_LINE))
    (row,) = await wall.arrived(mark)

    assert answer.status == 200
    assert row["target"].partition("?")[2].startswith("limit=7&order=asc&api-version=")


async def test_a_version_left_empty_is_one_that_was_not_given(wall: Wall) -> None:
    rows = []
    for query in (b"", b"?api-version="):
        mark = await wall.street.mark()
        (answer,) = await wall.say(request(PATH + query, KEY_LINE))
        assert answer.status == 200
        rows += await wall.arrived(mark)

    assert rows[0] == rows[1]
