"""Lists over a whole resource, answered from the registry: a team sees its own objects and no
others.

Azure would list everybody's. So the ids come from our registry, newest first, and each object is
read from Azure, a few at a time; an object that is gone at Azure is left out. Envelope and
cursors are ours.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

import jiter
import orjson

from gateway.answer import Answer
from gateway.core import versions
from gateway.core.errors import Code, Refusal
from gateway.core.model import ObjectKind
from gateway.exchange import Asked
from gateway.house import House
from gateway.outgoing import api_version_query

_PAGE_DEFAULT, _PAGE_MAX = 20, 100
_LIMIT = re.compile(r"[0-9]{1,3}")
_AT_ONCE = 4
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
    owned = await house.store.owned(upstream=asked.upstream, kind=kind, team=asked.caller.team)
    ids = [name for name, _ in owned]
    page, has_more = _page(ids, query)
    documents = [document for document in await _read(house, asked, kind, page) if document]
    if kind is ObjectKind.FILE and "purpose" in query:
        documents = [each for each in documents if each.get("purpose") == query["purpose"]]
    shown = [versions.downgrade(asked.route, asked.operation.name, each) for each in documents]
    envelope = {
        "object": "list",
        "data": shown,
        "first_id": shown[0].get("id") if shown else None,
        "last_id": page[-1] if page else None,
        "has_more": has_more,
    }
    headers = [(b"content-type", b"application/json"), (b"x-gateway-session", b"none")]
    await answer.whole(200, headers, orjson.dumps(envelope))


def _page(newest_first: Sequence[str], query: dict[str, str]) -> tuple[Sequence[str], bool]:
    limit = _limit(query.get("limit"))
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise Refusal(Code.MALFORMED_REQUEST, "`order` must be `asc` or `desc`", param="order")
    ids = list(newest_first) if order == "desc" else list(reversed(newest_first))
    if "after" in query:
        ids = ids[ids.index(query["after"]) + 1 :]
    if "before" in query:
        ids = ids[: ids.index(query["before"])][-limit:]
    return ids[:limit], len(ids) > limit


def _limit(text: str | None) -> int:
    if text is None:
        return _PAGE_DEFAULT
    if _LIMIT.fullmatch(text) is None or not 1 <= int(text) <= _PAGE_MAX:
        raise Refusal(
            Code.MALFORMED_REQUEST, f"`limit` must be from 1 to {_PAGE_MAX}", param="limit"
        )
    return int(text)


async def _read(
    house: House, asked: Asked, kind: ObjectKind, ids: Sequence[str]
) -> list[dict[str, object] | None]:
    gate = asyncio.Semaphore(_AT_ONCE)
    base = asked.operation.template

    async def one(name: str) -> dict[str, object] | None:
        async with gate:
            reply = await house.upstream.send(
                asked.upstream,
                method="GET",
                path=f"{base}/{name}",
                query=api_version_query(asked.route.sent),
                headers=asked.headers,
                body=None,
            )
            body = await reply.read(_OBJECT_BYTES_MAX)
        if reply.status != 200:
            return None
        try:
            document = jiter.from_json(body)
        except ValueError:
            return None
        return document if isinstance(document, dict) else None

    return await asyncio.gather(*(one(name) for name in ids))
