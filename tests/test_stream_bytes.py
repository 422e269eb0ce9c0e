"""Whatever an event stream looks like and however it is cut: its bytes pass, and it is metered."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.metering import CHAT_WORK, Meter
from gateway.core.usage import read_usage
from gateway.views import DocumentView, StreamView, hide_usage
from tests.street.events import USAGE, cut, made_up

MIB = 1024 * 1024


@given(st.randoms(use_true_random=False))
def test_with_the_usage_hidden_exactly_that_one_event_is_missing(random: Random) -> None:
    stream = made_up(random)
    view = StreamView(hide_usage)
    passed = [view.feed(piece) for piece in cut(random, stream.whole)]

    assert b"".join(passed) + view.end() == stream.hidden


@given(st.randoms(use_true_random=False))
def test_the_meter_reads_the_usage_of_any_stream_however_it_is_cut(random: Random) -> None:
    stream = made_up(random)
    meter = Meter(is_stream=True, hears=CHAT_WORK)
    for piece in cut(random, stream.whole):
        meter.feed(piece)
    meter.finish()

    assert meter.ear.usage == read_usage(USAGE)


@given(st.randoms(use_true_random=False))
def test_without_a_usage_nothing_is_missing_and_nothing_is_metered(random: Random) -> None:
    stream = made_up(random).hidden
    view, meter = StreamView(hide_usage), Meter(is_stream=True, hears=CHAT_WORK)
    passed = b""
    for piece in cut(random, stream):
        meter.feed(piece)
        passed += view.feed(piece)

    assert passed + view.end() == stream
    assert meter.ear.usage is None


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_an_event_larger_than_the_meter_reads_passes_all_the_same(end: bytes) -> None:
    huge = b"data: " + b"x" * (5 * MIB) + end + end
    usage = b'data: {"object":"chat.completion.chunk","choices":[],"usage":'
    usage += b'{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}' + end + end
    view, meter = StreamView(hide_usage), Meter(is_stream=True, hears=CHAT_WORK)
    stream, passed = huge + usage + huge, []
    for at in range(0, len(stream), 65_536):
        piece = stream[at : at + 65_536]
        meter.feed(piece)
        passed.append(view.feed(piece))

    assert b"".join([*passed, view.end()]) == huge + huge
    assert meter.ear.usage == read_usage(USAGE)
    assert not meter.whole


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n"])
@pytest.mark.parametrize("spare_bytes", range(6))
def test_of_an_event_without_end_little_is_held_back_and_what_follows_it_is_read(
    end: bytes, spare_bytes: int
) -> None:
    view, fed, passed = StreamView(hide_usage), bytearray(), bytearray()
    block = b"data: " + b"x" * 65_000 + b"\n"
    for _ in range(100):
        fed += block
        passed += view.feed(block)
        assert len(fed) - len(passed) < 4 * MIB + len(block)
    last = b"data: y" + end + b"data: z\n\n"
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":9}}\n\n'
    for piece in (last[:spare_bytes], last[spare_bytes:-10], last[-10:], usage):
        passed += view.feed(piece)

    assert passed + view.end() == fed + last


def test_a_document_too_large_to_be_altered_passes_as_it_came() -> None:
    view, passed = DocumentView(lambda document: {**document, "more": 1}), bytearray()
    body = b'{"text": "' + b"x" * (40 * MIB) + b'"}'
    for at in range(0, len(body), MIB):
        passed += view.feed(body[at : at + MIB])
        assert at + MIB - len(passed) <= 33 * MIB

    assert passed + view.end() == body
