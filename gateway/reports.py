"""Reports: rows of the ledger as tables, CSV and JSON. Money is exact; no float comes near it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from gateway.core.model import SECOND, Micros, NanoUsd
from gateway.ports import KeyRecord, LedgerRow, SessionRow
from gateway.stores import SpendRow

Format = Literal["table", "json", "csv"]
Grouping = Literal["team", "day", "meter"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NANO_PER_MICRO = 1000


def usd(nano_usd: NanoUsd) -> str:
    """Return an amount in USD with 2 to 6 decimals, rounded half-even: ``0.03``, ``-1.50``.

    What is not nothing is never shown as nothing: the smallest amount shown is ``<0.000001``.
    """
    micro_usd, rest = divmod(abs(nano_usd), _NANO_PER_MICRO)
    if rest > 500 or (rest == 500 and micro_usd % 2):
        micro_usd += 1
    sign = "-" if nano_usd < 0 else ""
    if micro_usd == 0 and nano_usd:
        return f"{sign}<0.000001"
    whole, decimals = divmod(micro_usd, 1_000_000)
    return f"{sign}{whole}.{f'{decimals:06}'[:2]}{f'{decimals:06}'[2:].rstrip('0')}"


def timestamp(at: Micros) -> str:
    """Return a moment as RFC 3339 in UTC with microseconds: ``2026-11-23T09:30:00.000000Z``."""
    return (_EPOCH + timedelta(microseconds=at)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def day_start(text: str) -> Micros:
    """Return the first moment (UTC) of a day written ``2026-11-23``.

    Raises:
        ValueError: it is no such day.
    """
    try:
        return (date.fromisoformat(text) - _EPOCH.date()).days * 86_400 * SECOND
    except ValueError:
        raise ValueError(f"`{text[:32]}` is not a day such as `2026-11-23`") from None


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: str = "") -> str:
    """Return aligned columns, with a line end; those named in `right`, by head, to the right."""
    cells = [[name.upper() for name in head], *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    to_the_right = [name in right.split() for name in head]
    lines = [
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, to_the_right, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join(lines) + "\n"


def keys_report(records: Iterable[KeyRecord]) -> str:
    """Return the table of all keys; nothing in it can be used as a key."""
    return table(
        ("key", "team", "issued", "revoked"),
        (
            (
                record.public,
                record.team,
                _minute(record.created_at),
                "-" if record.revoked_at is None else _minute(record.revoked_at),
            )
            for record in records
        ),
    )


def sessions_report(rows: Sequence[SessionRow]) -> str:
    """Return the table of code-interpreter sessions, with what they cost together."""
    lines = [
        (
            _minute(row.start),
            _minute(row.end),
            row.team,
            row.scope.kind.value,
            row.scope.id,
            str(row.calls),
            usd(row.nano_usd),
            row.confidence,
        )
        for row in rows
    ]
    total = usd(sum(row.nano_usd for row in rows))
    lines.append(("total", "", "", "", f"{len(rows)} sessions", "", total, ""))
    head = ("opened", "ends", "team", "kind", "scope", "calls", "usd", "confidence")
    return table(head, lines, right="calls usd")


def spend_report(rows: Sequence[SpendRow], *, by: Grouping, form: Format) -> str:
    """Return what was spent, one line for each group and meter."""
    match form:
        case "json":
            return json.dumps([_spend_fields(row, by) for row in rows], indent=2) + "\n"
        case "csv":
            return _csv([_spend_fields(row, by) for row in rows], by)
        case "table":
            return _spend_table(rows, by)


def ledger_line(row: LedgerRow) -> str:
    """Return one posting as a JSON line, version 1. Times are RFC 3339, money is nano-USD."""
    charge, origin = row.posting.charge, row.posting.charge.origin
    fields: dict[str, object] = {
        "v": 1,
        "posting": row.number,
        "fact": charge.fact,
        "revision": row.posting.revision,
        "kind": row.posting.kind.value,
        "at": timestamp(charge.at),
        "team": origin.team,
        "key": origin.key,
        "upstream": origin.upstream,
        "surface": origin.surface.value,
        "deployment": origin.deployment,
        "model": origin.model,
        "meter": charge.meter.value,
        "quantity": charge.quantity,
        "nano_usd": charge.nano_usd,
        "price_id": charge.price_id,
        "confidence": charge.confidence.value,
        "reason": charge.reason,
        "scope": None if charge.scope is None else str(charge.scope),
        "run": origin.run,
        "response": origin.response,
        "request": origin.request,
    }
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def _spend_fields(row: SpendRow, by: Grouping) -> dict[str, str | int]:
    group: dict[str, str | int] = {} if by == "meter" else {by: row.group}
    return group | {
        "meter": row.meter,
        "quantity": row.quantity,
        "usd": usd(row.nano_usd),
        "nano_usd": row.nano_usd,
        "estimated_nano_usd": row.estimated_nano_usd,
    }


def _spend_table(rows: Sequence[SpendRow], by: Grouping) -> str:
    group = [] if by == "meter" else [by]
    lines = [
        [
            *([row.group] if group else []),
            row.meter,
            str(row.quantity),
            usd(row.nano_usd),
            usd(row.estimated_nano_usd),
        ]
        for row in rows
    ]
    total = usd(sum(row.nano_usd for row in rows))
    estimated = usd(sum(row.estimated_nano_usd for row in rows))
    lines.append(["total", *([""] if group else []), "", total, estimated])
    head = [*group, "meter", "quantity", "usd", "estimated"]
    return table(head, lines, right="quantity usd estimated")


def _csv(rows: Sequence[dict[str, str | int]], by: Grouping) -> str:
    columns = ["meter", "quantity", "usd", "nano_usd", "estimated_nano_usd"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns if by == "meter" else [by, *columns], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _minute(at: Micros) -> str:
    return timestamp(at)[:16].replace("T", " ") + "Z"
