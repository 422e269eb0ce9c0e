"""api-versions: which one is sent, and the walk of Assistants between v1 and v2."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import Code, Refusal, Refused
from gateway.core.model import Surface
from gateway.core.versions import (
    KnownVersion,
    Route,
    VersionPolicy,
    alters_replies,
    downgrade,
    read_policy,
    route,
    upgrade,
)
from gateway.core.versions.change import day
from gateway.core.versions.policy import CHANGES

_POLICIES = Path(__file__).parents[2] / "policies"
_V1, _V2, _GA = "2024-02-15-preview", "2024-05-01-preview", "2024-10-21"

_REQUESTS = (
    "assistants.create",
    "assistants.modify",
    "messages.create",
    "threads.create",
    "threads.modify",
    "threads.create_and_run",
    "runs.create",
)


def _toml(name: str) -> dict[str, Any]:
    return tomllib.loads((_POLICIES / name).read_text())


def _policy(
    *,
    mapped: Mapping[str, str] | None = None,
    pin: str | None = None,
    refuse: frozenset[str] = frozenset(),
) -> VersionPolicy:
    ended = KnownVersion("2023-07-01-preview", sunset="2024-07-01", retired=True)
    current = (_V1, "2024-02-01", "2024-03-01-preview", _V2, _GA, "2025-04-01-preview")
    known = {name: KnownVersion(name) for name in current} | {ended.name: ended}
    mapped = {_V1: _V2} if mapped is None else mapped
    return VersionPolicy(default=_GA, pin=pin, known=known, map=mapped, refuse=refuse)


def _dated(asked: str | None, operation: str, policy: VersionPolicy | None = None) -> Route:
    return route(policy or _policy(), Surface.DATED, asked, operation)


def _up(operation: str, body: dict[str, Any], *, client: str = _V1) -> Any:
    return upgrade(_dated(client, operation), operation, body)


def _down(document: dict[str, Any], operation: str = "runs.get") -> Any:
    return downgrade(_dated(_V1, operation), operation, document)


def _refused(operation: str, body: dict[str, Any], *, client: str = _V1) -> Refused:
    with pytest.raises(Refusal) as caught:
        _up(operation, body, client=client)
    return caught.value.refused


def _unsupported(
    policy: VersionPolicy, surface: Surface, asked: str | None, operation: str = "chat.completions"
) -> Refused:
    with pytest.raises(Refusal) as caught:
        route(policy, surface, asked, operation)
    assert caught.value.refused.code is Code.UNSUPPORTED_API_VERSION
    assert caught.value.refused.param == "api-version"
    return caught.value.refused


def _attached(*ids: str) -> list[dict[str, Any]]:
    return [{"file_id": id_, "tools": [{"type": "code_interpreter"}]} for id_ in ids]


# ------------------------------------------------------------------------------ what is sent


@pytest.mark.parametrize(
    "case", _toml("api_versions.cases.toml")["case"], ids=lambda case: str(case["name"])
)
def test_the_shipped_policy_decides_as_its_cases_say(case: dict[str, Any]) -> None:
    policy = read_policy(_toml("api_versions.toml"))
    surface, asked, operation = Surface(case["surface"]), case.get("asked"), case["operation"]
    if "refused" in case:
        assert _unsupported(policy, surface, asked, operation).rule == case["refused"]
        return
    found = route(policy, surface, asked, operation)
    assert (found.sent or "") == case["sent"]
    assert [change.name for change in found.changes] == case.get("changes", [])


def test_a_version_that_has_ended_is_told_with_its_day_and_sent_newer() -> None:
    found = route(
        read_policy(_toml("api_versions.toml")), Surface.DATED, "2023-08-01-preview", "embeddings"
    )
    assert found == Route("2023-08-01-preview", _GA, (), "2024-07-01", True, True)


def test_a_version_that_has_ended_and_is_not_mapped_is_left_to_azure() -> None:
    found = _dated("2023-07-01-preview", "embeddings")
    assert (found.sent, found.retired, found.rewritten) == ("2023-07-01-preview", True, False)


@pytest.mark.parametrize(
    ("surface", "asked", "client", "rewritten"),
    [
        (Surface.DATED, None, _GA, False),
        (Surface.DATED, _GA, _GA, False),
        (Surface.DATED, _V1, _V1, True),
        (Surface.V1, None, "v1", False),
        (Surface.V1, "latest", "latest", False),
        (Surface.V1, _GA, _GA, True),
        (Surface.V1, "2031-01-01-preview", "2031-01-01-preview", True),
        (Surface.FOUNDRY, None, "v1", False),
    ],
)
def test_what_the_client_spoke_and_whether_it_was_rewritten_is_told(
    surface: Surface, asked: str | None, client: str, rewritten: bool
) -> None:
    found = route(_policy(), surface, asked, "chat.completions")
    assert (found.client, found.rewritten) == (client, rewritten)


def test_a_pin_is_sent_whatever_the_client_names_or_does_not_name() -> None:
    policy = _policy(pin="2025-04-01-preview")
    for asked in (None, _V1, _GA, "2025-04-01-preview"):
        assert _dated(asked, "chat.completions", policy).sent == "2025-04-01-preview"
    assert _dated(_V1, "assistants.get", policy).changes == (CHANGES[0],)


def test_a_refused_version_is_refused_even_under_a_pin_and_on_every_surface() -> None:
    policy = _policy(pin=_GA, refuse=frozenset({"2024-02-01", "preview"}))
    refused = _unsupported(policy, Surface.DATED, "2024-02-01")
    assert refused.rule == "api-versions.refuse"
    assert refused.message == (
        "api-version `2024-02-01` is refused here (rule `api-versions.refuse`); "
        "use `2024-02-15-preview`"
    )
    assert f"use `{_GA}`" in _unsupported(policy, Surface.V1, "preview").message


def test_a_change_is_never_walked_downwards() -> None:
    policy = _policy(mapped={}, pin=_V1)
    refused = _unsupported(policy, Surface.DATED, _V2, "messages.create")
    assert refused.rule == "api-versions.upwards"
    assert "lacks the change `assistants-v2`" in refused.message
    assert _dated(_V2, "chat.completions", policy).sent == _V1
    assert _dated(_V1, "messages.create", policy).changes == ()


def test_an_unknown_version_is_answered_with_its_neighbours_that_still_work() -> None:
    assert _unsupported(_policy(), Surface.DATED, "2024-05-01").message == (
        "api-version `2024-05-01` is not known here (rule `api-versions.known`); "
        "known nearby: `2024-03-01-preview` or `2024-05-01-preview`"
    )
    assert (
        "`2023-07-01-preview`" not in _unsupported(_policy(), Surface.DATED, "2023-06-30").message
    )
    assert (
        "nearby: `2025-04-01-preview`"
        in _unsupported(_policy(), Surface.DATED, "2099-01-01").message
    )
    assert f"nearby: `{_GA}`" in _unsupported(_policy(), Surface.DATED, "newest").message


def test_neighbours_fall_back_to_the_default_when_every_version_is_near_its_end() -> None:
    ended = KnownVersion(_GA, retired=True)
    policy = VersionPolicy(default=_GA, pin=None, known={_GA: ended}, map={}, refuse=frozenset())
    assert f"nearby: `{_GA}`" in _unsupported(policy, Surface.DATED, "2024-01-01").message


def test_v1_on_a_dated_path_is_told_where_it_belongs() -> None:
    assert _unsupported(_policy(), Surface.DATED, "v1").message == (
        "api-version `v1` belongs to `/openai/v1/` and is unknown on this path "
        "(rule `api-versions.known`); call `/openai/v1/` or use a dated one such as `2024-10-21`"
    )


@pytest.mark.parametrize("surface", list(Surface))
def test_what_could_not_be_a_version_is_not_echoed(surface: Surface) -> None:
    pasted = "gw-abc-" + "s3cret" * 8
    assert pasted not in _unsupported(_policy(), surface, pasted).message
    assert "the api-version is not known" in _unsupported(_policy(), surface, "a`b").message


# ------------------------------------------------------------------------- requests, v1 to v2


# Operation, request of v1 -> request of v2. `@a` is file a attached for the code interpreter, `#x`
# a tool of the type x.
_UPWARDS = {
    "an assistant's files go to the code interpreter": """
        assistants.create
        {"model": "m", "tools": ["#code_interpreter"], "file_ids": ["a", "b"]}
     -> {"model": "m", "tools": ["#code_interpreter"],
         "tool_resources": {"code_interpreter": {"file_ids": ["a", "b"]}}}
    """,
    "an assistant's files go to a new vector store": """
        assistants.create
        {"model": "m", "tools": ["#retrieval"], "file_ids": ["a"]}
     -> {"model": "m", "tools": ["#file_search"],
         "tool_resources": {"file_search": {"vector_stores": [{"file_ids": ["a"]}]}}}
    """,
    "an assistant's files go to both of its file tools": """
        assistants.create
        {"tools": ["#retrieval", "#code_interpreter", "odd"], "file_ids": ["a"]}
     -> {"tools": ["#file_search", "#code_interpreter", "odd"],
         "tool_resources": {"code_interpreter": {"file_ids": ["a"]},
                            "file_search": {"vector_stores": [{"file_ids": ["a"]}]}}}
    """,
    "files without any file tool are kept for the code interpreter": """
        assistants.create
        {"model": "m", "file_ids": ["a"]}
     -> {"model": "m", "tool_resources": {"code_interpreter": {"file_ids": ["a"]}}}
    """,
    "no files is nothing to move": """
        assistants.create
        {"model": "m", "file_ids": []}
     -> {"model": "m"}
    """,
    "a modified assistant's files go to the code interpreter": """
        assistants.modify
        {"file_ids": ["a"]}
     -> {"tool_resources": {"code_interpreter": {"file_ids": ["a"]}}}
    """,
    "an empty list takes a modified assistant's files away": """
        assistants.modify
        {"file_ids": []}
     -> {"tool_resources": {"code_interpreter": {"file_ids": []},
         "file_search": {"vector_store_ids": []}}}
    """,
    "an empty list beside new resources says nothing": """
        assistants.modify
        {"file_ids": [], "tool_resources": {"code_interpreter": {"file_ids": ["a"]}}}
     -> {"tool_resources": {"code_interpreter": {"file_ids": ["a"]}}}
    """,
    "null files leave a modified assistant's as they are": """
        assistants.modify
        {"name": "n", "file_ids": null}
     -> {"name": "n"}
    """,
    "a message's files become attachments": """
        messages.create
        {"role": "user", "content": "hi", "file_ids": ["a", "b"]}
     -> {"role": "user", "content": "hi", "attachments": ["@a", "@b"]}
    """,
    "null files on a message go away": """
        messages.create
        {"role": "user", "content": "hi", "file_ids": null}
     -> {"role": "user", "content": "hi"}
    """,
    "a new thread's messages are walked": """
        threads.create
        {"messages": [{"content": "1"}, {"content": "2", "file_ids": ["a"]}, "odd"]}
     -> {"messages": [{"content": "1"}, {"content": "2", "attachments": ["@a"]}, "odd"]}
    """,
    "a run's tools and messages are walked": """
        runs.create
        {"assistant_id": "x", "tools": ["#retrieval"], "additional_messages": [{"file_ids": ["a"]}]}
     -> {"assistant_id": "x", "tools": ["#file_search"],
         "additional_messages": [{"attachments": ["@a"]}]}
    """,
    "a thread made with its run is walked": """
        threads.create_and_run
        {"thread": {"messages": [{"file_ids": ["a"]}]}, "tools": ["#retrieval"]}
     -> {"thread": {"messages": [{"attachments": ["@a"]}]}, "tools": ["#file_search"]}
    """,
}


def _upwards(rule: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    operation, bodies = _UPWARDS[rule].split(maxsplit=1)
    old, new = bodies.split("->")
    return operation, _spelt_out(json.loads(old)), _spelt_out(json.loads(new))


def _spelt_out(short: Any) -> Any:
    match short:
        case str() if short.startswith("@"):
            return _attached(short[1:])[0]
        case str() if short.startswith("#"):
            return {"type": short[1:]}
        case list():
            return [_spelt_out(item) for item in short]
        case dict():
            return {name: _spelt_out(value) for name, value in short.items()}
        case _:
            return short


@pytest.mark.parametrize("rule", _UPWARDS)
def test_a_v1_request_is_walked_up(rule: str) -> None:
    operation, body, expected = _upwards(rule)
    assert _up(operation, body) == expected


@pytest.mark.parametrize("rule", _UPWARDS)
def test_what_was_walked_up_is_not_walked_again(rule: str) -> None:
    operation, _, new = _upwards(rule)
    assert _up(operation, new) is new
    assert _up(operation, new, client=_V2) is new


@pytest.mark.parametrize(
    ("operation", "body", "param"),
    [
        ("assistants.create", {"file_ids": "a"}, "file_ids"),
        ("assistants.create", {"file_ids": ["a"], "tool_resources": {"x": {}}}, "file_ids"),
        ("assistants.modify", {"file_ids": ["a"], "tools": [{"type": "retrieval"}]}, "file_ids"),
        ("messages.create", {"file_ids": [1]}, "file_ids"),
        ("messages.create", {"file_ids": ["a"], "attachments": _attached("b")}, "file_ids"),
        ("threads.create", {"messages": [{}, {"file_ids": {}}]}, "messages[1].file_ids"),
        (
            "threads.create_and_run",
            {"thread": {"messages": [{"file_ids": 1}]}},
            "thread.messages[0].file_ids",
        ),
    ],
)
def test_what_v2_cannot_express_is_refused_by_its_place(
    operation: str, body: dict[str, Any], param: str
) -> None:
    refused = _refused(operation, body)
    assert (refused.code, refused.param) == (Code.MALFORMED_REQUEST, param)
    assert refused.rule == "api-versions.assistants-v2"


def test_a_request_without_a_body_has_none_afterwards() -> None:
    assert upgrade(_dated(_V1, "threads.create"), "threads.create", None) is None


# ----------------------------------------------------------------------- repair of mixed shapes


@pytest.mark.parametrize("client", [_V1, _V2, "2025-04-01-preview"])
def test_a_message_with_the_old_file_ids_is_repaired_whatever_the_version(client: str) -> None:
    body = {"messages": [{"role": "user", "content": "solve it", "file_ids": ["assistant-R9"]}]}
    assert _up("threads.create", body, client=client) == {
        "messages": [
            {"role": "user", "content": "solve it", "attachments": _attached("assistant-R9")}
        ]
    }


@pytest.mark.parametrize("client", [_V1, _V2])
@pytest.mark.parametrize(
    "operation", ["assistants.create", "assistants.modify", "threads.create", "threads.modify"]
)
def test_the_key_with_a_space_is_respelt(operation: str, client: str) -> None:
    resources: dict[str, Any] = {"code interpreter": {"file_ids": ["a"]}, "file_search": {}}
    assert _up(operation, {"tool_resources": resources}, client=client) == {
        "tool_resources": {"code_interpreter": {"file_ids": ["a"]}, "file_search": {}}
    }


def test_both_resources_of_a_thread_made_with_its_run_are_respelt() -> None:
    wrong: dict[str, Any] = {"code interpreter": {"file_ids": []}}
    right: dict[str, Any] = {"code_interpreter": {"file_ids": []}}
    body = {"tool_resources": wrong, "thread": {"tool_resources": wrong}}
    assert _up("threads.create_and_run", body, client=_V2) == {
        "tool_resources": right,
        "thread": {"tool_resources": right},
    }


@pytest.mark.parametrize(
    ("operation", "body", "param"),
    [
        ("messages.create", {"file_ids": ["a"], "attachments": _attached("a")}, "file_ids"),
        (
            "assistants.create",
            {"tool_resources": {"code interpreter": {}, "code_interpreter": {}}},
            "tool_resources",
        ),
        (
            "threads.create_and_run",
            {"thread": {"tool_resources": {"code interpreter": {}, "code_interpreter": {}}}},
            "thread.tool_resources",
        ),
    ],
)
def test_both_spellings_at_once_are_refused(
    operation: str, body: dict[str, Any], param: str
) -> None:
    refused = _refused(operation, body, client=_V2)
    assert (refused.code, refused.param) == (Code.MALFORMED_REQUEST, param)
    assert refused.rule == "api-versions.repair-mixed-assistants"


def test_nothing_is_repaired_where_v1_itself_is_sent() -> None:
    body: dict[str, Any] = {"file_ids": ["a"]}
    found = _dated(_V1, "messages.create", _policy(mapped={}))
    assert upgrade(found, "messages.create", body) is body
    assert not alters_replies(found)


def test_a_repaired_client_sees_replies_as_they_came() -> None:
    found = _dated(_V2, "messages.create")
    reply: dict[str, Any] = {"object": "thread.message", "attachments": []}
    assert found.changes
    assert not alters_replies(found)
    assert downgrade(found, "messages.create", reply) is reply


# --------------------------------------------------------------------------- replies, v2 to v1


def test_an_assistant_is_shown_as_v1_had_it() -> None:
    assert _down(
        {
            "id": "asst_1",
            "object": "assistant",
            "created_at": 1,
            "name": None,
            "description": None,
            "model": "m",
            "instructions": None,
            "tools": [{"type": "file_search", "file_search": {}}, {"type": "code_interpreter"}],
            "top_p": 1.0,
            "temperature": 1.0,
            "reasoning_effort": None,
            "tool_resources": {
                "code_interpreter": {"file_ids": ["a", "b", "a"]},
                "file_search": {"vector_store_ids": ["vs_1"]},
            },
            "metadata": {},
            "response_format": "auto",
        }
    ) == {
        "id": "asst_1",
        "object": "assistant",
        "created_at": 1,
        "name": None,
        "description": None,
        "model": "m",
        "instructions": None,
        "tools": [{"type": "retrieval"}, {"type": "code_interpreter"}],
        "file_ids": ["a", "b"],
        "metadata": {},
    }


def test_a_message_is_shown_as_v1_had_it() -> None:
    citation = {"type": "file_citation", "text": "[0]", "file_citation": {"file_id": "a"}}
    path = {"type": "file_path", "text": "sandbox:/x", "file_path": {"file_id": "b"}}
    picture = {"type": "image_file", "image_file": {"file_id": "c"}}
    quoted = {**citation, "file_citation": {"file_id": "a", "quote": ""}}
    text = {"type": "text", "text": {"value": "v", "annotations": [citation, path, quoted]}}
    assert _down(
        {
            "id": "msg_1",
            "object": "thread.message",
            "thread_id": "t",
            "status": "completed",
            "role": "user",
            "content": [text, picture],
            "attachments": [*_attached("a", "b"), {"file_id": None}],
        }
    ) == {
        "id": "msg_1",
        "object": "thread.message",
        "thread_id": "t",
        "role": "user",
        "content": [
            {"type": "text", "text": {"value": "v", "annotations": [quoted, path, quoted]}},
            picture,
        ],
        "file_ids": ["a", "b"],
    }


def test_a_run_is_shown_as_v1_had_it_and_keeps_its_usage() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    assert _down(
        {
            "id": "run_1",
            "object": "thread.run",
            "status": "completed",
            "completed_at": 9,
            "tools": [{"type": "file_search"}],
            "tool_resources": {},
            "parallel_tool_calls": True,
            "incomplete_details": None,
            "tool_choice": "auto",
            "usage": usage,
        }
    ) == {
        "id": "run_1",
        "object": "thread.run",
        "status": "completed",
        "completed_at": 9,
        "tools": [{"type": "retrieval"}],
        "file_ids": [],
        "usage": usage,
    }


@pytest.mark.parametrize(
    ("details", "reason"),
    [({"reason": "max_prompt_tokens"}, "max_prompt_tokens"), (None, "no reason")],
)
def test_an_incomplete_run_has_failed_so_that_a_polling_client_ends(
    details: dict[str, Any] | None, reason: str
) -> None:
    seen = _down(
        {
            "object": "thread.run",
            "status": "incomplete",
            "completed_at": 9,
            "last_error": None,
            "incomplete_details": details,
        }
    )
    assert (seen["status"], seen["failed_at"], seen["completed_at"]) == ("failed", 9, None)
    assert seen["last_error"] == {
        "code": "server_error",
        "message": f"the run ended incomplete: {reason}",
    }


@pytest.mark.parametrize(
    ("status", "expired_at"), [("expired", 600), ("completed", None), ("in_progress", None)]
)
def test_a_step_is_shown_as_v1_had_it(status: str, expired_at: int | None) -> None:
    search = {"id": "call_1", "type": "file_search", "file_search": {"results": []}}
    code = {"id": "call_2", "type": "code_interpreter", "code_interpreter": {"outputs": []}}
    step = {
        "id": "step_1",
        "object": "thread.run.step",
        "status": status,
        "expires_at": 600,
        "step_details": {"type": "tool_calls", "tool_calls": [search, code]},
        "usage": None,
    }
    assert _down(step) == {
        "id": "step_1",
        "object": "thread.run.step",
        "status": status,
        "expired_at": expired_at,
        "metadata": {},
        "step_details": {
            "type": "tool_calls",
            "tool_calls": [{"id": "call_1", "type": "retrieval", "retrieval": {}}, code],
        },
        "usage": None,
    }


def test_a_step_that_made_a_message_keeps_its_details() -> None:
    details = {"type": "message_creation", "message_creation": {"message_id": "m"}}
    for details_seen in (details, None):
        step = {"object": "thread.run.step", "step_details": details_seen}
        assert _down(step)["step_details"] == details_seen


def test_a_thread_loses_its_tool_resources() -> None:
    thread = {"id": "t", "object": "thread", "created_at": 1, "metadata": {}}
    assert _down({**thread, "tool_resources": {}}) == thread


def test_streamed_deltas_are_walked_back() -> None:
    search = {"index": 0, "id": "call_1", "type": "file_search", "file_search": {}}
    step = {
        "object": "thread.run.step.delta",
        "delta": {"step_details": {"type": "tool_calls", "tool_calls": [search]}},
    }
    walked = {"index": 0, "id": "call_1", "type": "retrieval", "retrieval": {}}
    assert _down(step)["delta"]["step_details"]["tool_calls"] == [walked]
    cited: dict[str, Any] = {"index": 0, "text": {"annotations": [{"file_citation": {}}]}}
    message = {"object": "thread.message.delta", "delta": {"content": [cited]}}
    annotations = _down(message)["delta"]["content"][0]["text"]["annotations"]
    assert annotations == [{"file_citation": {"quote": ""}}]


def test_every_object_of_a_list_is_walked_back_and_the_envelope_is_kept() -> None:
    listed = {"object": "list", "data": [{"object": "thread", "x": 1}, 7], "has_more": False}
    assert _down(listed) == {"object": "list", "data": [{"object": "thread"}, 7], "has_more": False}


@pytest.mark.parametrize(
    "document",
    [
        {"error": {"message": "no", "code": "x"}},
        {"id": "a", "object": "assistant.deleted", "deleted": True},
        {"object": "thread.message.delta", "delta": {}},
        {"object": ["thread"]},
        {"object": "thread.run.step.delta", "delta": {}},
        {"object": "list", "data": None},
    ],
)
def test_what_no_change_concerns_comes_back_as_it_is(document: dict[str, Any]) -> None:
    assert _down(document) is document


def test_other_operations_of_a_v1_client_are_not_walked() -> None:
    found = _dated(_V1, "chat.completions")
    assert found.changes == ()
    assert not alters_replies(found)
    assistants = _dated(_V1, "assistants.create")
    assert alters_replies(assistants)
    body: dict[str, Any] = {"object": "assistant", "file_ids": ["a"], "x": 1}
    assert upgrade(assistants, "chat.completions", body) is body
    assert downgrade(assistants, "chat.completions", body) is body


# ------------------------------------------------------------------------------- properties

_IDS = st.lists(st.text("abc", min_size=1, max_size=3), max_size=4)
_TOOLS = st.lists(
    st.sampled_from(["code_interpreter", "retrieval", "function"]).map(lambda kind: {"type": kind}),
    max_size=3,
)
_NAMES = [
    *("object", "file_ids", "tools", "type", "tool_resources", "thread", "messages", "status"),
    *("additional_messages", "attachments", "content", "text", "annotations", "file_citation"),
    *("delta", "step_details", "tool_calls", "code_interpreter", "code interpreter"),
]
_ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)
_OBJECTS = st.sampled_from(
    [
        *("assistant", "thread", "thread.message", "thread.run", "thread.run.step", "list"),
        *("thread.message.delta", "thread.run.step.delta"),
    ]
)


def _shaped(odd: object) -> dict[str, Any]:
    return odd if isinstance(odd, dict) else {"data": [odd]}


@given(st.sampled_from(_REQUESTS), st.sampled_from([_V1, _V2]), _ODD.map(_shaped))
def test_any_request_is_walked_or_refused_never_altered_and_walked_once(
    operation: str, client: str, body: dict[str, Any]
) -> None:
    before = copy.deepcopy(body)
    walked, code = None, None
    try:
        walked = _up(operation, body, client=client)
    except Refusal as refusal:
        code = refusal.refused.code
    assert body == before
    assert code in (None, Code.MALFORMED_REQUEST)
    assert walked is None or _up(operation, walked, client=client) is walked


@given(_OBJECTS, _ODD.map(_shaped))
def test_any_reply_is_walked_back_without_fault_or_alteration(
    kind: str, document: dict[str, Any]
) -> None:
    document = {**document, "object": kind}
    before = copy.deepcopy(document)
    walked = _down(document)
    assert document == before
    assert _down(walked) == walked


@given(_TOOLS, _IDS)
def test_an_assistant_keeps_its_files_and_tools_there_and_back(
    tools: list[dict[str, Any]], ids: list[str]
) -> None:
    body = {"model": "m", "tools": tools, "file_ids": ids}
    seen = _down({**_up("assistants.create", body), "object": "assistant"})
    assert seen["file_ids"] == list(dict.fromkeys(ids))
    assert seen["tools"] == tools


@given(_IDS)
def test_a_message_keeps_its_files_there_and_back(ids: list[str]) -> None:
    body = {"role": "user", "content": "x", "file_ids": ids}
    seen = _down({**_up("messages.create", body), "object": "thread.message"})
    assert seen["file_ids"] == list(dict.fromkeys(ids))


@given(_ODD.map(_shaped))
def test_with_no_change_on_the_way_the_same_object_comes_out(body: dict[str, Any]) -> None:
    found = route(_policy(), Surface.V1, _V2, "responses.create")
    assert found.changes == ()
    assert upgrade(found, "responses.create", body) is body
    assert downgrade(found, "responses.create", body) is body


# ----------------------------------------------------------------------------- the policy file


def test_the_changes_stand_in_the_order_of_their_days() -> None:
    assert list(CHANGES) == sorted(
        CHANGES, key=lambda change: (day(change.since), change.is_repair)
    )


def test_every_change_begins_with_a_version_the_shipped_policy_knows() -> None:
    known = read_policy(_toml("api_versions.toml")).known
    assert {change.since for change in CHANGES} <= set(known)


def test_the_shipped_policy_maps_only_upwards() -> None:
    policy = read_policy(_toml("api_versions.toml"))
    assert policy.pin is None
    assert all(day(client) < day(sent) for client, sent in policy.map.items())


def test_a_pin_and_refusals_are_read() -> None:
    policy = read_policy(
        {"default": _GA, "pin": _GA, "refuse": ["preview"], "version": [{"name": _GA}]}
    )
    assert (policy.pin, policy.refuse, policy.map) == (_GA, frozenset({"preview"}), {})


def test_every_fault_of_a_policy_file_is_reported_at_once() -> None:
    with pytest.raises(ValueError, match="unknown key") as caught:
        read_policy(
            {
                "defualt": _GA,
                "pin": "2030-01-01",
                "map": {_V1: _V2, _V2: 5, "2024-01-01": _V2},
                "refuse": ["nothing"],
                "version": [
                    {"name": _V1},
                    {"name": _V1, "sunset": "soon", "retired": "yes", "colour": 1},
                    {"name": _V2, "sunset": 5},
                    "v1",
                ],
            }
        )
    assert str(caught.value).splitlines() == [
        "unknown key `defualt`",
        f"version `{_V1}`: unknown key `colour`",
        f"version `{_V1}`: `retired` must be true or false",
        f'version `{_V1}`: `sunset` must be a date in quotes, such as "2024-07-01"',
        f'version `{_V2}`: `sunset` must be a date in quotes, such as "2024-07-01"',
        "version name `v1` is not a date such as `2024-10-21` or `2025-04-01-preview`",
        f"version `{_V1}` is listed twice",
        "`default` is `None`, which is no listed version",
        "`pin` is `2030-01-01`, which is no listed version",
        f"`map` sends `{_V1}` as `{_V2}`, which is mapped on; name the last one",
        "`map` names `5`, which is no listed version",
        "`map` names `2024-01-01`, which is no listed version",
        f"`map` sends `2024-01-01` as `{_V2}`, which is mapped on; name the last one",
        "`refuse` names `nothing`, which is no listed version",
    ]


def test_a_policy_file_of_the_wrong_kind_is_not_taken() -> None:
    with pytest.raises(ValueError, match="no listed version") as caught:
        read_policy({"default": _GA, "map": [], "refuse": _GA, "version": 3})
    assert "`map` must be a table of version to version" in str(caught.value)
    assert "`refuse` must be a list of versions" in str(caught.value)
    with pytest.raises(ValueError, match="which is refused"):
        read_policy({"default": _GA, "refuse": [_GA], "version": [{"name": _GA}]})
    with pytest.raises(ValueError, match="at all"):
        read_policy({"default": _GA})
