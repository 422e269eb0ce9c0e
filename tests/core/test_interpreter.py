"""What a request says about the interpreter before it is sent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.core.errors import Code, Refusal
from gateway.core.interpreter import (
    RUN_LASTS_AT_MOST,
    bound_new,
    bound_session,
    check_container,
    containers_of,
    effective_tools,
    opens_session,
    run_may_call,
)
from gateway.core.model import SECOND, Origin, Scope, ScopeKind, SessionTerms, Surface
from gateway.core.sessions import Call
from gateway.core.terms import Schedule

MINUTE = 60 * SECOND
NOON = 1_795_435_200 * SECOND
HOUR = SessionTerms(60 * MINUTE, None, 30_000_000, "s")
IDLE = SessionTerms(60 * MINUTE, 20 * MINUTE, 30_000_000, "s")
INTERPRETER = {"type": "code_interpreter"}
FUNCTION = {"type": "function"}


@pytest.mark.parametrize(
    ("own", "assistants", "may_call"),
    [
        ({}, {"tools": [INTERPRETER]}, True),
        ({"tools": None}, {"tools": [INTERPRETER]}, True),
        ({"tools": []}, {"tools": [INTERPRETER]}, False),
        ({"tools": [FUNCTION]}, {"tools": [INTERPRETER]}, False),
        ({"tools": [FUNCTION, INTERPRETER]}, {"tools": []}, True),
        ({}, {"tools": [FUNCTION]}, False),
        ({}, {}, False),
        ({}, None, False),
        ({"tools": [INTERPRETER]}, None, True),
    ],
)
def test_a_run_has_its_own_tools_or_else_its_assistants(
    own: dict[str, object], assistants: dict[str, object] | None, may_call: bool
) -> None:
    assert run_may_call(effective_tools(own, assistants)) is may_call


def calls(*minutes: int) -> tuple[Call, ...]:
    scope = Scope("azure", ScopeKind.THREAD, "thread_1")
    origin = Origin("blue", "k1", "azure", Surface.DATED, "gpt", "gpt-4o", "req_1")
    return tuple(Call(scope, str(m), NOON + m * MINUTE, origin) for m in minutes)


@pytest.mark.parametrize(
    ("known", "at_us", "terms", "opens"),
    [
        ((), 0, HOUR, True),
        ((0,), 0, HOUR, False),
        ((0,), 49 * MINUTE + 59 * SECOND, HOUR, False),
        # A call at the very end of the session, in the run's last second, opens the next.
        ((0,), 50 * MINUTE, HOUR, True),
        ((0,), 55 * MINUTE, HOUR, True),
        ((0,), 60 * MINUTE, HOUR, True),
        ((0,), -MINUTE, HOUR, True),
        ((0,), 9 * MINUTE, IDLE, False),
        ((0,), 10 * MINUTE, IDLE, True),
        ((0, 8), 17 * MINUTE, IDLE, False),
    ],
)
def test_a_run_opens_no_session_only_if_the_open_one_outlasts_it(
    known: tuple[int, ...], at_us: int, terms: SessionTerms, opens: bool
) -> None:
    assert RUN_LASTS_AT_MOST == 10 * MINUTE
    assert opens_session(calls(*known), (terms,), NOON + at_us) is opens


MINUTES = replace(HOUR, nano_usd=1_000, per_minute=True, minutes_min=5, memory={"4g": 4_000})


@pytest.mark.parametrize(
    ("known", "at_us", "schedule", "sessions", "nano_usd"),
    [
        ((), 0, (HOUR,), 1, 30_000_000),
        ((0,), MINUTE, (HOUR,), 0, 0),
        # By the minute what is open may still grow to its whole hour, from what it costs by now.
        ((), 0, (MINUTES,), 1, 60_000),
        ((0,), MINUTE, (MINUTES,), 0, 55_000),
        ((0, 30), 31 * MINUTE, (MINUTES,), 0, 29_000),
        ((0, 30), 55 * MINUTE, (MINUTES,), 1, 29_000 + 60_000),
        # The dearest of what comes into force while a run may last.
        ((), 0, (HOUR, replace(HOUR, valid_from=NOON + 10 * MINUTE, nano_usd=7)), 1, 30_000_000),
        ((), 0, (MINUTES, replace(HOUR, valid_from=NOON + 10 * MINUTE)), 1, 30_000_000),
        ((), 0, (MINUTES, replace(HOUR, valid_from=NOON + 10 * MINUTE + 1)), 1, 60_000),
    ],
)
def test_what_work_may_add_is_bounded_in_sessions_and_in_money(
    known: tuple[int, ...], at_us: int, schedule: Schedule, sessions: int, nano_usd: int
) -> None:
    bound = bound_session(calls(*known), schedule, NOON + at_us)
    assert (bound.sessions, bound.nano_usd) == (sessions, nano_usd)


def test_a_container_with_more_memory_is_bounded_by_its_own_price() -> None:
    known = tuple(replace(each, memory="4g") for each in calls(0))
    assert bound_session(known, (MINUTES,), NOON).nano_usd == 4_000 * 55
    assert bound_new((MINUTES,), NOON, "4g").nano_usd == 4_000 * 60


def tool(container: object) -> dict[str, object]:
    return {"type": "code_interpreter", "container": container}


@pytest.mark.parametrize(
    ("tools", "named", "automatic"),
    [
        (None, (), 0),
        ([], (), 0),
        ("code_interpreter", (), 0),
        ([FUNCTION, None, 5], (), 0),
        ([INTERPRETER], (), 1),
        ([tool(None)], (), 1),
        ([tool({"type": "auto"})], (), 1),
        ([tool({"type": "auto", "file_ids": ["assistant-1"]})], (), 1),
        ([tool({"memory_limit": "1g", "skills": [], "network_policy": None})], (), 1),
        ([tool({"network_policy": {"type": "disabled"}})], (), 1),
        ([tool("cntr_1")], ("cntr_1",), 0),
        ([tool("cntr_1"), tool({"type": "auto"}), tool("cntr_2")], ("cntr_1", "cntr_2"), 1),
    ],
)
def test_each_interpreter_tool_names_a_container_or_gets_one(
    tools: object, named: tuple[str, ...], automatic: int
) -> None:
    found = containers_of({"tools": tools})
    assert (found.named, found.automatic) == (named, automatic)


NOT_PLAIN: list[tuple[str, object]] = [
    ("memory_limit", "4g"),
    ("memory_limit", "64g"),
    ("memory_limit", "1G"),
    ("memory_limit", 1),
    ("memory_limit", ["1g"]),
    ("skills", [{"type": "skill_reference", "skill_id": "s"}]),
    ("skills", {"source": {"type": "base64"}}),
    ("network_policy", {"type": "allowlist", "allowed_domains": ["evil.example"]}),
    ("network_policy", {}),
    ("network_policy", "disabled"),
    ("network_policy", []),
    ("network_policy", {"type": ["disabled"]}),
]


@pytest.mark.parametrize(("field", "value"), NOT_PLAIN)
def test_a_container_with_more_than_its_plain_form_is_refused_in_both_places(
    field: str, value: object
) -> None:
    with pytest.raises(Refusal) as inside:
        containers_of({"tools": [FUNCTION, tool({"type": "auto", field: value})]})
    with pytest.raises(Refusal) as created:
        check_container({"name": "c", field: value})
    assert inside.value.refused.param == f"tools[1].container.{field}"
    assert created.value.refused.param == field
    for caught in (inside, created):
        assert caught.value.refused.code is Code.NOT_PERMITTED
        assert caught.value.refused.rule == "plain-container"


@pytest.mark.parametrize("container", [5, True, ["cntr_1"]])
def test_a_container_that_is_neither_id_nor_object_is_refused(container: object) -> None:
    with pytest.raises(Refusal) as caught:
        containers_of({"tools": [FUNCTION, FUNCTION, tool(container)]})
    assert caught.value.refused.code is Code.MALFORMED_REQUEST
    assert caught.value.refused.param == "tools[2].container"


def test_a_plain_container_may_be_created() -> None:
    body = {"name": "c", "file_ids": ["assistant-1"], "memory_limit": "1g", "skills": []}
    check_container(body | {"expires_after": {"anchor": "last_active_at", "minutes": 20}})
    assert body["memory_limit"] == "1g"


def test_more_memory_passes_where_its_tier_has_a_price_and_the_most_of_several_counts() -> None:
    tiers = {"4g", "16g"}
    asked = [tool({"type": "auto", "memory_limit": size}) for size in ("4g", "1g", "16g")]
    assert containers_of({"tools": asked}, tiers).memory == "16g"
    assert containers_of({"tools": asked[1:2]}, tiers).memory is None
    assert check_container({"name": "c", "memory_limit": "4g"}, tiers) == "4g"
    assert check_container({"name": "c"}, tiers) is None


def test_a_tier_without_a_price_is_refused_with_its_name() -> None:
    with pytest.raises(Refusal) as caught:
        check_container({"name": "c", "memory_limit": "64g"}, {"4g"})
    assert "no price for `64g`" in caught.value.refused.message
    assert caught.value.refused.rule == "plain-container"
    with pytest.raises(Refusal) as unknown:
        check_container({"name": "c", "memory_limit": "5g"}, {"4g", "5g"})
    assert unknown.value.refused.param == "memory_limit"
