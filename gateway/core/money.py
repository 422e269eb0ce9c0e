"""Money as text: USD to nano-USD and back, exactly.

An amount is written as a plain decimal, never as a binary float: what was lost in writing it down
cannot be found again by rounding.
"""

from __future__ import annotations

import re
from decimal import Decimal

from gateway.core.model import NanoUsd

NANO_PER_USD = 1_000_000_000
PLAIN_AMOUNT = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")


def nano_usd(usd: str) -> NanoUsd:
    """Return an amount written in USD as nano-USD.

    Raises:
        ValueError: it is no plain decimal amount, is negative, or is finer than a nano-USD.
    """
    if PLAIN_AMOUNT.fullmatch(usd) is None:
        raise ValueError(f"`{usd}` is no amount in USD")
    return int(Decimal(usd) * NANO_PER_USD)


def show_usd(amount: NanoUsd) -> str:
    """Return an amount in USD with as many decimals as it needs, at least two."""
    sign = "-" if amount < 0 else ""
    whole, rest = divmod(abs(amount), NANO_PER_USD)
    decimals = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{decimals}"
