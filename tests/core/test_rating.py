"""Amounts: exact decimals, one rounding a line, dated prices, and no price is not free."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import SECOND, Meter, ScopeKind, Usage
from gateway.core.rating import (
    Price,
    PriceBook,
    PriceBookFaults,
    nano_usd,
    parse_price_book,
    show_usd,
)
from gateway.core.terms import Terms
from gateway.pricebook import shipped_price_book

APRIL_14 = 1_744_588_800 * SECOND  # 2025-04-14T00:00:00Z
JUNE_10 = 1_749_513_600 * SECOND  # 2025-06-10T00:00:00Z


def price(input_usd: str, cached_usd: str = "0", output_usd: str = "0") -> Price:
    rates = zip(
        (Meter.INPUT_TOKENS, Meter.CACHED_INPUT_TOKENS, Meter.OUTPUT_TOKENS),
        map(Decimal, (input_usd, cached_usd, output_usd)),
        strict=True,
    )
    return Price("p", "m", 0, dict(rates), 1000, 1000)


def book(*, factor: str = "1") -> PriceBook:
    return PriceBook({}, {"kind": Decimal(factor)}, Terms({}))


def rated(usage: Usage, of: Price, *, factor: str = "1") -> list[tuple[Meter, int, int]]:
    lines = book(factor=factor).rate(of, "kind", usage)
    return [(line.meter, line.quantity, line.nano_usd) for line in lines]


def test_each_meter_that_counted_something_is_one_line() -> None:
    gpt_4o = price("2.50", "1.25", "10")
    assert rated(Usage(300, 81, 89), gpt_4o) == [
        (Meter.INPUT_TOKENS, 300, 750_000),
        (Meter.CACHED_INPUT_TOKENS, 81, 101_250),
        (Meter.OUTPUT_TOKENS, 89, 890_000),
    ]
    assert rated(Usage(0, 0, 1), gpt_4o) == [(Meter.OUTPUT_TOKENS, 1, 10_000)]
    assert rated(Usage(0, 0, 0), gpt_4o) == []


@pytest.mark.parametrize(
    ("usd_per_mtok", "count", "amount"),
    [
        ("0.0005", 1, 0),  # 0.5 nano-USD: half to even
        ("0.0015", 1, 2),
        ("0.0025", 1, 2),
        ("0.0035", 1, 4),
        ("0.0005", 3, 2),  # 1.5: the line is rounded, not each token
        ("0.0004", 1, 0),
        ("0.0006", 1, 1),
        ("0.1", 3, 300),
        ("200", 1 << 40, 200_000 * (1 << 40)),
    ],
)
def test_an_amount_is_exact_and_rounded_once_half_to_even(
    usd_per_mtok: str, count: int, amount: int
) -> None:
    assert rated(Usage(count, 0, 0), price(usd_per_mtok)) == [(Meter.INPUT_TOKENS, count, amount)]


@given(
    st.decimals(0, 200, places=9, allow_nan=False, allow_infinity=False),
    st.integers(1, 1 << 40),
    st.sampled_from(["1", "1.1", "0.5"]),
)
def test_amounts_agree_with_fractions(usd: Decimal, count: int, factor: str) -> None:
    ((_, _, amount),) = rated(Usage(count, 0, 0), price(str(usd)), factor=factor)
    exact = Fraction(usd) * Fraction(factor) * count * 1000
    assert abs(amount - exact) <= Fraction(1, 2)
    assert amount == round(exact)


def test_the_deployment_type_multiplies_before_the_rounding() -> None:
    assert rated(Usage(5, 0, 0), price("0.001"), factor="1.1") == [(Meter.INPUT_TOKENS, 5, 6)]
    with pytest.raises(KeyError):
        book().rate(price("1"), "unheard-of", Usage(1, 0, 0))


# the price book


def entry(**changes: object) -> dict[str, object]:
    fields: dict[str, object] = {
        "name": "o3",
        "valid_from": "2025-04-14",
        "input": "10",
        "cached_input": "2.5",
        "output": "40",
        "input_tokens_max": 200_000,
        "output_tokens_max": 100_000,
    }
    return {key: value for key, value in (fields | changes).items() if value is not None}


def document(*models: dict[str, object], **changes: object) -> dict[str, object]:
    fields: dict[str, object] = {
        "model": list(models),
        "deployment_type": {"global-standard": "1"},
        "session": [
            {"scope": kind.value, "usd": "0.03", "active_s": 3600, "valid_from": "2025-04-14"}
            for kind in ScopeKind
        ],
    }
    return fields | changes


def test_a_request_keeps_the_price_of_its_day_when_a_new_one_is_added() -> None:
    cheaper = entry(valid_from="2025-06-10", input="2", output="8")
    parsed = parse_price_book(document(cheaper, entry()))
    found = [parsed.price_at("o3", at) for at in (APRIL_14, JUNE_10 - 1, JUNE_10, JUNE_10 * 2)]
    assert [each.id if each else None for each in found] == [
        *("o3@2025-04-14", "o3@2025-04-14", "o3@2025-06-10", "o3@2025-06-10")
    ]


def test_a_model_without_a_price_has_none_and_not_zero() -> None:
    parsed = parse_price_book(document(entry()))
    assert parsed.price_at("gpt-9", JUNE_10) is None
    assert parsed.price_at("o3", APRIL_14 - 1) is None
    assert parsed.price_at("O3", JUNE_10) is None


def test_input_that_is_cached_costs_the_plain_price_where_no_other_is_given() -> None:
    parsed = parse_price_book(document(entry(cached_input=None)))
    found = parsed.price_at("o3", APRIL_14)
    assert found is not None
    assert found.usd_per_mtok[Meter.CACHED_INPUT_TOKENS] == Decimal(10)


MALFORMED: dict[str, list[object]] = {
    "name": [None, "", 5],
    "valid_from": [None, "yesterday", "2025-13-01", 5],
    "input": [None, "", "x", "NaN", "Infinity", "-1", "1e3", 2.5, 2],
    "output": [None, "1,5", " 1", "1_0", True, []],
    "cached_input": ["x", 0.1],
    "input_tokens_max": [None, -1, True, 1.5, "8191"],
    "output_tokens_max": [None, -1],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in MALFORMED.items() for value in values]
)
def test_a_malformed_entry_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"`{name}`"):
        parse_price_book(document(entry(**{name: value})))


BROKEN: list[tuple[str, object]] = [
    *[("model", None), ("model", {}), ("model", ["o3"]), ("model", "o3")],
    *[("session", None), ("session", {}), ("session", [5])],
    *[("deployment_type", None), ("deployment_type", []), ("deployment_type", {"a": 1.1})],
    ("deployment_type", {"standard": "x"}),
]


@pytest.mark.parametrize(("name", "value"), BROKEN)
def test_a_malformed_book_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"`|valid"):
        parse_price_book(document(**{name: value}))


# amounts as text


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0.03", 30_000_000),
        ("0", 0),
        ("1", 1_000_000_000),
        ("0.000000001", 1),
        ("12345.678900000", 12_345_678_900_000),
        ("999999999.999999999", 999_999_999_999_999_999),
    ],
)
def test_an_amount_written_in_usd_is_read_exactly(text: str, amount: int) -> None:
    assert nano_usd(text) == amount


@pytest.mark.parametrize(
    "text",
    [
        *("", " 1", "1 ", "-1", "-0", "+1", "1e3", "NaN", "sNaN", "Infinity", "0.0000000001", "1."),
        *(".5", "1_000", "1,5", "0x1", "١", "１", "1.0000000000000000000000000000001", "x", "$1"),
    ],
)
def test_what_is_no_plain_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no amount in USD"):
        nano_usd(text)


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0, "0.00"),
        (30_000_000, "0.03"),
        (1, "0.000000001"),
        (-30_000_000, "-0.03"),
        (1_500_000_000, "1.50"),
        (-1_234_567_890, "-1.23456789"),
        (10**18, "1000000000.00"),
    ],
)
def test_an_amount_is_shown_with_the_decimals_it_needs_and_at_least_two(
    amount: int, shown: str
) -> None:
    assert show_usd(amount) == shown


@given(st.integers(0, 10**18 - 1))
def test_what_is_shown_is_read_back_as_the_same_amount(amount: int) -> None:
    assert nano_usd(show_usd(amount)) == amount
    assert show_usd(-amount).lstrip("-") == show_usd(amount)


def test_work_that_azure_dates_before_the_first_price_is_charged_at_the_first_price() -> None:
    book = shipped_price_book()
    first = book.prices["gpt-4o"][0]
    assert book.price_at("gpt-4o", first.valid_from - 1) is None
    assert book.price_nearest("gpt-4o", first.valid_from - 1) == first
    assert book.price_nearest("gpt-4o", first.valid_from) == first
    assert book.price_nearest("no-such-model", first.valid_from) is None


def test_everything_that_is_wrong_with_a_book_is_told_at_once() -> None:
    faulty = document(entry(input="x"), entry(output=None), deployment_type={"a": "1e3"})
    with pytest.raises(PriceBookFaults) as caught:
        parse_price_book(faulty | {"session": [{"scope": "moon"}]})
    places = {fault.split(":")[0] for fault in caught.value.faults}
    assert {"model[0]", "model[1]", "deployment_type", "session[0].scope"} <= places
