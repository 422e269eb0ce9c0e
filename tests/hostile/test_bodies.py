"""JSON bodies: one document for every parser there is, or none."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.hostile.wall import CHAT_TARGET, CLEAN_CHAT, HELLO, Vector, Wall, in_words, post
from tests.street.living import VERSION

pytestmark = pytest.mark.anyio

SAID = b'"messages":[{"role":"user","content":"hello"}]'


def body(*more: bytes) -> bytes:
    """Return the clean body with more of the caller's own text in it."""
    return b"{" + b",".join((SAID, *more)) + b"}"


HARMLESS: dict[str, bytes] = {
    "blanks everywhere": b' \t{ "messages" :\r\n[ {"role":"user" , "content":"hello" }\n]\r} ',
    "escapes in a key": HELLO.replace(b"messages", b"\\u006dessages"),
    "escapes in a value": HELLO.replace(b"hello", b"\\u0068\\u0065llo"),
    "escapes in capitals": HELLO.replace(b"hello", b"hell\\u006F"),
}
TWICE: dict[str, bytes] = {
    "at once": body(b'"stream":false', b'"stream":true'),
    "apart": b'{"messages":[],' + SAID + b"}",
    "the same": body(SAID),
    "escaped": body(b'"stream":false', b'"\\u0073tream":true'),
    "escaped in capitals": body(b'"stream":false', b'"strea\\u006D":true'),
    "escaped twice over": body(b'"str\\u0065am":1', b'"stre\\u0061m":2'),
    "a slash and an escaped one": body(b'"metadata":{"a/b":1,"a\\/b":2}'),
    "an empty name": body(b'"":1', b'"":2'),
    "null both times": body(b'"user":null', b'"user":null'),
    "in a message": body().replace(b'"role"', b'"role":"system","role"'),
    "in a list in a list": body(b'"x":[[[{"a":1,"a":2}]]]'),
    "in metadata": body(b'"metadata":{"a":"1","a":"2"}'),
    "in a schema": body(b'"tools":[{"type":"function","function":{"parameters":{"a":1,"a":2}}}]'),
    "characters beyond the first plane": body(
        b'"metadata":{"\\ud83d\\ude00":1,"\xf0\x9f\x98\x80":2}'
    ),
}
NUMBERS = (
    *(
        b"NaN",
        b"nan",
        b"Infinity",
        b"-Infinity",
        b"+Infinity",
        b"inf",
        b"-NaN",
        b"1e400",
        b"-1e400",
    ),
    *(b"1e9999", b"1E+400", b"18446744073709551616", b"-9223372036854775809", b"9" * 30),
    *(b"9" * 4000, b"9" * 5000, b"-" + b"9" * 5000, b"1" + b"0" * 400, b"01", b"-01", b"00"),
    *(b"0x10", b"0o7", b"0b1", b"1_000", b"1,000", b"+1", b"--1", b".5", b"5.", b"-.5", b"1e"),
    *(b"1e+", b"1.e1", b"1.5.5", b"1e1.5", b"-", b"1f", b"1L", b"1n", b"\xd9\xa1", b"1 2"),
)
WORDS = (
    *(b"True", b"TRUE", b"tru", b"None", b"undefined", b"nul", b"yes", b"'a'", b"`a`", b"a"),
    *(b"new Date()", b"/a/", b'"a" "b"', b'"a"+"b"', b"<a>", b"", b"(1)", b"@", b"1;"),
)
TEXTS: dict[str, bytes] = {
    "a surrogate alone": b'"\\ud800"',
    "a low surrogate alone": b'"\\udc00"',
    "surrogates the wrong way round": b'"\\udc00\\ud800"',
    "a surrogate and a letter": b'"\\ud800a"',
    "two high surrogates": b'"\\ud800\\ud800"',
    "a surrogate in raw bytes": b'"\xed\xa0\x80"',
    "an overlong slash": b'"\xc0\xaf"',
    "a byte of Latin-1": b'"\xe4"',
    "a character beyond the last": b'"\xf4\x90\x80\x80"',
    "a sequence cut short": b'"\xe2\x82"',
    "a raw line feed": b'"a\nb"',
    "a raw tab": b'"a\tb"',
    "a raw NUL": b'"a\x00b"',
    "a raw escape character": b'"a\x1bb"',
    "an escape of C": b'"\\x41"',
    "an escape of an octal": b'"\\101"',
    "an escaped quote of JavaScript": b'"\\\'"',
    "an escape of Python": b'"\\U00000041"',
    "an escape of ES6": b'"\\u{41}"',
    "half an escape": b'"\\u00"',
    "an escape that is none": b'"\\uzzzz"',
    "an escape with a sign": b'"\\u+041"',
    "an escape at the end": b'"\\',
    "no end": b'"abc',
    "a line carried on": b'"a\\\nb"',
}
FRAMES: dict[str, bytes] = {
    "a byte order mark": b"\xef\xbb\xbf" + HELLO,
    "two byte order marks": b"\xef\xbb\xbf" * 2 + HELLO,
    "a NUL in front": b"\x00" + HELLO,
    "a NUL behind": HELLO + b"\x00",
    "a form feed in front": b"\x0c" + HELLO,
    "a vertical tab": b"\x0b" + HELLO,
    "a blank of another kind": b"\xc2\xa0" + HELLO,
    "a next-line character": b"\xc2\x85" + HELLO,
    "a line separator": b"\xe2\x80\xa8" + HELLO,
    "a letter behind": HELLO + b"x",
    "a brace behind": HELLO + b"}",
    "a comma behind": HELLO + b",",
    "a second document": HELLO + HELLO,
    "a second document after a blank": HELLO + b" " + HELLO,
    "a second document on a line of its own": HELLO + b"\n" + HELLO,
    "a record separator": b"\x1e" + HELLO + b"\n",
    "a comment in front": b"/* a */" + HELLO,
    "a comment behind": HELLO + b" // a",
    "a comment of a shell": b"# a\n" + HELLO,
    "a comment within": HELLO.replace(b",", b"/* a */,", 1),
    "the guard of an old server": b")]}',\n" + HELLO,
    "a call of JSONP": b"a(" + HELLO + b")",
    "a form": b"messages=%5B%5D",
    "a form whose field is the document": b"a=" + HELLO,
    "a data URL": b"data:application/json," + HELLO,
    "base64": b"eyJhIjoxfQ==",
    "gzip without saying so": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
    "XML": b"<messages/>",
    "nothing": b"",
    "a blank": b" ",
    "null": b"null",
    "a list": b"[" + HELLO + b"]",
    "a text": json.dumps(HELLO.decode()).encode(),
    "a number": b"1",
    "cut short": HELLO[:-1],
    "cut in a text": HELLO[:-10],
    "a comma too many": HELLO[:-1] + b",}",
    "a comma too many in a list": HELLO.replace(b"}]", b"},]"),
    "a comma first": b"{," + HELLO[1:],
    "two commas": HELLO.replace(b'"role":"user",', b'"role":"user",,'),
    "no comma": HELLO.replace(b",", b"", 1),
    "an equals sign": HELLO.replace(b":", b"=", 1),
    "single quotes": HELLO.replace(b'"', b"'"),
    "a key without quotes": HELLO.replace(b'"messages"', b"messages"),
    "a number for a key": b"{1:2," + HELLO[1:],
    "the wrong bracket": HELLO.replace(b"]", b")"),
}
ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
CASES = (
    *(
        "Messages",
        "MESSAGES",
        "Tools",
        "TOOLS",
        "Stream",
        "STREAM",
        "Model",
        "Max_Tokens",
        "maxTokens",
    ),
    *("Container", "File_Ids", "fileIds", "Tool_Resources", "N", "streamoptions ", " stream"),
    *("stream\\u0000", "stream\\u200b", "ſtream", "toolſ", "K", "ﬁle_ids", "ｔools", "tools\\t"),
    *("stream\\ufeff", "Ｓtream", "tool\\u0455", "\\u0442ools"),
)
DEPTHS = (65, 66, 100, 128, 129, 256, 500, 1000, 10_000, 100_000)


