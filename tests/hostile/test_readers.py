"""The pure readers under generated input: a reading or a refusal, whatever comes and however cut.

Work is bounded by counting what is done, not by a clock: lines of Python that run, bytes that are
handed on, bytes that are kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from types import FrameType
from typing import Any, TypeVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core import canonical
from gateway.core.canonical import dump, parse_object
from gateway.core.disposition import name_fault, parse_disposition
from gateway.core.errors import Refusal
from gateway.core.multipart import (
    FormReader,
    PartBegins,
    PartData,
    boundary_of,
    emit_end,
    emit_field,
    emit_file_head,
)
from gateway.core.sse import EventTap
from gateway.core.target import parse_target, render_query

MANY = settings(max_examples=300)
Result = TypeVar("Result")
BOUNDARY = "0123456789abcdef0123456789abcdef"


def read(read: Callable[[], Result]) -> Result | None:
    """Return the reading, or None if it was refused, with a 4xx and a sentence."""
    try:
        return read()
    except Refusal as refusal:
        refused = refusal.refused
    assert 400 <= refused.code.status < 500
    assert refused.message
    assert b"message" in refused.body()
    return None


def cut_up(whole: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(whole) + 1) for cut in cuts), len(whole)]
    return [whole[start:end] for start, end in pairwise(edges)]


def mixed(*pieces: bytes) -> st.SearchStrategy[bytes]:
    """Return bytes made of telling pieces, and of others."""
    piece = st.one_of(st.sampled_from(pieces), st.sampled_from(pieces), st.binary(max_size=3))
    return st.lists(piece, max_size=16).map(b"".join)


TARGETS = mixed(
    *(
        b"/",
        b"openai",
        b"files",
        b"..",
        b".",
        b"%2e",
        b"%2f",
        b"?",
        b"&",
        b"=",
        b"a",
        b"[]",
        b"%5B",
    ),
    *(
        b"api-version",
        b"+",
        b"%00",
        b"%zz",
        b"%",
        b";",
        b"\\",
        b"#",
        b"%c3%a4",
        b"%ff",
        b"//openai/",
    ),
)


@MANY
@given(TARGETS, st.booleans())
def test_a_target_is_read_or_refused_and_reads_the_same_once_we_wrote_it(
    raw: bytes, is_rooted: bool
) -> None:
    target = read(lambda: parse_target(b"/openai/" + raw if is_rooted else raw))
    if target is None:
        return
    assert all(segment.strip(".") and "/" not in segment for segment in target.segments)
    written = "/" + "/".join(target.segments)
    if target.query:
        written += "?" + render_query(target.query)
    assert parse_target(written.encode("ascii")) == target


DOCUMENTS = mixed(
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b'"a"', b'"a":', b"1", b"-0.0", b"1e400", b"null"),
    *(
        b'{"a":1}',
        b"\\",
        b"\\u0061",
        b"\\ud800",
        b" ",
        b"\n",
        b"\xef\xbb\xbf",
        b"NaN",
        b"\x00",
        b"/*",
    ),
)


@MANY
@given(DOCUMENTS, st.booleans())
def test_a_document_is_read_or_refused_and_reads_the_same_once_we_wrote_it(
    raw: bytes, is_object: bool
) -> None:
    document = read(lambda: parse_object(b'{"x":' + raw + b"}" if is_object else raw))
    sent = None if document is None else read(lambda: dump(document))
    if sent is not None:
        assert parse_object(sent) == document
        assert dump(parse_object(sent)) == sent


WORDS = (
    *("form-data", ";", "; ", "name=", "filename=", "filename*=", '"', "\\", '\\"', "a.csv", "é"),
    *("=?utf-8?Q?", "=?utf-8?B?", "?=", "=22", "YQ==", "utf-8''", "UTF-8'en'", "%22", "%0A"),
    *("%25", "%", "=", "'", "file", "\u202e", " ", "\t", "iso-8859-1''", "%e9", "..", "%2522"),
)
HEADERS = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=3)), max_size=14).map("".join)


@MANY
@example('"=?utf-8?Q?a=2522.csv?="', "form-data; name=f; filename=")
@given(HEADERS, st.sampled_from(["", "form-data; name=f; ", "form-data; name=f; filename="]))
def test_a_disposition_is_read_or_refused_and_reads_the_same_once_we_wrote_it(
    rest: str, start: str
) -> None:
    found = read(lambda: parse_disposition(start + rest))
    if found is None or found.filename is None:
        return
    assert name_fault(found.filename) is None
    head = emit_file_head(BOUNDARY, "file", found.filename, "text/csv").decode()
    line = head.split("\r\n")[1].removeprefix("Content-Disposition: ")
    assert parse_disposition(line).filename == found.filename


@MANY
@given(st.one_of(HEADERS, st.text(max_size=80)).map(lambda rest: "multipart/form-data" + rest))
def test_a_boundary_is_one_of_rfc_2046_or_refused(content_type: str) -> None:
    boundary = read(lambda: boundary_of(content_type))
    if boundary is not None:
        assert 1 <= len(boundary) <= 70
        assert boundary.isascii()
        assert boundary.isprintable()
        assert boundary == boundary.rstrip()


PART = b'Content-Disposition: form-data; name="file"; filename="a.csv"'
FORMS = mixed(
    *(
        b"--B",
        b"--B\r\n",
        b"--B--",
        b"--B--\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b"\r\n\r\n",
        b"-",
        b"--",
        b"B",
    ),
    *(PART, PART + b"\r\n\r\n", b'Content-Disposition: form-data; name="a"\r\n\r\n', b"x: y", b" "),
    *(b"Content-Type: text/csv\r\n", b"Content-Length: 3\r\n", b"\x00", b"\xff", b":", b"\r\n--B"),
)


@MANY
@given(FORMS, st.integers(0, 2), st.lists(st.integers(0, 400), max_size=10))
def test_a_form_is_read_or_refused_alike_however_it_is_cut(
    raw: bytes, begun: int, cuts: list[int]
) -> None:
    body = (b"", b"--B\r\n", b"--B\r\n" + PART + b"\r\n\r\n")[begun] + raw
    body += b"\r\n--B--\r\n" if begun else b""
    whole = read(lambda: parts_of([body]))
    assert read(lambda: parts_of(cut_up(body, cuts))) == whole
    assert read(lambda: parts_of(body[at : at + 1] for at in range(len(body)))) == whole
    if whole is not None:
        assert parts_of([rewritten(whole)], BOUNDARY) == whole


Part = tuple[str, str | None, bytes]


def parts_of(chunks: Iterable[bytes], boundary: str = "B") -> list[Part]:
    """Return name, file name and content of every part; files first, as we write them last."""
    reader, parts = FormReader(boundary), list[Part]()
    for event in _events(reader, chunks):
        match event:
            case PartBegins(name=name, filename=filename):
                parts.append((name, filename, b""))
            case PartData(data=data):
                name, filename, content = parts[-1]
                parts[-1] = (name, filename, content + data)
    return parts


def _events(reader: FormReader, chunks: Iterable[bytes]) -> Iterator[object]:
    for chunk in chunks:
        yield from reader.feed(chunk)
    yield from reader.finish()


def rewritten(parts: Sequence[Part]) -> bytes:
    """Return a form of the same parts in our own hand, each as a file or a field."""
    pieces = []
    for name, filename, content in parts:
        if filename is None:
            head = emit_field(BOUNDARY, name, "").removesuffix(b"\r\n")
        else:
            head = emit_file_head(BOUNDARY, name, filename, "text/csv")
        pieces.append(head + content)
    return b"\r\n".join(pieces) + emit_end(BOUNDARY)


STREAMS = mixed(
    *(
        b"data: ",
        b"data:",
        b"data",
        b"event: x",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b":",
        b"\xef\xbb\xbf",
    ),
    *(b"{}", b"[DONE]", b"id: 1", b"\xc3", b"\xa4", b"\x00", b"data: a\n\n", b"\r\r"),
)


@MANY
@given(STREAMS, st.lists(st.integers(0, 200), max_size=10), st.sampled_from([4, 9, 10_000]))
def test_events_are_the_same_however_a_stream_is_cut(
    raw: bytes, cuts: list[int], event_bytes_max: int
) -> None:
    heard = []
    for chunks in ([raw], cut_up(raw, cuts), [raw[at : at + 1] for at in range(len(raw))]):
        tap = EventTap(event_bytes_max=event_bytes_max)
        events = [event for chunk in chunks for event in tap.feed(chunk)]
        assert all(len(event.data) <= event_bytes_max for event in events)
        heard.append((events, tap.overflowed))
    assert heard[0] == heard[1] == heard[2]


# ----------------------------------------------------------------------------------------- work


def lines_run(work: Callable[[], object]) -> int:
    """Return how many lines of Python `work` runs, those of the libraries it calls included."""
    count = 0

    def trace(_frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def _one_by_one(body: bytes) -> None:
    read(lambda: parts_of(body[at : at + 1] for at in range(len(body))))


def _heard_one_by_one(stream: bytes) -> None:
    tap = EventTap()
    for at in range(len(stream)):
        list(tap.feed(stream[at : at + 1]))


GROWING: dict[str, Callable[[int], object]] = {
    "a form of near-boundaries": lambda n: read(
        lambda: parts_of([b"--B\r\n" + PART + b"\r\n\r\n" + b"\r\n--" * n + b"\r\n--B--\r\n"])
    ),
    "a form byte by byte": lambda n: _one_by_one(
        b"--B\r\n" + PART + b"\r\n\r\n" + b"\r\n-" * n + b"\r\n--B--\r\n"
    ),
    "a disposition of quotes": lambda n: read(
        lambda: parse_disposition('form-data; name="' + '\\"' * n)
    ),
    "a disposition of parameters": lambda n: read(
        lambda: parse_disposition("form-data" + "; name=a" * n)
    ),
    "a name of encoded words": lambda n: read(
        lambda: parse_disposition('form-data; name=f; filename="' + "=?utf-8?Q?a?=" * n + '"')
    ),
    "a type of parameters": lambda n: read(
        lambda: boundary_of("multipart/form-data" + "; charset=a" * n)
    ),
    "a target of segments": lambda n: read(lambda: parse_target(b"/a" * n)),
    "a query of escapes": lambda n: read(lambda: parse_target(b"/a?b=" + b"%41" * n)),
    "a document of lists": lambda n: read(lambda: parse_object(b'{"a":[' + b"[]," * n + b"1]}")),
    "a stream of empty lines": lambda n: list(EventTap().feed(b"data:\n" * n + b"\n")),
    "a stream byte by byte": lambda n: _heard_one_by_one(b"data: a\r\n" * n + b"\r\n"),
}


@pytest.mark.parametrize("what", GROWING)
def test_twice_the_input_is_at_most_twice_the_work(what: str) -> None:
    work = GROWING[what]
    work(50)  # What is done once, such as an import or a compiled pattern, is done now.
    once, twice = lines_run(lambda: work(400)), lines_run(lambda: work(800))
    assert twice <= 2 * once + 50


def test_a_text_is_matched_once_from_its_quote_to_its_end() -> None:
    """Python's patterns run no lines that could be counted, so their matches are."""
    for text in (b'"' + b'\\"' * 500, b'"' + b"\\" * 501, b'"' + b'\\"' * 500 + b"\\", b'"a'):
        spans = [match.span() for match in canonical._STRING.finditer(text)]
        assert spans == [(0, len(text))]


def test_a_reader_of_a_form_keeps_no_more_than_a_boundary_and_a_head() -> None:
    reader = FormReader("B" * 70)
    body = b"--" + b"B" * 70 + b"\r\n" + PART + b"\r\n\r\n"
    passed = sum(_sizes(reader.feed(body)))
    for _ in range(64):
        passed += sum(_sizes(reader.feed(b"\r\n--" + b"B" * 69 + b"x" * 4096)))
    given_bytes = 64 * (4 + 69 + 4096)
    assert given_bytes - passed < 4096


def _sizes(events: Iterable[object]) -> Iterator[int]:
    for event in events:
        if isinstance(event, PartData):
            yield len(event.data)


def test_an_event_of_nothing_but_empty_lines_is_bounded_too() -> None:
    tap = EventTap(event_bytes_max=100)
    for _ in range(1000):
        assert list(tap.feed(b"data:\n")) == []
    assert tap.overflowed
    assert [event.data for event in tap.feed(b"\ndata: a\n\n")] == [b"a"]
