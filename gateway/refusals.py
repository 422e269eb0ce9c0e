"""What the street says when a request does not go on: the fixed texts, and those with figures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from gateway.core.billing import Deployment
from gateway.core.errors import Code, Refusal, Refused
from gateway.core.ledger import OverCap, Unit
from gateway.core.model import SECOND, Micros
from gateway.core.rating import PriceBook, show_usd

UNAVAILABLE = Refused(
    Code.GATEWAY_UNAVAILABLE,
    "the gateway cannot keep its books at the moment, so nothing was sent; try again shortly",
)
UNREACHABLE = Refused(
    Code.UPSTREAM_UNREACHABLE,
    "Azure could not be reached; nothing was sent, nothing was billed",
    headers=(("x-should-retry", "true"),),
)
UNANSWERED = Refused(
    Code.UPSTREAM_UNREACHABLE, "Azure did not answer; nothing that costs money was sent"
)
PERHAPS_DONE = Refused(
    Code.UPSTREAM_UNREACHABLE,
    "Azure did not answer, and may have done what was asked; look before you ask again",
    headers=(("x-should-retry", "false"),),
)
UNKNOWN_OUTCOME = Refused(
    Code.UPSTREAM_OUTCOME_UNKNOWN,
    "the connection to Azure broke after the request had gone out; whether the work was done is "
    "being found out; what it cost will stand at `/gateway/v1/requests/` with this request's id",
)
FAULT = Refused(
    Code.INTERNAL_ERROR, "the gateway failed; the request's id leads to what it wrote down"
)


def unanswered(*, is_promised: bool, method: str) -> Refused:
    """Return what is told when Azure may have a request and did not answer."""
    if is_promised:
        return UNKNOWN_OUTCOME
    return UNANSWERED if method == "GET" else PERHAPS_DONE


# Source: azure-core 1.3x, `RetryPolicy`: a POST is repeated after these whatever the headers say.
_REPEATED_BY_AZURE_CORE = (500, 503, 504)


def waits_of(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """Return how long Azure wants to be left alone, as headers of a refusal."""
    return tuple(
        (name.decode("ascii"), value.decode("latin-1"))
        for name, value in headers
        if name in (b"retry-after", b"retry-after-ms")
    )


def for_azure_core(refused: Refused) -> Refused:
    """Return a refusal of work that may have been done as a status that Azure's own SDK, which
    heeds no `x-should-retry`, does not answer with a second POST."""
    if refused.code.status not in _REPEATED_BY_AZURE_CORE:
        return refused
    return replace(refused, code=Code.UPSTREAM_OUTCOME_UNKNOWN_502)


def over_cap(refused: OverCap, ends: Micros | None, *, status: int) -> Refusal:
    """Return the stop at a cap: which one, its ceiling, what is used, and when it resets."""
    claim = refused.claim
    balance = claim.balance
    is_money = balance.unit is Unit.NANO_USD

    def shown(amount: int) -> str:
        return f"${show_usd(amount)}" if is_money else str(amount)

    what = "USD" if is_money else "code-interpreter sessions"
    resets = _moment(ends)
    used = (
        f"used `{shown(refused.posted)}`, reserved `{shown(refused.reserved)}`, "
        f"this request may need `{shown(claim.bound)}`"
    )
    way_out = (
        "ask whoever owns the budget"
        if is_money
        else "use a thread whose session is still open, or ask whoever owns the policy"
    )
    until = f"; resets `{resets}`" if resets else ""
    headers = (("x-gateway-reset", resets),) if resets else ()
    return Refusal(
        Code.INSUFFICIENT_QUOTA_403 if status == 403 else Code.INSUFFICIENT_QUOTA,
        f"`{_subject(balance.account)}` is at its cap of `{shown(claim.cap)}` {what} "
        f"per {_per(balance.period.value)} (rule `{claim.rule}`): {used}{until}; {way_out}",
        rule=claim.rule,
        headers=(*headers, ("x-gateway-budget-left", shown(_left(refused)))),
    )


def _left(refused: OverCap) -> int:
    return max(0, refused.claim.cap - refused.posted - refused.reserved)


def _subject(account: str) -> str:
    kind, _, name = account.partition(":")
    if kind == "team":
        return f"team {name}"
    return "the organisation" if kind == "org" else "this thread"


def _per(period: str) -> str:
    return "thread" if period == "ever" else period


def _moment(at: Micros | None) -> str:
    if at is None:
        return ""
    return datetime.fromtimestamp(at // SECOND, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def unpriced(deployment: Deployment, book: PriceBook) -> Refusal:
    """Return the refusal of a deployment nobody can price."""
    priced = ", ".join(f"`{name}`" for name in sorted(book.prices))
    return Refusal(
        Code.UNPRICED_MODEL,
        f"deployment `{deployment.name}` has no price (rule `unpriced-model`), and what cannot be "
        f"priced is not sent; list it under `[[deployment]]` with one of the models {priced}",
        param="model",
        rule="unpriced-model",
    )