def vectors() -> Iterator[Vector]:
    for what, sent in HARMLESS.items():
        yield Vector(what, post(body=sent), 1)
    for what, sent in TWICE.items():
        yield Vector(f"a name twice: {what}", post(body=sent))
    for depth in range(1, 12):
        nested = b'{"a":' * depth + b'{"b":1,"b":2}' + b"}" * depth
        yield Vector(f"a name twice, {depth} deep", post(body=body(b'"metadata":' + nested)))
    for number in NUMBERS:
        words = f"a number like {number[:20]!r} of {len(number)}"
        yield Vector(words, post(body=body(b'"temperature":' + number)))
    for number in (b"1e400", b"NaN", b"9" * 30):
        nested = b'"metadata":{"a":[[1,' + number + b"]]}"
        yield Vector(f"a number like {number!r} within", post(body=body(nested)))
    for word in WORDS:
        yield Vector(f"a word like {word!r}", post(body=body(b'"user":' + word)))
    for what, text in TEXTS.items():
        yield Vector(f"a text with {what}", post(body=body(b'"user":' + text)))
        if what not in ("no end", "an escape at the end"):
            yield Vector(f"a name with {what}", post(body=body(b'"metadata":{' + text + b":1}")))
    for what, sent in FRAMES.items():
        yield Vector(f"framed by {what}", post(body=sent))
    for encoding in ENCODINGS:
        sent = HELLO.decode().replace("hello", "hellö").encode(encoding)
        yield Vector(f"in {encoding}", post(body=sent))
    for name in CASES:
        yield Vector(f"a field like `{name}`", post(body=body(f'"{name}":1'.encode())))
        within = f'"tools":[{{"{name}":1}}]'.encode()
        yield Vector(f"a field like `{name}` within", post(body=body(within)))
    for depth in DEPTHS:
        lists = b'"metadata":' + b"[" * depth + b"]" * depth
        objects = b'"metadata":' + b'{"a":' * depth + b"1" + b"}" * depth
        for what, sent in (("lists", lists), ("objects", objects), ("open lists", b"[" * depth)):
            if len(sent) < 1_000_000:
                yield Vector(f"{depth} {what} deep", post(body=body(sent)))
    yield Vector("a megabyte and more", post(body=body(b'"user":"' + b"a" * 1_050_000 + b'"')))
    yield Vector("300,000 fields", post(body=body(b'"metadata":{' + _fields(90_000) + b"}")))
    yield Vector("200,001 brackets", post(body=body(b'"metadata":[' + b"{}," * 200_000 + b"1]")))
    unclosed = b"[" * 100_001 + b'"' + b'\\"' * 400_000
    yield Vector("a text without end that is nothing but quotes", post(body=unclosed))


