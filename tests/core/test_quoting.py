"""The quote: never less than what the request can come to."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import Code, Refusal
from gateway.core.interpreter import SessionBound
from gateway.core.ledger import QuoteLine
from gateway.core.model import Meter, Usage
from gateway.core.operations import Bills
from gateway.core.quoting import bound_usage, session_lines, token_lines
from gateway.core.rating import Price, PriceBook
from gateway.core.terms import Terms

PRICE = Price("p", "m", 0, {meter: Decimal(1) for meter in Meter}, 128_000, 16_384)
BOOK = PriceBook({}, {"standard": Decimal("1.1")}, Terms({}))


def bound(bills: Bills, body: dict[str, object], body_bytes: int = 1000) -> tuple[int, int]:
    usage = bound_usage(bills, body, body_bytes=body_bytes, price=PRICE)
    assert usage.cached_input_tokens == 0
    return usage.input_tokens, usage.output_tokens


@pytest.mark.parametrize(
    ("bills", "body", "expected"),
    [
        (Bills.CHAT, {}, (1000, 16_384)),
        (Bills.CHAT, {"max_tokens": 50}, (1000, 50)),
        (Bills.CHAT, {"max_completion_tokens": 60}, (1000, 60)),
        (Bills.CHAT, {"max_tokens": 50, "max_completion_tokens": 60}, (1000, 60)),
        (Bills.CHAT, {"max_tokens": None}, (1000, 16_384)),
        (Bills.CHAT, {"max_tokens": 50, "n": 3}, (1000, 150)),
        (Bills.CHAT, {"n": 128}, (1000, 128 * 16_384)),
        (Bills.CHAT, {"n": None, "max_tokens": 5}, (1000, 5)),
        (Bills.CHAT, {"tools": [{"type": "function"}]}, (1000, 16_384)),
        (Bills.RESPONSE, {"max_output_tokens": 70}, (1000, 70)),
        (Bills.RUN, {}, (128_000, 16_384)),
        (Bills.RUN, {"max_completion_tokens": 9}, (128_000, 9)),
        (Bills.RUN, {"max_prompt_tokens": 500, "max_completion_tokens": 9}, (500, 9)),
        (Bills.EMBEDDINGS, {}, (1000, 0)),
        (Bills.EMBEDDINGS, {"max_tokens": 7}, (1000, 0)),
    ],
)
def test_input_is_bounded_by_its_bytes_and_output_by_what_the_request_allows(
    bills: Bills, body: dict[str, object], expected: tuple[int, int]
) -> None:
    assert bound(bills, body) == expected


@pytest.mark.parametrize(
    ("bills", "limit"),
    [
        (Bills.CHAT, "max_prompt_tokens"),
        (Bills.RESPONSE, "max_prompt_tokens"),
        (Bills.CHAT, "max_output_tokens"),
        (Bills.RESPONSE, "max_tokens"),
        (Bills.RESPONSE, "max_completion_tokens"),
        (Bills.RUN, "max_output_tokens"),
    ],
)
def test_a_limit_that_belongs_to_another_operation_bounds_nothing(bills: Bills, limit: str) -> None:
    assert bound(bills, {limit: 1}) == bound(bills, {})


def test_input_is_never_bounded_above_what_the_model_takes() -> None:
    assert bound(Bills.CHAT, {}, body_bytes=10**7)[0] == 128_000


@pytest.mark.parametrize(
    "body",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"conversation": {"id": "conv_1"}},
        {"tools": [{"type": "code_interpreter"}]},
        {"input": [{"content": [{"type": "input_file", "file_id": "assistant-1"}]}]},
    ],
)
def test_context_that_we_cannot_see_takes_the_models_limit(body: dict[str, object]) -> None:
    assert bound(Bills.RESPONSE, body)[0] == 128_000


def test_a_file_in_a_chat_takes_the_models_limit() -> None:
    part = {"type": "file", "file": {"file_id": "assistant-1"}}
    assert bound(Bills.CHAT, {"messages": [{"content": [part]}]})[0] == 128_000


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([], 1000),
        ([{"type": "image_url", "image_url": {"url": "https://a"}}], 51_000),
        ([{"type": "input_image", "image_url": "https://a"}], 51_000),
        ([{"type": "input_image", "file_id": "assistant-1"}], 51_000),
        ([{"type": "image_url", "image_url": {"url": "https://a"}}] * 2, 101_000),
        ([{"type": "image_url", "image_url": {"url": "https://a"}}] * 3, 128_000),
    ],
)
def test_each_picture_adds_its_bound(parts: list[object], expected: int) -> None:
    assert bound(Bills.CHAT, {"messages": [{"content": parts}]})[0] == expected


LIMITS = ["max_tokens", "max_completion_tokens", "max_output_tokens", "max_prompt_tokens", "n"]


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize(
    "value", [0, -1, -(10**30), 1 << 31, 10**30, 1.0, 1.5, True, False, "5", "", [], [5], {}]
)
@pytest.mark.parametrize("bills", [Bills.CHAT, Bills.RUN, Bills.RESPONSE])
def test_a_limit_that_is_no_positive_whole_number_is_refused_by_name(
    name: str, value: object, bills: Bills
) -> None:
    with pytest.raises(Refusal) as caught:
        bound(bills, {name: value})
    assert (caught.value.refused.code, caught.value.refused.param) == (Code.MALFORMED_REQUEST, name)


def test_more_answers_than_azure_gives_are_refused() -> None:
    with pytest.raises(Refusal) as caught:
        bound(Bills.CHAT, {"n": 129})
    assert "`129`" in caught.value.refused.message


@given(st.integers(1, (1 << 31) - 1), st.integers(1, 128), st.integers(0, 10**7))
def test_the_bound_is_never_below_what_was_allowed(limit: int, answers: int, size: int) -> None:
    given_input, given_output = bound(Bills.CHAT, {"max_tokens": limit, "n": answers}, size)
    assert given_output == limit * answers
    assert given_input == min(size, 128_000)


def test_token_lines_carry_the_price_of_the_deployment_type() -> None:
    assert token_lines(BOOK, PRICE, "standard", Usage(10, 0, 5)) == (
        QuoteLine(Meter.INPUT_TOKENS, 10, 11_000, "p"),
        QuoteLine(Meter.OUTPUT_TOKENS, 5, 5_500, "p"),
    )


def test_sessions_are_one_line_and_none_is_no_line() -> None:
    new, open_already = SessionBound(1, 30_000_000, "s"), SessionBound(0, 0, "s")
    grows = SessionBound(0, 90_000_000, "by-the-minute")
    meter = Meter.CODE_INTERPRETER_SESSION
    assert session_lines([]) == session_lines([open_already]) == ()
    assert session_lines([new, new, open_already]) == (QuoteLine(meter, 2, 60_000_000, "s"),)
    assert session_lines([grows]) == (QuoteLine(meter, 0, 90_000_000, "by-the-minute"),)
    assert session_lines([grows, new]) == (QuoteLine(meter, 1, 120_000_000, "s"),)
