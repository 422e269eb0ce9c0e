"""Dated list prices as data. Entries are only ever added: yesterday's request keeps its price."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from importlib.resources import files

from gateway.core.rating import PriceBook, parse_price_book


def shipped_price_book() -> PriceBook:
    """Return the price book that comes with the package.

    Raises:
        ValueError: an entry is malformed; the message names it.
    """
    text = files(__name__).joinpath("azure.toml").read_text(encoding="utf-8")
    return parse_price_book(tomllib.loads(text, parse_float=Decimal))
