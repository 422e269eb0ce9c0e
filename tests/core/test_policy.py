"""Caps as claims, and tools: what is decided without a store."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import Code, Refusal
from gateway.core.ledger import Balance, Period, Unit
from gateway.core.model import SECOND, Scope, ScopeKind
from gateway.core.policy import (
    Cap,
    ModelPolicy,
    SpendPolicy,
    Subject,
    check_tools,
    claims,
)

# 2026-11-23T20:33:20Z, in its day and month.
AT = 1_795_466_000 * SECOND
DAY = 1_795_392_000 * SECOND
MONTH = 1_793_491_200 * SECOND
THREAD = Scope("azure", ScopeKind.THREAD, "thread_1")


def cap(subject: Subject, period: Period, **changes: object) -> Cap:
    fields: dict[str, object] = {"rule": "r", "unit": Unit.SESSIONS, "ceiling": 5, "team": None}
    return Cap(subject=subject, period=period, **(fields | changes))  # type: ignore[arg-type]


def balances(caps: list[Cap], *, team: str = "blue", scope: Scope | None = THREAD) -> list[Balance]:
    made = claims(
        SpendPolicy(caps=tuple(caps)),
        team=team,
        scope=scope,
        sessions=1,
        nano_usd=7,
        at=AT,
        until=AT,
    )
    return [claim.balance for claim in made]


def test_each_subject_has_its_own_balance_in_its_own_window() -> None:
    caps = [
        cap(Subject.ORGANISATION, Period.MONTH),
        cap(Subject.TEAM, Period.DAY),
        cap(Subject.SCOPE, Period.EVER),
    ]
    assert balances(caps) == [
        Balance("org", Unit.SESSIONS, Period.MONTH, MONTH),
        Balance("team:blue", Unit.SESSIONS, Period.DAY, DAY),
        Balance("scope:azure/thread/thread_1", Unit.SESSIONS, Period.EVER, 0),
    ]


def test_a_cap_for_one_team_does_not_concern_another() -> None:
    only_green = cap(Subject.TEAM, Period.DAY, team="green")
    assert balances([only_green]) == []
    assert balances([only_green], team="green") == [
        Balance("team:green", Unit.SESSIONS, Period.DAY, DAY)
    ]


def test_a_cap_without_a_team_holds_for_each_team_for_itself() -> None:
    every = cap(Subject.TEAM, Period.DAY)
    assert balances([every], team="green") != balances([every], team="blue")


def test_a_cap_per_thread_does_not_concern_a_request_without_one() -> None:
    assert balances([cap(Subject.SCOPE, Period.EVER)], scope=None) == []


def test_each_claim_carries_the_bound_of_its_unit_the_ceiling_and_the_rule() -> None:
    policy = SpendPolicy(
        caps=(
            cap(Subject.TEAM, Period.DAY, rule="sessions", ceiling=3),
            cap(Subject.TEAM, Period.DAY, rule="money", ceiling=900, unit=Unit.NANO_USD),
        )
    )
    made = claims(policy, team="blue", scope=None, sessions=2, nano_usd=70, at=AT, until=AT)
    assert [(claim.rule, claim.bound, claim.cap) for claim in made] == [
        ("sessions", 2, 3),
        ("money", 70, 900),
    ]


@pytest.mark.parametrize(
    ("sessions", "nano_usd", "rules"),
    [(0, 0, []), (1, 0, ["sessions"]), (0, 1, ["money"]), (1, 1, ["sessions", "money"])],
)
def test_a_request_that_can_use_nothing_of_a_unit_claims_nothing_of_it(
    sessions: int, nano_usd: int, rules: list[str]
) -> None:
    policy = SpendPolicy(
        caps=(
            cap(Subject.TEAM, Period.DAY, rule="sessions", ceiling=0),
            cap(Subject.TEAM, Period.DAY, rule="money", ceiling=0, unit=Unit.NANO_USD),
        )
    )
    made = claims(
        policy, team="blue", scope=None, sessions=sessions, nano_usd=nano_usd, at=AT, until=AT
    )
    assert [claim.rule for claim in made] == rules


def test_without_caps_nothing_is_claimed_and_a_stop_would_be_429() -> None:
    assert balances([]) == []
    assert SpendPolicy().cap_status == 429


TOOLS = ModelPolicy(tools=frozenset({"code_interpreter", "function"}))


def test_listed_tools_pass_and_are_named() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}, {"type": "code_interpreter"}]
    assert check_tools(TOOLS, tools) == {"function", "code_interpreter"}
    assert check_tools(TOOLS, []) == frozenset()
    assert check_tools(TOOLS, None) == frozenset()


def test_a_tool_that_is_not_listed_is_refused_with_place_rule_and_way_out() -> None:
    with pytest.raises(Refusal) as caught:
        check_tools(TOOLS, [{"type": "function"}, {"type": "shell"}])
    refused = caught.value.refused
    assert refused.code is Code.NOT_PERMITTED
    assert (refused.param, refused.rule) == ("tools[1].type", "tool-not-listed")
    assert refused.message == (
        "tool `shell` is not permitted (rule `tool-not-listed`); "
        "allowed: `code_interpreter`, `function`"
    )


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ("code_interpreter", "tools"),
        ({"type": "function"}, "tools"),
        (["function"], "tools[0]"),
        ([{}], "tools[0]"),
        ([{"type": None}], "tools[0]"),
        ([{"type": ["function"]}], "tools[0]"),
        ([{"type": "function"}, None], "tools[1]"),
    ],
)
def test_what_is_no_list_of_tools_is_malformed(tools: object, param: str) -> None:
    with pytest.raises(Refusal) as caught:
        check_tools(TOOLS, tools)
    assert caught.value.refused.code is Code.MALFORMED_REQUEST
    assert caught.value.refused.param == param


def test_a_long_tool_name_is_cut_in_the_message() -> None:
    with pytest.raises(Refusal) as caught:
        check_tools(TOOLS, [{"type": "x" * 10_000}])
    assert len(caught.value.refused.message) < 250


@given(st.text())
def test_no_spelling_but_the_listed_one_passes(word: str) -> None:
    if word in TOOLS.tools:
        assert check_tools(TOOLS, [{"type": word}]) == {word}
    else:
        with pytest.raises(Refusal):
            check_tools(TOOLS, [{"type": word}])


DAY_END = 1_795_478_400 * 1_000_000  # 2026-11-24T00:00:00Z


def test_what_may_happen_after_midnight_is_claimed_on_both_days() -> None:
    policy = SpendPolicy(caps=(cap(Subject.TEAM, Period.DAY), cap(Subject.TEAM, Period.MONTH)))
    made = claims(
        policy, team="blue", scope=None, sessions=1, nano_usd=0, at=DAY_END - 1, until=DAY_END
    )
    days = [claim.balance.window_start for claim in made if claim.balance.period is Period.DAY]
    assert days == [DAY_END - 86_400_000_000, DAY_END]
    assert len(made) == 3
    before = claims(
        policy, team="blue", scope=None, sessions=1, nano_usd=0, at=DAY_END - 2, until=DAY_END - 1
    )
    assert len(before) == 2
