"""The bill: what the gateway wrote down, and whether the simulated Azure charges the same.

The two were worked out by programs that share no code, so they are compared in full: every session
by the thread or container it belongs to, every model's tokens by kind, and the sum to the
nano-USD. An estimate anywhere is a difference too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.core.model import Confidence, Meter, NanoUsd
from gateway.core.rating import show_usd
from gateway.stores import open_reader

Sessions = Counter[tuple[str, str]]
Tokens = Counter[tuple[str, str]]


@dataclass(slots=True)
class TeamLine:
    """What one team used: counts by meter, and money."""

    counts: Counter[Meter] = field(default_factory=Counter)
    nano_usd: NanoUsd = 0


@dataclass(frozen=True, slots=True)
class Bill:
    """Sessions by (kind, scope), tokens by (model, meter), and who used what."""

    sessions: Sessions
    tokens: Tokens
    nano_usd: NanoUsd
    teams: Mapping[str, TeamLine] = field(default_factory=dict)
    estimates: int = 0


def read_bill(database: Path) -> Bill:
    """Return the bill that the ledger's postings add up to; the gateway may be running."""
    sessions, tokens = Sessions(), Tokens()
    teams: dict[str, TeamLine] = {}
    total = estimates = 0
    with open_reader(database) as reader:
        for row in reader.ledger():
            charge = row.posting.charge
            if charge.meter is Meter.CODE_INTERPRETER_SESSION and charge.scope is not None:
                sessions[charge.scope.kind.value, charge.scope.id] += charge.quantity
            else:
                tokens[charge.origin.model or "none", charge.meter.value] += charge.quantity
            line = teams.setdefault(charge.origin.team, TeamLine())
            line.counts[charge.meter] += charge.quantity
            line.nano_usd += charge.nano_usd
            total += charge.nano_usd
            estimates += charge.confidence is Confidence.ESTIMATED
    return Bill(sessions, tokens, total, teams, estimates)


def read_invoice(invoice: Mapping[str, Any]) -> Bill:
    """Return the simulated Azure's invoice in the bill's terms; it knows of no teams."""
    sessions = Sessions((row["kind"], row["scope"]) for row in invoice["sessions"])
    tokens = Tokens(
        {
            (row["model"], meter.value): row[meter.value]
            for row in invoice["tokens"]
            for meter in (Meter.INPUT_TOKENS, Meter.CACHED_INPUT_TOKENS, Meter.OUTPUT_TOKENS)
        }
    )
    return Bill(sessions, tokens, invoice["total_nano_usd"])


def differences(bill: Bill, invoice: Bill) -> Iterator[str]:
    """Yield a line for everything on which bill and invoice do not agree."""
    if bill.estimates:
        yield f"{bill.estimates} lines of the bill are estimates"
    for what, ours, theirs in (
        ("sessions", bill.sessions, invoice.sessions),
        ("tokens", bill.tokens, invoice.tokens),
    ):
        for key in sorted(ours.keys() | theirs.keys()):
            if ours[key] != theirs[key]:
                named = " ".join(key)
                yield f"{what} of {named}: bill `{ours[key]}`, invoice `{theirs[key]}`"
    if bill.nano_usd != invoice.nano_usd:
        yield f"bill `${show_usd(bill.nano_usd)}`, invoice `${show_usd(invoice.nano_usd)}`"
