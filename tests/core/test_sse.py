"""Event streams: the same events however they are cut, within bounded memory."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.sse import Event, EventTap


def heard(*chunks: bytes, event_bytes_max: int = 1000) -> list[tuple[str, bytes]]:
    tap = EventTap(event_bytes_max=event_bytes_max)
    return [(event.name, event.data) for chunk in chunks for event in tap.feed(chunk)]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [("", b"a")]),
        (b"data:a\n\n", [("", b"a")]),
        (b"data:  a\n\n", [("", b" a")]),
        (b"event: x\ndata: a\n\n", [("x", b"a")]),
        (b"data: a\nevent: x\n\n", [("x", b"a")]),
        (b"event: x\n\ndata: a\n\n", [("", b"a")]),
        (b"data: a\ndata: b\n\n", [("", b"a\nb")]),
        (b"data: a\n\ndata: b\n\n", [("", b"a"), ("", b"b")]),
        (b"\n\n\ndata: a\n\n\n\n", [("", b"a")]),
        (b": keep alive\n\ndata: a\n: why\n\n", [("", b"a")]),
        (b"id: 1\nretry: 5\ndata: a\nfoo: bar\n\n", [("", b"a")]),
        (b"data\n\n", [("", b"")]),
        (b"data:\ndata:\n\n", [("", b"\n")]),
        (b"data: a: b\n\n", [("", b"a: b")]),
        (b" data: a\n\nDATA: a\n\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", [("", b"a")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
        (b"\xef\xbbdata: a\n\n", []),
        (b"event: \xff\ndata: a\n\n", [("\ufffd", b"a")]),
        (b"data: a", []),
        (b"data: a\n", []),
        (b"data: a\n\ndata: [DONE]\n", [("", b"a")]),
        (b"", []),
    ],
)
def test_events_are_read_as_the_standard_says(
    stream: bytes, events: list[tuple[str, bytes]]
) -> None:
    assert heard(stream) == events
    assert heard(*(bytes([byte]) for byte in stream)) == events


LINES = st.sampled_from(
    [
        b"data: a",
        b"data: \xc3\xa4",
        b"data",
        b"data:",
        b"event: x",
        b"event: y",
        b": c",
        b"",
        b"id: 7",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])


@given(st.lists(LINES, max_size=12), ENDS)
def test_lines_may_end_in_lf_cr_or_crlf(lines: list[bytes], end: bytes) -> None:
    assert heard(b"".join(line + end for line in lines)) == heard(
        b"".join(line + b"\n" for line in lines)
    )


def test_an_event_that_ends_in_carriage_returns_is_heard_at_once() -> None:
    assert heard(b"data: a\r\r") == [("", b"a")]
    assert heard(b"data: a\r\n\r") == [("", b"a")]


PIECES = st.lists(st.tuples(LINES, ENDS).map(b"".join), max_size=12).map(b"".join)


@given(
    stream=st.one_of(PIECES, st.binary(max_size=60)),
    cuts=st.lists(st.integers(0, 80), max_size=8),
    event_bytes_max=st.sampled_from([3, 7, 20, 1000]),
    with_mark=st.booleans(),
)
def test_any_cutting_gives_the_same_events(
    *, stream: bytes, cuts: list[int], event_bytes_max: int, with_mark: bool
) -> None:
    stream = (b"\xef\xbb\xbf" if with_mark else b"") + stream
    bounds = [0, *sorted(cuts), len(stream)]
    chunks = [stream[start:end] for start, end in pairwise(bounds)]
    whole, cut = (EventTap(event_bytes_max=event_bytes_max) for _ in range(2))
    assert [e for chunk in chunks for e in cut.feed(chunk)] == list(whole.feed(stream))
    assert cut.overflowed is whole.overflowed


@pytest.mark.parametrize("size", [1, 7, 100])
@pytest.mark.parametrize(
    "large",
    [
        b"data: " + b"x" * 101 + b"\n\n",
        b"data: " + b"x" * 101 + b"\ndata: tail\n\n",
        b"data: " + b"x" * 60 + b"\ndata: " + b"x" * 60 + b"\ndata: tail\n\n",
        b"event: e\ndata: " + b"x" * 5000 + b"\r\ndata: tail\r\n\r\n",
        b"x" * 101 + b"\ndata: tail\n\n",
    ],
)
def test_an_event_that_is_too_large_is_passed_over_and_the_next_is_heard(
    large: bytes, size: int
) -> None:
    tap = EventTap(event_bytes_max=100)
    stream = b"data: before\n\n" + large + b"data: after\n\n"
    events = [
        event
        for start in range(0, len(stream), size)
        for event in tap.feed(stream[start : start + size])
    ]
    assert events == [Event("", b"before"), Event("", b"after")]
    assert tap.overflowed


def test_an_event_of_exactly_the_limit_is_heard_and_nothing_overflows() -> None:
    tap = EventTap(event_bytes_max=100)
    assert list(tap.feed(b"data: " + b"x" * 94 + b"\n\n")) == [Event("", b"x" * 94)]
    assert not tap.overflowed


def test_comments_between_events_never_add_up_to_an_overflow() -> None:
    tap = EventTap(event_bytes_max=100)
    for _ in range(200):
        assert list(tap.feed(b": keep alive\n")) == []
    assert list(tap.feed(b"data: a\n\n")) == [Event("", b"a")]
    assert not tap.overflowed
