"""Lists over a whole resource, answered from the registry: a team sees its own objects and no
others.

Azure would list everybody's. So the ids come from our registry, newest first, and each object is
read from Azure, a few at a time; an object that is gone at Azure is left out, one that cannot be
read makes the list fail. Containers are taken from Azure's own list instead, because whoever reads
one by itself keeps it alive. Envelope and cursors are ours.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence

import jiter
import orjson

from gateway.answer import Answer
from gateway.core import versions
from gateway.core.errors import Code, Refusal, not_found
from gateway.core.model import ObjectKind
from gateway.core.target import render_query
from gateway.exchange import Asked
from gateway.house import House
from gateway.outgoing import path_of
from gateway.refusals import waits_of
from gateway.upstream import MaybeSent, Reply, ReplyBroken

_PAGE_DEFAULT, _PAGE_MAX = 20, 100
_LIMIT = re.compile(r"[0-9]{1,3}")
_FILTERS = ("purpose", "name")
_AT_ONCE = 4
_READS_MAX = 400
_CONTAINER_PAGES_MAX = 50
_OBJECT_BYTES_MAX = 4 * 1024 * 1024


async def list_own(house: House, asked: Asked, answer: Answer) -> None:
    """Answer a list with the caller's own objects.

    Raises:
        Refusal: a paging parameter is out of its range.
        NotSent, MaybeSent, ReplyBroken: Azure could not be asked.
    """
    kind = asked.operation.lists
    if kind is None:
        raise ValueError("not a list")
    query = dict(asked.query)
    limit = _limit(query.get("limit"))
    owned = await house.store.owned(upstream=asked.upstream, kind=kind, team=asked.caller.team)
    ids = _between([name for name, _ in owned], query)
    nearest = ids[-limit:] if "before" in query else ids
    if kind is ObjectKind.CONTAINER:
        living = await _living_containers(house, asked)

        async def look(part: Sequence[str]) -> list[dict[str, object] | None]:
            return [living.get(name) for name in part]
    else:

        async def look(part: Sequence[str]) -> list[dict[str, object] | None]:
            return await _read(house, asked, part)

    documents, looked_at = await _fill(asked, nearest, limit, look)
    shown = [versions.downgrade(asked.route, asked.operation.name, each) for each in documents]
    envelope = {
        "object": "list",
        "data": shown,
        "first_id": shown[0].get("id") if shown else None,
        "last_id": nearest[looked_at - 1] if looked_at else None,
        "has_more": looked_at < len(ids),
    }
    headers = [(b"content-type", b"application/json"), (b"x-gateway-session", b"none")]
    await answer.whole(200, headers, orjson.dumps(envelope))


def _between(newest_first: Sequence[str], query: dict[str, str]) -> Sequence[str]:
    """Return the ids after and before the cursors, in the order that was asked for."""
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise Refusal(Code.MALFORMED_REQUEST, "`order` must be `asc` or `desc`", param="order")
    ids = list(newest_first) if order == "desc" else list(reversed(newest_first))
    start = _place(ids, query["after"]) + 1 if "after" in query else 0
    stop = _place(ids, query["before"]) if "before" in query else len(ids)
    return ids[start:stop]


def _place(ids: Sequence[str], cursor: str) -> int:
    if cursor not in ids:
        # It was deleted since its owner was looked up.
        raise not_found()
    return ids.index(cursor)


async def _fill(
    asked: Asked,
    ids: Sequence[str],
    limit: int,
    look: Callable[[Sequence[str]], Awaitable[list[dict[str, object] | None]]],
) -> tuple[list[dict[str, object]], int]:
    """Return up to `limit` objects that are there and wanted, and how many ids that took.

    SDKs take an empty page for the end of a list, so what is gone or was filtered out must not make
    a page empty.
    """
    filters = [(name, value) for name, value in asked.query if name in _FILTERS]
    found: list[dict[str, object]] = []
    looked_at = 0
    while looked_at < min(len(ids), _READS_MAX) and len(found) < limit:
        part = ids[looked_at : looked_at + limit - len(found)]
        looked_at += len(part)
        found += [
            document
            for document in await look(part)
            if document is not None and all(document.get(name) == value for name, value in filters)
        ]
    return found, looked_at


def _limit(text: str | None) -> int:
    if text is None:
        return _PAGE_DEFAULT
    if _LIMIT.fullmatch(text) is None or not 1 <= int(text) <= _PAGE_MAX:
        raise Refusal(
            Code.MALFORMED_REQUEST, f"`limit` must be from 1 to {_PAGE_MAX}", param="limit"
        )
    return int(text)


async def _read(house: House, asked: Asked, ids: Sequence[str]) -> list[dict[str, object] | None]:
    """Return each object, None for one that Azure does not have any more.

    Raises:
        Refusal: Azure did not answer for one of them. A list that leaves out what could not be
            read would lie to whoever goes by it.
    """
    gate = asyncio.Semaphore(_AT_ONCE)
    base = path_of(asked)

    async def one(name: str) -> dict[str, object] | None:
        async with gate:
            return await _ask(house, asked, f"{base}/{name}", ())

    return await asyncio.gather(*(one(name) for name in ids))


async def _living_containers(house: House, asked: Asked) -> Mapping[str, dict[str, object]]:
    """Return Azure's own list of containers by id: to read one by itself would keep it alive."""
    known: dict[str, dict[str, object]] = {}
    after: tuple[tuple[str, str], ...] = ()
    for _ in range(_CONTAINER_PAGES_MAX):
        page = await _ask(house, asked, path_of(asked), (("limit", str(_PAGE_MAX)), *after))
        data = page.get("data") if page is not None else None
        rows = [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []
        known.update((str(row.get("id")), row) for row in rows)
        if page is None or page.get("has_more") is not True or not rows:
            break
        after = (("after", str(rows[-1].get("id"))),)
    return known


async def _ask(
    house: House, asked: Asked, path: str, pairs: tuple[tuple[str, str], ...]
) -> dict[str, object] | None:
    if asked.route.sent is not None:
        pairs = (*pairs, ("api-version", asked.route.sent))
    try:
        reply = await house.upstream.send(
            asked.upstream,
            method="GET",
            path=path,
            query=render_query(pairs),
            headers=asked.headers,
            body=None,
        )
        body = await reply.read(_OBJECT_BYTES_MAX)
    except (MaybeSent, ReplyBroken):
        raise _unanswered(None) from None
    if reply.status == 404:
        return None
    if reply.status != 200:
        raise _unanswered(reply)
    try:
        document = jiter.from_json(body)
    except ValueError:
        raise _unanswered(None) from None
    if not isinstance(document, dict):
        raise _unanswered(None)
    return document


def _unanswered(reply: Reply | None) -> Refusal:
    status = reply.status if reply is not None else 0
    said = f"answered `{status}`" if status else "did not answer"
    return Refusal(
        Code.RATE_LIMIT_EXCEEDED if status == 429 else Code.UPSTREAM_UNREACHABLE,
        f"Azure {said} when asked for an object of the list, so the list cannot be told; try again",
        headers=waits_of(reply.headers) if reply is not None else (),
    )