def _fields(number: int) -> bytes:
    return b",".join(b'"%d":[1,2]' % each for each in range(number))


VECTORS = in_words(vectors)


@pytest.mark.parametrize("words", VECTORS)
async def test_no_body_reaches_azure_that_two_parsers_could_read_differently(
    wall: Wall, words: str
) -> None:
    await wall.withstands(VECTORS[words], clean=CLEAN_CHAT)


@pytest.mark.parametrize("operation", ["/openai/v1/responses", "/openai/threads/runs?%s"])
@pytest.mark.parametrize("what", [*TWICE, *FRAMES])
async def test_every_operation_reads_a_body_alike(wall: Wall, operation: str, what: str) -> None:
    target = operation.replace("%s", f"api-version={VERSION}").encode()
    sent = {**TWICE, **FRAMES}[what]
    await wall.withstands(Vector(what, post(target=target, body=sent)), clean=CLEAN_CHAT)


async def test_a_body_on_an_operation_that_takes_none_is_not_passed_on(wall: Wall) -> None:
    street, mark = wall.street, await wall.street.mark()
    path = (await street.upload()).json()["id"].encode()
    target = b"/openai/files/" + path + b"?api-version=" + VERSION.encode()
    sent = post(target=target, body=b'{"file_id":"other"}').replace(b"POST", b"GET", 1)
    (answer,) = await wall.say(sent)
    rows = await wall.arrived(mark)

    assert answer.status == 200
    assert [row["method"] for row in rows] == ["POST", "GET"]
    assert rows[1]["body_bytes"] == 0


async def test_what_arrives_is_the_document_that_was_judged(wall: Wall) -> None:
    mark = await wall.street.mark()
    sent = body(b'"metadata" : {"b":1.0, "a":18446744073709551615,"\\u00e4":"\\ud83d\\ude00"}')
    (answer,) = await wall.say(post(target=CHAT_TARGET, body=sent))
    (row,) = await wall.arrived(mark)

    assert answer.status == 200
    assert row["json"] == json.loads(sent)
    assert list(row["json"]["metadata"]) == ["b", "a", "ä"]
