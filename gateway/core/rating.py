"""Rating: from counts to nano-USD, by dated prices.

The price of a call is the one that was valid when Azure did the work. Prices are exact decimals,
USD per million tokens; an amount is computed exactly and rounded once, half to even, per ledger
line. A model without a price is not free: it has no price, and who asks is told so.

    one nano-USD per token = one thousandth of a USD per million tokens
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache

from gateway.core.model import Meter, Micros, NanoUsd, Usage
from gateway.core.money import NANO_PER_USD, PLAIN_AMOUNT, nano_usd, show_usd
from gateway.core.terms import Terms
from gateway.core.terms_file import midnight, read_terms

__all__ = [
    "NANO_PER_USD",
    "Price",
    "PriceBook",
    "PriceBookFaults",
    "RatedLine",
    "nano_usd",
    "parse_price_book",
    "show_usd",
]

_TOKENS_PER_PRICE = 1_000_000


class PriceBookFaults(ValueError):
    """A price book that cannot be used; `faults` has a line for everything that is wrong."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class Price:
    """What one model costs from `valid_from` on, in USD per million tokens."""

    id: str
    model: str
    valid_from: Micros
    usd_per_mtok: Mapping[Meter, Decimal]
    input_tokens_max: int
    output_tokens_max: int


@dataclass(frozen=True, slots=True)
class RatedLine:
    """One meter's count and what it costs."""

    meter: Meter
    quantity: int
    nano_usd: NanoUsd
    price_id: str


@dataclass(frozen=True, slots=True)
class PriceBook:
    """All prices: models by name in order of date, factors by deployment type, session terms."""

    prices: Mapping[str, tuple[Price, ...]]
    factors: Mapping[str, Decimal]
    terms: Terms

    def price_at(self, model: str, at: Micros) -> Price | None:
        """Return the price of `model` at `at`, or None if there is none: never zero."""
        valid = [price for price in self.prices.get(model, ()) if price.valid_from <= at]
        return valid[-1] if valid else None

    def price_nearest(self, model: str, at: Micros) -> Price | None:
        """Return the price at `at`, or the first there was if Azure dates the work before it.

        A quote asks `price_at`: what has no price yet is not sent. What was sent has to be charged.
        """
        return self.price_at(model, at) or next(iter(self.prices.get(model, ())), None)

    def rate(self, price: Price, deployment_type: str, usage: Usage) -> tuple[RatedLine, ...]:
        """Return one line per meter that counted something."""
        counts = {
            Meter.INPUT_TOKENS: usage.input_tokens,
            Meter.CACHED_INPUT_TOKENS: usage.cached_input_tokens,
            Meter.OUTPUT_TOKENS: usage.output_tokens,
        }
        factor = self.factors[deployment_type]
        return tuple(
            RatedLine(meter, count, _amount(price.usd_per_mtok[meter] * factor, count), price.id)
            for meter, count in counts.items()
            if count
        )


def _amount(usd_per_mtok: Decimal, count: int) -> NanoUsd:
    whole = _whole_nano_per_token(usd_per_mtok)
    if whole is not None:
        return whole * count
    exact = usd_per_mtok * count * NANO_PER_USD / _TOKENS_PER_PRICE
    return int(exact.quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


@lru_cache(maxsize=1024)
def _whole_nano_per_token(usd_per_mtok: Decimal) -> NanoUsd | None:
    """Return a rate in nano-USD per token if it is a whole number, as nearly all are."""
    exact = usd_per_mtok * NANO_PER_USD / _TOKENS_PER_PRICE
    return int(exact) if exact == exact.to_integral_value() else None


def parse_price_book(document: Mapping[str, object]) -> PriceBook:
    """Return the price book a TOML document describes.

    Raises:
        PriceBookFaults: with everything that is malformed or contradicts itself.
    """
    faults: list[str] = []
    prices: dict[str, list[Price]] = {}
    models = document.get("model")
    if not isinstance(models, list) or not all(isinstance(entry, Mapping) for entry in models):
        faults.append("`model` must be a list of tables")
        models = []
    for number, entry in enumerate(models):
        try:
            price = _price(entry)
        except ValueError as fault:
            faults.append(f"model[{number}]: {fault}")
        else:
            prices.setdefault(price.model, []).append(price)
    for known in prices.values():
        known.sort(key=lambda price: price.valid_from)
    factors = document.get("deployment_type")
    if not isinstance(factors, Mapping):
        faults.append("`deployment_type` is missing")
        factors = {}
    found: dict[str, Decimal] = {}
    for name in factors:
        try:
            found[str(name)] = _decimal(factors, name)
        except ValueError as fault:
            faults.append(f"deployment_type: {fault}")
    terms, faults_of_terms = read_terms(document.get("session"))
    faults += faults_of_terms
    if faults:
        raise PriceBookFaults(faults)
    return PriceBook({model: tuple(known) for model, known in prices.items()}, found, terms)


def _price(entry: Mapping[str, object]) -> Price:
    model, valid_from = _text(entry, "name"), _day(entry, "valid_from")
    plain = _decimal(entry, "input")
    return Price(
        id=f"{model}@{valid_from.isoformat()}",
        model=model,
        valid_from=midnight(valid_from),
        usd_per_mtok={
            Meter.INPUT_TOKENS: plain,
            Meter.CACHED_INPUT_TOKENS: (
                _decimal(entry, "cached_input") if "cached_input" in entry else plain
            ),
            Meter.OUTPUT_TOKENS: _decimal(entry, "output"),
        },
        input_tokens_max=_integer(entry, "input_tokens_max"),
        output_tokens_max=_integer(entry, "output_tokens_max"),
    )


def _integer(entry: Mapping[str, object], name: str) -> int:
    value = entry.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"`{name}` must be a whole number, not `{value}`")
    return value


def _text(entry: Mapping[str, object], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"`{name}` must be a text, not `{value}`")
    return value


def _decimal(entry: Mapping[str, object], name: str) -> Decimal:
    """Return an exact decimal; a binary float has already lost what was written."""
    value = entry.get(name)
    if not isinstance(value, str | Decimal) or PLAIN_AMOUNT.fullmatch(str(value)) is None:
        raise ValueError(f"`{name}` must be a decimal amount, not `{value}`")
    return Decimal(value)


def _day(entry: Mapping[str, object], name: str) -> date:
    value = entry.get(name)
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"`{name}` must be a day such as `2025-04-14`, not `{value}`") from None
