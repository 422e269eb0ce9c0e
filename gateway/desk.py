"""The desk: what a team may ask the gateway about itself, with its own key, on the data plane.

GET /gateway/v1/me              who am I, what is used and left this day and month
GET /gateway/v1/requests/{id}   what became of one of my requests, and what it cost
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import orjson
from starlette.types import Receive, Scope, Send

from gateway.answer import Answer
from gateway.audit import log_refused_key
from gateway.core.errors import Code, Refusal, Refused, not_found
from gateway.core.ledger import Period, Unit, team_account
from gateway.core.model import Caller, Micros
from gateway.core.policy import SpendPolicy, Subject
from gateway.core.rating import show_usd
from gateway.core.target import parse_target
from gateway.house import House
from gateway.ports import LedgerRow, StoreUnavailable

_REQUEST = re.compile(r"gw-[0-9a-f]{32}")
_JSON = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]


class Desk:
    """Answers `/gateway/v1/…`, an ASGI application."""

    def __init__(self, house: House) -> None:
        self._house = house

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one question."""
        stall_s = self._house.limits.stall_s
        answer = Answer(send, f"gw-{os.urandom(16).hex()}", stall_s=stall_s)
        try:
            body = await self._answer(scope)
        except Refusal as refusal:
            log_refused_key(scope, refusal, answer.request_id)
            await answer.refuse(refusal.refused)
        except StoreUnavailable:
            message = "the ledger cannot be read at the moment"
            await answer.refuse(Refused(Code.GATEWAY_UNAVAILABLE, message))
        else:
            await answer.whole(200, _JSON, orjson.dumps(body))

    async def _answer(self, scope: Scope) -> object:
        at = self._house.clock.now()
        caller = self._house.ring.identify(scope["headers"], at)
        segments = parse_target(scope["raw_target"]).segments
        if scope["method"] != "GET":
            raise Refusal(Code.METHOD_NOT_ALLOWED, "this path takes GET", param="method")
        match segments:
            case ("gateway", "v1", "me"):
                return await self._me(caller, at)
            case ("gateway", "v1", "requests", name):
                return await self._request(caller, name)
            case _:
                raise Refusal(Code.UNKNOWN_OPERATION, "the gateway has no such page", param="path")

    async def _me(self, caller: Caller, at: Micros) -> dict[str, object]:
        balances = await self._house.store.balances(team_account(caller.team), at)
        used = {}
        for period in (Period.DAY, Period.MONTH):
            sessions = balances.get((Unit.SESSIONS, period), (0, 0))
            money = balances.get((Unit.NANO_USD, period), (0, 0))
            used[period.value] = {
                "sessions": {"used": sessions[0], "reserved": sessions[1]},
                "usd": {"used": show_usd(money[0]), "reserved": show_usd(money[1])},
            }
        caps = _caps(self._house.rules.policies.spend, caller.team)
        return {"team": caller.team, "key": caller.key, "used": used, "caps": caps}

    async def _request(self, caller: Caller, name: str) -> dict[str, object]:
        if _REQUEST.fullmatch(name) is None:
            raise not_found()
        intent = await self._house.store.intent(name)
        if intent is None or intent.origin.team != caller.team:
            raise not_found()
        rows = await self._house.store.postings_of_request(name)
        return {
            "request": intent.id,
            "operation": intent.operation,
            "state": intent.state.value,
            "thread": intent.thread,
            "run": intent.run,
            "response": intent.response,
            "usd": show_usd(sum(row.posting.charge.nano_usd for row in rows)),
            "lines": _lines(rows),
        }


def _caps(spend: SpendPolicy, team: str) -> list[dict[str, object]]:
    return [
        {
            "rule": cap.rule,
            "subject": cap.subject.value,
            "unit": "usd" if cap.unit is Unit.NANO_USD else "sessions",
            "period": cap.period.value,
            "ceiling": show_usd(cap.ceiling) if cap.unit is Unit.NANO_USD else cap.ceiling,
        }
        for cap in spend.caps
        if cap.subject is not Subject.ORGANISATION and cap.team in (None, team)
    ]


def _lines(rows: Sequence[LedgerRow]) -> list[dict[str, object]]:
    return [
        {
            "meter": row.posting.charge.meter.value,
            "quantity": row.posting.charge.quantity,
            "usd": show_usd(row.posting.charge.nano_usd),
            "kind": row.posting.kind.value,
            "confidence": row.posting.charge.confidence.value,
            "reason": row.posting.charge.reason,
        }
        for row in rows
    ]
