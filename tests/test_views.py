"""Views: what they alter and, above all, what they leave alone."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.views import DocumentView, StreamView, View, change_data, hide_usage


def chunk(content: str = "a", **more: object) -> bytes:
    choices = [{"index": 0, "delta": {"content": content}}]
    return json.dumps({"object": "chat.completion.chunk", "choices": choices, **more}).encode()


USAGE = b'{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}'
FILTERS = b'{"choices":[],"id":"","prompt_filter_results":[{"prompt_index":0}]}'


def data(*payloads: bytes, end: bytes = b"\n") -> bytes:
    return b"".join(b"data: " + payload + end + end for payload in payloads)


def seen(view: View, *pieces: bytes) -> bytes:
    return b"".join([view.feed(piece) for piece in pieces]) + view.end()


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_only_the_chunk_that_carries_nothing_but_the_usage_is_hidden(end: bytes) -> None:
    before, after = [FILTERS, chunk(), chunk("b")], [b"[DONE]"]
    stream = data(*before, USAGE, *after, end=end)
    assert seen(StreamView(hide_usage), stream) == data(*before, *after, end=end)


@pytest.mark.parametrize(
    "payload",
    [
        chunk(usage=None),
        chunk(usage={"prompt_tokens": 9}),
        chunk('{"choices":[],"usage":{"prompt_tokens":9}}'),
        FILTERS,
        b'{"choices":[],"usage":null}',
        b'{"choices":[],"usage":{}}',
        b'{"usage":{"prompt_tokens":9}}',
        b'{"choices":null,"usage":{"prompt_tokens":9}}',
        b'["usage"]',
        b'{"usage"',
        b"[DONE]",
        b"",
    ],
)
def test_every_other_chunk_passes_byte_for_byte(payload: bytes) -> None:
    assert hide_usage(payload) == payload
    assert seen(StreamView(hide_usage), data(payload)) == data(payload)


@pytest.mark.parametrize(
    "stream",
    [
        b"\n\n\n",
        b"data: a\n\n\n",
        b"data: a\n\n\n\n\ndata: b\n\n",
        b": comment\n\ndata:a\n\n",
        b"event: e\r\nid: 7\r\ndata:  a \r\ndata: b\r\n\r\n",
        b"data: a\n\r\ndata: b\r\n\n",
        b"data: a\r\rdata: b",
        b"data: never ended",
        b"data: a\n\ndata: [DONE]\n",
        b"",
    ],
)
def test_bytes_that_are_no_usage_are_untouched_whatever_the_stream_looks_like(
    stream: bytes,
) -> None:
    assert seen(StreamView(hide_usage), stream) == stream
    assert seen(StreamView(hide_usage), *(bytes([byte]) for byte in stream)) == stream


PIECES = st.lists(
    st.sampled_from(
        [b"data: ", USAGE, chunk(), b"\n", b"\n\n", b"\r\n", b"\r\n\r\n", b"event: e\n"]
    ),
    max_size=14,
).map(b"".join)


@given(PIECES, st.lists(st.integers(0, 400), max_size=8))
def test_any_cutting_of_a_stream_gives_the_same_bytes(stream: bytes, cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(stream)]
    cut = [stream[start:end] for start, end in pairwise(bounds)]
    assert seen(StreamView(hide_usage), *cut) == seen(StreamView(hide_usage), stream)


def test_an_event_goes_on_as_soon_as_it_is_complete() -> None:
    view = StreamView(hide_usage)
    assert view.feed(b"data: a\n") == b""
    assert view.feed(b"\ndata: b") == b"data: a\n\n"
    assert view.feed(b"\r\n\r\n") == b"data: b\r\n\r\n"
    assert view.end() == b""


# versions


def older(document: dict[str, object]) -> dict[str, object]:
    if document.get("type") == "file_search":
        return {**document, "type": "retrieval"}
    return document


def test_a_changed_event_is_written_again_and_its_neighbours_are_not() -> None:
    stream = (
        b'event: x\r\nid: 1\r\ndata:{"type" : "file_search"}\r\n\r\n'
        b'event: y\ndata:   {"type" : "other"}\n\n'
        b"data: [DONE]\n\ndata: {broken\n\ndata: [1]\n\n"
    )
    assert seen(StreamView(change_data(older)), stream) == (
        b'event: x\r\nid: 1\r\ndata: {"type":"retrieval"}\r\n\r\n'
        b'event: y\ndata:   {"type" : "other"}\n\n'
        b"data: [DONE]\n\ndata: {broken\n\ndata: [1]\n\n"
    )


def test_a_document_is_held_back_until_it_is_whole_and_then_altered() -> None:
    view = DocumentView(older)
    assert view.feed(b'{"type": "file') == b""
    assert view.feed(b'_search"}') == b""
    assert view.end() == b'{"type":"retrieval"}'


@pytest.mark.parametrize("body", [b"", b"[1, 2]", b"null", b"<html>", b'{"a"', b"\xff", b'"text"'])
def test_what_is_no_json_object_passes_as_it_came(body: bytes) -> None:
    assert seen(DocumentView(older), *(bytes([byte]) for byte in body)) == body
