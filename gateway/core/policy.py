"""What an organisation allows: caps on sessions and money, tools, and how a request is judged by
them.

Policy is data. A cap names a subject (the organisation, a team, one thread or container), a
period of the UTC calendar and a ceiling; every cap that concerns a request becomes a *claim* on a
balance, and the store refuses the request if and only if one of its claims does not fit at that
commit. Nothing here counts.

Tools are denied unless listed: a tool nobody catalogued may cost money or open a door that nobody
watches (a shell, a remote server, a search engine).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from gateway.core.errors import Code, Refusal
from gateway.core.ledger import (
    ORGANISATION,
    Balance,
    Claim,
    Period,
    Unit,
    scope_account,
    team_account,
    window_start,
)
from gateway.core.model import Micros, NanoUsd, Scope


class Subject(StrEnum):
    """Whose sum a cap holds down."""

    ORGANISATION = "organisation"
    TEAM = "team"
    SCOPE = "thread"


@dataclass(frozen=True, slots=True)
class Cap:
    """One ceiling. `team` of None means every team, each for itself.

    `ceiling` is in sessions or nano-USD, as `unit` says; `period` is ``EVER`` for threads.
    """

    rule: str
    subject: Subject
    unit: Unit
    period: Period
    ceiling: int
    team: str | None = None


@dataclass(frozen=True, slots=True)
class SpendPolicy:
    """All caps on sessions and money. `cap_status` is what a stop is answered with: 429 or 403."""

    caps: tuple[Cap, ...] = ()
    cap_status: int = 429


@dataclass(frozen=True, slots=True)
class ModelPolicy:
    """Which tool types may be used, from which hosts Azure may be told to fetch pictures, and which
    features may be used although nothing meters them."""

    tools: frozenset[str]
    image_hosts: frozenset[str] = frozenset()
    unmetered: frozenset[str] = frozenset()


def claims(
    policy: SpendPolicy,
    *,
    team: str,
    scope: Scope | None,
    sessions: int,
    nano_usd: NanoUsd,
    at: Micros,
    until: Micros,
) -> tuple[Claim, ...]:
    """Return what a request that may open `sessions` and cost `nano_usd` claims under the caps.

    A request that can cost nothing of a unit has no claim on it: it passes even over the cap. There
    is one claim per balance: a cap that names the team stands in the place of the general one.
    What the request costs counts when it happens, which may be as late as `until`: if a day or
    month ends before that, the claim is on both.
    """
    bounds = {Unit.SESSIONS: sessions, Unit.NANO_USD: nano_usd}
    in_force: dict[Balance, Cap] = {}
    caps = [cap for cap in policy.caps if bounds[cap.unit] > 0]
    for cap, balance in _concerned(caps, team=team, scope=scope, moments=(at, until)):
        known = in_force.get(balance)
        if known is None or _precedence(cap) < _precedence(known):
            in_force[balance] = cap
    return tuple(
        Claim(balance=balance, bound=bounds[cap.unit], cap=cap.ceiling, rule=cap.rule)
        for balance, cap in in_force.items()
    )


def _precedence(cap: Cap) -> tuple[bool, int]:
    """Order caps on one balance: those that name the team first, then the lowest ceiling."""
    return (cap.team is None, cap.ceiling)


def _concerned(
    caps: Iterable[Cap], *, team: str, scope: Scope | None, moments: tuple[Micros, Micros]
) -> Iterator[tuple[Cap, Balance]]:
    for cap in caps:
        if cap.team is not None and cap.team != team:
            continue
        match cap.subject:
            case Subject.ORGANISATION:
                account = ORGANISATION
            case Subject.TEAM:
                account = team_account(team)
            case Subject.SCOPE:
                if scope is None:
                    continue
                account = scope_account(scope)
            case _:
                assert_never(cap.subject)
        for start in {window_start(cap.period, moment): None for moment in moments}:
            yield cap, Balance(account, cap.unit, cap.period, start)


def check_tools(policy: ModelPolicy, tools: object, *, param: str = "tools") -> frozenset[str]:
    """Return the types of the tools a body lists; ``None`` lists none.

    Raises:
        Refusal: `tools` is no list of objects with a type, or a type is not permitted.
    """
    if tools is None:
        return frozenset()
    if not isinstance(tools, list):
        raise Refusal(Code.MALFORMED_REQUEST, f"`{param}` must be a list", param=param)
    return frozenset(
        _permitted_tool(policy, tool, f"{param}[{index}]") for index, tool in enumerate(tools)
    )


def _permitted_tool(policy: ModelPolicy, tool: object, param: str) -> str:
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    if not isinstance(kind, str):
        raise Refusal(Code.MALFORMED_REQUEST, f"`{param}.type` is missing", param=param)
    if kind not in policy.tools:
        allowed = ", ".join(f"`{name}`" for name in sorted(policy.tools))
        raise Refusal(
            Code.NOT_PERMITTED,
            f"tool `{kind[:64]}` is not permitted (rule `tool-not-listed`); allowed: {allowed}",
            param=f"{param}.type",
            rule="tool-not-listed",
        )
    return kind
