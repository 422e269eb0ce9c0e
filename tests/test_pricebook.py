"""The shipped prices: every entry sane, and the ones everybody knows pinned."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import pytest

from gateway.core.model import SECOND, Meter, ScopeKind, Trigger
from gateway.core.rating import Price, PriceBookFaults, show_usd
from gateway.core.terms import amount
from gateway.pricebook import load_price_book, shipped_price_book

BOOK = shipped_price_book()
PRICES = [price for known in BOOK.prices.values() for price in known]
LATE_2026 = 1_795_435_200 * SECOND


def cost(price: Price, meter: Meter) -> Decimal:
    return price.usd_per_mtok[meter]


@pytest.mark.parametrize("price", PRICES, ids=[price.id for price in PRICES])
def test_every_price_is_a_sane_number_of_usd_per_million_tokens(price: Price) -> None:
    plain, cached, output = (
        cost(price, meter)
        for meter in (Meter.INPUT_TOKENS, Meter.CACHED_INPUT_TOKENS, Meter.OUTPUT_TOKENS)
    )
    for usd in (plain, cached, *([output] if price.output_tokens_max else [])):
        assert Decimal("0.001") <= usd <= 200
    # A figure per thousand in one place only stands out against its neighbours.
    assert plain / 25 <= cached <= plain
    if price.output_tokens_max:
        assert plain <= output <= 20 * plain
    else:
        assert output == 0
    assert 1000 <= price.input_tokens_max <= 4_000_000
    assert 0 <= price.output_tokens_max <= 1_000_000
    assert price.valid_from < LATE_2026


# USD per million tokens, Global Standard: input, cached input, output.
# Source: list prices of Azure OpenAI as collected by genai-prices 0.2.3 and litellm 1.109.1, 2026.
KNOWN = {
    "gpt-4o": ("2.50", "1.25", "10"),
    "gpt-4o-mini": ("0.15", "0.075", "0.60"),
    "gpt-4.1": ("2", "0.50", "8"),
    "gpt-4.1-mini": ("0.40", "0.10", "1.60"),
    "gpt-4.1-nano": ("0.10", "0.025", "0.40"),
    "o3-mini": ("1.10", "0.55", "4.40"),
    "text-embedding-3-small": ("0.02", "0.02", "0"),
    "text-embedding-3-large": ("0.13", "0.13", "0"),
}


@pytest.mark.parametrize("model", KNOWN)
def test_prices_that_everybody_knows_are_right(model: str) -> None:
    price = BOOK.price_at(model, LATE_2026)
    assert price is not None
    meters = (Meter.INPUT_TOKENS, Meter.CACHED_INPUT_TOKENS, Meter.OUTPUT_TOKENS)
    assert tuple(cost(price, meter) for meter in meters) == tuple(map(Decimal, KNOWN[model]))


def test_no_model_has_two_prices_from_the_same_day() -> None:
    assert len({price.id for price in PRICES}) == len(PRICES)
    for known in BOOK.prices.values():
        days = [price.valid_from for price in known]
        assert days == sorted(set(days))


def test_amounts_are_written_as_texts_so_that_none_was_ever_a_binary_fraction() -> None:
    text = files("gateway.pricebook").joinpath("azure.toml").read_text(encoding="utf-8")
    document: Mapping[str, object] = tomllib.loads(text)
    entries = document["model"]
    assert isinstance(entries, list)
    for entry in entries:
        for name in {"input", "cached_input", "output"} & set(entry):
            assert isinstance(entry[name], str), entry["name"]


@pytest.mark.parametrize(
    ("kind", "factor"),
    [
        ("global-standard", "1"),
        ("data-zone-standard", "1.1"),
        ("standard", "1.1"),
        ("global-batch", "0.5"),
    ],
)
def test_deployment_types_cost_their_known_share(kind: str, factor: str) -> None:
    assert BOOK.factors[kind] == Decimal(factor)
    assert all(Decimal("0.1") <= each <= 3 for each in BOOK.factors.values())


@pytest.mark.parametrize("kind", ScopeKind)
def test_a_session_costs_three_cents_and_lasts_an_hour(kind: ScopeKind) -> None:
    (terms,) = BOOK.terms.of(kind, "azure")
    assert (show_usd(terms.nano_usd), terms.active_us) == ("0.03", 3600 * SECOND)
    # A container that was idle too long is gone, so whoever calls in one finds its session open.
    idle = 1800 * SECOND if kind is ScopeKind.PROJECT_THREAD else None
    assert terms.idle_us == idle
    # Only containers are charged when they are made.
    made = kind in (ScopeKind.CONTAINER, ScopeKind.RESPONSE)
    assert terms.trigger is (Trigger.ON_REQUEST if made else Trigger.ON_CALL)
    assert not terms.memory
    assert not terms.per_minute


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"\xff", "not valid TOML: it must be UTF-8"),
        (b"[[", "not valid TOML"),
        (b"model = []", "`deployment_type` is missing"),
    ],
)
def test_a_price_book_that_cannot_be_read_says_why(tmp_path: Path, text: bytes, fault: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_bytes(text)
    with pytest.raises(PriceBookFaults, match=fault):
        load_price_book(path)
    with pytest.raises(PriceBookFaults, match="cannot be read"):
        load_price_book(tmp_path)


def test_the_terms_shown_for_those_billed_by_the_minute_may_be_put_behind_the_shipped_ones(
    tmp_path: Path,
) -> None:
    shipped = files("gateway.pricebook").joinpath("azure.toml").read_text(encoding="utf-8")
    shown = "".join(
        line.removeprefix("#").strip() + "\n"
        for line in shipped.splitlines()
        if line.startswith("#     ")
    )
    both = shown + shown.replace('"container"', '"response"')
    path = tmp_path / "prices.toml"
    path.write_text(shipped + both, encoding="utf-8")

    terms = load_price_book(path).terms
    assert terms.tiers("azure", LATE_2026) == {"4g", "16g", "64g"}
    latest = terms.of(ScopeKind.CONTAINER, "azure")[-1]
    # Twenty minutes come to three cents, or to 1.92 USD with 64 GB.
    assert [amount(latest, memory, 20 * 60 * SECOND - 1) for memory in (None, "64g")] == [
        *(30_000_000, 1_920_000_000)
    ]
