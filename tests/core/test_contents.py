"""What may stand in a request's content: listed kinds pass whole, all else is refused."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.contents import check_contents
from gateway.core.errors import Code, Refusal
from gateway.core.operations import Bills

ECHOED = [
    {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": []},
    {"role": "user", "content": "hello"},
    {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
    {
        "role": "assistant",
        "content": [{"type": "output_text", "text": "x", "annotations": [], "logprobs": []}],
    },
    {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": "sunny"},
    {
        "type": "function_call_output",
        "call_id": "c",
        "output": [{"type": "input_image", "image_url": "data:", "detail": "low"}],
    },
    {"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "x"},
    {"type": "custom_tool_call_output", "call_id": "c", "output": "x"},
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "x"}]},
    {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1", "code": None},
    {
        "type": "code_interpreter_call",
        "container_id": "cntr_1",
        "code": "1",
        "outputs": [{"type": "logs", "logs": "1"}],
    },
    {"type": "file_search_call", "id": "fs_1", "queries": ["x"], "results": None},
]


@pytest.mark.parametrize("item", ECHOED, ids=lambda item: str(item.get("type", "message")))
def test_what_azure_answered_may_be_handed_back_whole(item: dict[str, Any]) -> None:
    check_contents(Bills.RESPONSE, {"input": [item]})
    check_contents(Bills.NOTHING, {"items": [item]})


@pytest.mark.parametrize(
    "item",
    [
        {"type": "item_reference", "id": "msg_1"},
        {"id": "msg_1"},
        {"type": None, "id": "msg_1"},
        {"type": "message", "id": "msg_1", "role": "user"},
        {"type": "message", "id": "msg_1", "content": "x"},
        {"type": "function_call", "id": "fc_1"},
        {"type": "function_call_output", "id": "fc_1", "call_id": "c"},
        {"type": "custom_tool_call", "id": "ct_1", "call_id": "c"},
        {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1"},
        {"type": "code_interpreter_call", "id": "ci_1", "code": "1"},
        {"type": "file_search_call", "id": "fs_1"},
    ],
)
def test_an_item_that_is_not_whole_would_be_looked_up_by_its_id(item: dict[str, Any]) -> None:
    assert rule_of(Bills.RESPONSE, {"input": [item]}) == "item-reference"
    assert rule_of(Bills.NOTHING, {"items": [item]}) == "item-reference"


@pytest.mark.parametrize(
    "item",
    [
        {"type": "image_generation_call", "id": "ig_1", "result": "TVqQ"},
        {"type": "item_Reference", "id": "msg_1"},
        {"type": "compaction", "id": "cmp_1"},
        {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
        {"type": "tool_search_output", "tools": [{"type": "mcp"}]},
        {"type": "additional_tools", "tools": [{"type": "web_search"}]},
        {"type": "web_search_call", "id": "ws_1"},
        {"type": "computer_call_output", "call_id": "c", "output": {"type": "x"}},
        {"type": ["message"], "role": "user", "content": "x"},
        {"type": 5},
        {},
    ],
)
def test_an_item_of_another_kind_is_refused(item: dict[str, Any]) -> None:
    assert rule_of(Bills.RESPONSE, {"input": [item]}) == "content-not-listed"
    assert rule_of(Bills.NOTHING, {"items": [item]}) == "content-not-listed"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "video_url", "video_url": {"url": "https://evil.example/x"}},
        {"type": "audio_url", "audio_url": {"url": "https://evil.example/x"}},
        {"type": "input_audio", "input_audio": {"data": "x"}},
        {"type": "text", "text": "x", "video_url": {"url": "https://evil.example/x"}},
        {"type": "image_url", "image_url": {"url": "data:"}, "image_data": "x"},
        {"type": "Text", "text": "x"},
        {"text": "x"},
    ],
)
def test_a_part_of_another_kind_or_with_another_field_is_refused(part: dict[str, Any]) -> None:
    said = {"role": "user", "content": [{"type": "text", "text": "hello"}, part]}
    for body in (
        {"messages": [said]},
        {"thread": {"messages": [said]}},
        {"additional_messages": [said]},
        said,
    ):
        assert rule_of(Bills.CHAT, body) == "content-not-listed"


@pytest.mark.parametrize("name", ["image", "image_data", "b64_json", "data"])
def test_a_picture_comes_in_its_one_field(name: str) -> None:
    part = {"type": "input_image", name: "TVqQ"}
    said = {"role": "user", "content": [part]}
    assert rule_of(Bills.RESPONSE, {"input": [said]}) == "content-not-listed"
    returned = {"type": "function_call_output", "call_id": "c", "output": [part]}
    assert rule_of(Bills.RESPONSE, {"input": [returned]}) == "content-not-listed"


def test_audio_of_an_earlier_answer_cannot_be_named_by_its_id() -> None:
    body = {"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}
    assert rule_of(Bills.CHAT, body) == "content-not-listed"
    check_contents(Bills.CHAT, {"messages": [{"role": "assistant", "audio": None, "content": "x"}]})


def test_a_picture_the_interpreter_made_is_an_address_and_not_handed_back() -> None:
    outputs = [{"type": "image", "url": "https://evil.example/x"}]
    item = {"type": "code_interpreter_call", "container_id": "c", "code": "1", "outputs": outputs}
    assert rule_of(Bills.RESPONSE, {"input": [item]}) == "content-not-listed"


@pytest.mark.parametrize("where", ["", "thread"])
def test_only_listed_tools_have_resources(where: str) -> None:
    named = {"azure_ai_search": {"indexes": [{"index_connection_id": "x"}]}}
    body: dict[str, Any] = {"tool_resources": named}
    assert rule_of(Bills.RUN, {where: body} if where else body) == "content-not-listed"
    known: dict[str, Any] = {
        "code_interpreter": {"file_ids": []},
        "file_search": {},
        "azure_ai_search": None,
    }
    check_contents(Bills.RUN, {"tool_resources": known})


@pytest.mark.parametrize(
    "body",
    [
        {"input": ["text"]},
        {"input": [5]},
        {"messages": ["x"]},
        {"messages": [{"role": "user", "content": ["x"]}]},
        {"items": [None]},
    ],
)
def test_what_is_no_object_is_malformed(body: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as caught:
        check_contents(Bills.RESPONSE, body)
    assert caught.value.refused.code is Code.MALFORMED_REQUEST


@pytest.mark.parametrize(
    ("bills", "body"),
    [
        (Bills.EMBEDDINGS, {"input": ["a", "b"]}),
        (Bills.EMBEDDINGS, {"input": [[1, 2], [3]]}),
        (Bills.RESPONSE, {"input": "hello", "instructions": "be brief"}),
        (Bills.CHAT, {"messages": [{"role": "user", "content": "x"}]}),
        (Bills.CHAT, {"messages": None, "thread": 5, "items": None}),
        (Bills.NOTHING, {"role": "user", "content": "hello"}),
    ],
)
def test_plain_requests_pass(bills: Bills, body: dict[str, Any]) -> None:
    check_contents(bills, body)


def rule_of(bills: Bills, body: dict[str, Any]) -> str | None:
    with pytest.raises(Refusal) as caught:
        check_contents(bills, body)
    assert len(caught.value.refused.message) < 1000
    return caught.value.refused.rule
