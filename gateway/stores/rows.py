"""Rows and dataclasses: each pair of functions here is the inverse of the other."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from gateway.core.ledger import (
    Balance,
    Charge,
    Claim,
    Intent,
    IntentState,
    Period,
    Posted,
    Posting,
    PostingKind,
    QuoteLine,
    Unit,
)
from gateway.core.model import Confidence, Meter, Origin, Scope, ScopeKind, Surface
from gateway.core.sessions import Call
from gateway.ports import KeyRecord, LedgerRow, SessionRow

Value = str | int | bytes | None
Values = dict[str, Value]


def values_of_scope(scope: Scope | None) -> Values:
    """Return the three scope columns, all NULL for None."""
    return {
        "scope_upstream": scope.upstream if scope else None,
        "scope_kind": scope.kind.value if scope else None,
        "scope_id": scope.id if scope else None,
    }


def scope_of(row: sqlite3.Row) -> Scope:
    """Return the scope of a row that has one."""
    return Scope(row["scope_upstream"], ScopeKind(row["scope_kind"]), row["scope_id"])


def values_of_origin(origin: Origin) -> Values:
    """Return the columns that say whose doing it was."""
    return {
        "team": origin.team,
        "team_key": origin.key,
        "upstream": origin.upstream,
        "surface": origin.surface.value,
        "deployment": origin.deployment,
        "model": origin.model,
        "request": origin.request,
        "run": origin.run,
        "response": origin.response,
    }


def origin_of(row: sqlite3.Row, *, run: str = "run", response: str = "response") -> Origin:
    """Return the origin of a row; `run` and `response` name its columns for them."""
    return Origin(
        team=row["team"],
        key=row["team_key"],
        upstream=row["upstream"],
        surface=Surface(row["surface"]),
        deployment=row["deployment"],
        model=row["model"],
        request=row["request"],
        run=row[run],
        response=row[response],
    )


def values_of_call(call: Call) -> Values:
    """Return the columns of a known call. `rank` orders confidences in SQL."""
    return {
        **values_of_scope(call.scope),
        **values_of_origin(call.origin),
        "key": call.key,
        "at": call.at,
        "confidence": call.confidence.value,
        "rank": call.confidence.rank,
        "reason": call.reason,
        "memory": call.memory,
    }


def call_of(row: sqlite3.Row) -> Call:
    """Return the call a row holds."""
    return Call(
        scope=scope_of(row),
        key=row["key"],
        at=row["at"],
        origin=origin_of(row),
        confidence=Confidence(row["confidence"]),
        reason=row["reason"],
        memory=row["memory"],
    )


def values_of_posting(posting: Posting) -> Values:
    """Return the columns of a posting, but for those the writing adds."""
    charge = posting.charge
    return {
        **values_of_scope(charge.scope),
        **values_of_origin(charge.origin),
        "fact": charge.fact,
        "revision": posting.revision,
        "kind": posting.kind.value,
        "at": charge.at,
        "meter": charge.meter.value,
        "quantity": charge.quantity,
        "nano_usd": charge.nano_usd,
        "price_id": charge.price_id,
        "confidence": charge.confidence.value,
        "reason": charge.reason,
    }


def ledger_row_of(row: sqlite3.Row) -> LedgerRow:
    """Return the ledger line a row holds."""
    posting = Posting(
        charge=_charge_of(row), revision=row["revision"], kind=PostingKind(row["kind"])
    )
    return LedgerRow(number=row["number"], recorded_at=row["recorded_at"], posting=posting)


def posted_of(row: sqlite3.Row) -> Posted:
    """Return what a fact adds up to, from its last revision and two sums beside it."""
    return Posted(
        charge=_charge_of(row),
        quantity=row["quantity_sum"],
        nano_usd=row["nano_usd_sum"],
        revision=row["revision"],
    )


def _charge_of(row: sqlite3.Row) -> Charge:
    return Charge(
        fact=row["fact"],
        at=row["at"],
        meter=Meter(row["meter"]),
        quantity=row["quantity"],
        nano_usd=row["nano_usd"],
        price_id=row["price_id"],
        confidence=Confidence(row["confidence"]),
        origin=origin_of(row),
        scope=None if row["scope_id"] is None else scope_of(row),
        reason=row["reason"],
    )


def values_of_intent(intent: Intent, claims: Iterable[Claim]) -> Values:
    """Return the columns of an intent as it is first journalled, but for `boot`."""
    origin = values_of_origin(intent.origin)
    return {
        **origin,
        "origin_run": origin["run"],
        "origin_response": origin["response"],
        "id": intent.id,
        "at": intent.at,
        "operation": intent.operation,
        "quote": json.dumps([_list_of_line(line) for line in intent.quote]),
        "claims": json.dumps([_list_of_claim(claim) for claim in claims]),
        "tools_may_call": int(intent.tools_may_call),
        "previous": intent.previous,
        "conversation": intent.conversation,
        "memory": intent.memory,
        "thread": intent.thread,
        "run": intent.run,
        "response": intent.response,
        "state": intent.state.value,
        "looks": intent.looks,
    }


def intent_of(row: sqlite3.Row) -> Intent:
    """Return the intent a row holds."""
    return Intent(
        id=row["id"],
        at=row["at"],
        operation=row["operation"],
        origin=origin_of(row, run="origin_run", response="origin_response"),
        quote=tuple(
            QuoteLine(meter=Meter(meter), quantity=quantity, nano_usd=nano_usd, price_id=price_id)
            for meter, quantity, nano_usd, price_id in json.loads(row["quote"])
        ),
        tools_may_call=bool(row["tools_may_call"]),
        previous=row["previous"],
        conversation=row["conversation"],
        memory=row["memory"],
        thread=row["thread"],
        run=row["run"],
        response=row["response"],
        state=IntentState(row["state"]),
        looks=row["looks"],
    )


def claims_of(row: sqlite3.Row) -> list[Claim]:
    """Return the claims an intent's row holds, in the order in which they were taken."""
    return [
        Claim(
            balance=Balance(account, Unit(unit), Period(period), window_start),
            bound=bound,
            cap=cap,
            rule=rule,
        )
        for account, unit, period, window_start, bound, cap, rule in json.loads(row["claims"])
    ]


def _list_of_line(line: QuoteLine) -> list[Value]:
    return [line.meter.value, line.quantity, line.nano_usd, line.price_id]


def _list_of_claim(claim: Claim) -> list[Value]:
    return [*values_of_balance(claim.balance).values(), claim.bound, claim.cap, claim.rule]


def values_of_balance(balance: Balance) -> Values:
    """Return the columns that name a balance, in the order of its primary key."""
    return {
        "account": balance.account,
        "unit": balance.unit.value,
        "period": balance.period.value,
        "window_start": balance.window_start,
    }


def key_of(row: sqlite3.Row) -> KeyRecord:
    """Return the team key a row holds."""
    return KeyRecord(
        public=row["public"],
        digest=row["digest"],
        team=row["team"],
        created_at=row["created_at"],
        revoked_at=row["revoked_at"],
    )


def session_of(row: sqlite3.Row) -> SessionRow:
    """Return the session a row holds."""
    return SessionRow(
        scope=scope_of(row),
        start=row["starts_at"],
        end=row["ends_at"],
        calls=row["calls"],
        team=row["team"],
        key=row["team_key"],
        nano_usd=row["nano_usd"],
        confidence=row["confidence"],
    )
