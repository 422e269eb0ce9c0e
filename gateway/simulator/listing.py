"""Lists with cursors: `limit` 1 to 100 (20), `order` (desc), `after`, `before`."""

from collections.abc import Sequence
from typing import Any

from gateway.simulator.errors import backend
from gateway.simulator.exchange import Call, Json

LIMIT_DEFAULT = 20


def page(
    call: Call,
    oldest_first: Sequence[dict[str, Any]],
    *,
    limit_default: int = LIMIT_DEFAULT,
    limit_max: int = 100,
) -> Json:
    """Return one page of `oldest_first` in the list envelope.

    Raises:
        Fault: 400, `limit` or `order` is out of range.
    """
    limit = _limit(call.query.get("limit"), limit_default, limit_max)
    order = call.query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise backend(f"'{order}' is not one of ['asc', 'desc'] - 'order'", param="order")
    rows = list(oldest_first) if order == "asc" else list(reversed(oldest_first))
    ids = [row["id"] for row in rows]
    after, before = call.query.get("after"), call.query.get("before")
    start = ids.index(after) + 1 if after in ids else 0
    end = ids.index(before) if before in ids else len(rows)
    window = rows[start:end]
    # `before` alone pages backwards: the rows nearest to the cursor, still in the list's order.
    shown = window[-limit:] if before is not None and after is None else window[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(window) > len(shown),
    }


def _limit(given: str | None, default: int, most: int) -> int:
    if given is None:
        return default
    if not given.isascii() or not given.isdigit() or not 1 <= int(given) <= most:
        raise backend(f"Invalid 'limit': expected an integer from 1 to {most}.", param="limit")
    return int(given)
