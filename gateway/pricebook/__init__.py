"""Dated list prices as data. Entries are only ever added: yesterday's request keeps its price."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

from gateway.core.rating import PriceBook, PriceBookFaults, parse_price_book


def shipped_price_book() -> PriceBook:
    """Return the price book that comes with the package.

    Raises:
        PriceBookFaults: entries are malformed; each is named.
    """
    return _parsed(files(__name__).joinpath("azure.toml").read_text(encoding="utf-8"))


def load_price_book(path: Path | None) -> PriceBook:
    """Return the price book of a file, or the shipped one for None.

    Raises:
        PriceBookFaults: it cannot be read, or its entries are malformed or contradict one another.
    """
    if path is None:
        return shipped_price_book()
    try:
        return _parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise PriceBookFaults([f"cannot be read: {reason}"]) from None
    except UnicodeDecodeError:
        raise PriceBookFaults(["not valid TOML: it must be UTF-8"]) from None
    except tomllib.TOMLDecodeError as error:
        raise PriceBookFaults([f"not valid TOML: {error}"]) from None


def _parsed(text: str) -> PriceBook:
    return parse_price_book(tomllib.loads(text, parse_float=Decimal))
