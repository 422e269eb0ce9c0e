"""What stands in the ledger and what stands on the invoice, brought to the same form."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.core.model import Confidence, Meter
from gateway.ports import LedgerRow


def kept_bytes(folder: Path) -> bytes:
    """Return every byte of the ledger and of the spool as they lie on disk."""
    files = [*folder.glob("ledger.db*"), *(folder / "spool").iterdir()]
    return b"".join(path.read_bytes() for path in files if path.is_file())


def total(lines: list[LedgerRow]) -> int:
    """Return what the ledger comes to, in nano-USD."""
    return sum(row.posting.charge.nano_usd for row in lines)


def estimates(lines: list[LedgerRow]) -> dict[str, str | None]:
    """Return each fact that still stands as an estimate, with its reason."""
    last = {row.posting.charge.fact: row.posting.charge for row in lines}
    amounts: Counter[str] = Counter()
    for row in lines:
        amounts[row.posting.charge.fact] += row.posting.charge.nano_usd
    return {
        fact: charge.reason
        for fact, charge in last.items()
        if charge.confidence is Confidence.ESTIMATED and amounts[fact]
    }


def sessions_by_scope(lines: list[LedgerRow]) -> Counter[tuple[str, str]]:
    """Return how many sessions the ledger has for each scope.

    The invoice calls the threads of a project threads, as it does all others.
    """
    found: Counter[tuple[str, str]] = Counter()
    for row in lines:
        charge = row.posting.charge
        if charge.meter is Meter.CODE_INTERPRETER_SESSION:
            assert charge.scope is not None
            kind = charge.scope.kind.value.removeprefix("project_")
            found[kind, charge.scope.id] += charge.quantity
    return +found


def tokens_by_model(lines: list[LedgerRow]) -> dict[str, Counter[str]]:
    """Return token counts by model and meter."""
    found: dict[str, Counter[str]] = {}
    for row in lines:
        charge = row.posting.charge
        if charge.meter is not Meter.CODE_INTERPRETER_SESSION and charge.quantity:
            model = found.setdefault(str(charge.origin.model), Counter())
            model[charge.meter.value] += charge.quantity
    return found


def invoiced_sessions(invoice: Mapping[str, Any]) -> Counter[tuple[str, str]]:
    """Return how many sessions the invoice has for each scope."""
    return Counter((row["kind"], row["scope"]) for row in invoice["sessions"])


def invoiced_tokens(invoice: Mapping[str, Any]) -> dict[str, Counter[str]]:
    """Return the invoice's token counts by model and meter."""
    meters = ("input_tokens", "cached_input_tokens", "output_tokens")
    return {
        row["model"]: Counter({name: row[name] for name in meters if row[name]})
        for row in invoice["tokens"]
    }


def intents_on_disk(database: Path) -> list[tuple[str, str]]:
    """Return (operation, state) of every intent, as a second process would see them."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT operation, state FROM intents ORDER BY at, id")
        return [(str(operation), str(state)) for operation, state in rows]
    finally:
        connection.close()
