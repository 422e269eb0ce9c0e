"""No JSON body, however wrongly typed, is answered with a bare 500, and none changes anything."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.simulator import LiveSimulator, SimulatorConfig
from tests.simulator.resource import VERSION, Resource

TOOLS = [
    {"type": "code_interpreter"},
    {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},
]
IMAGE = {"type": "image_file", "image_file": {"file_id": "FILE", "detail": "low"}}
MESSAGE = {
    "role": "user",
    "content": [{"type": "text", "text": "hello"}, IMAGE],
    "attachments": [{"file_id": "FILE", "tools": [{"type": "file_search"}]}],
    "metadata": {"a": "b"},
}
RESOURCES = {
    "code_interpreter": {"file_ids": ["FILE"]},
    "file_search": {"vector_stores": [{"file_ids": ["FILE"], "metadata": {"a": "b"}}]},
}
ITEM = {"role": "user", "content": [{"type": "input_text", "text": "hi"}]}
KNOBS = {"tool_choice": {"type": "code_interpreter"}, "max_completion_tokens": 50}
ASKED = {"role": "user", "content": [{"type": "text", "text": "hi"}]}
CALL = {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1"}
EXPIRY = {"anchor": "last_active_at", "days": 3}
V1: dict[str, dict[str, Any]] = {
    "/chat/completions": {
        "model": "gpt-4o",
        "messages": [ASKED],
        "tools": TOOLS,
        "n": 1,
        "stream": False,
        "stream_options": {"include_usage": True},
        "max_tokens": 10,
        "tool_choice": "auto",
    },
    "/completions": {"model": "gpt-4o", "prompt": ["a"], "max_tokens": 3},
    "/embeddings": {
        "model": "text-embedding-3-small",
        "input": ["a", [1, 2]],
        "dimensions": 4,
        "encoding_format": "base64",
    },
    "/responses": {
        "model": "gpt-4o",
        "input": [ITEM, CALL, {"type": "function_call_output", "call_id": "c", "output": "x"}],
        "instructions": "be brief",
        "tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": []}}],
        "include": ["code_interpreter_call.outputs"],
        "conversation": {"id": "CONVERSATION"},
        "text": {"format": {"type": "text"}},
        "reasoning": {"effort": "low"},
        "max_output_tokens": 50,
        "metadata": {"a": "b"},
        "store": True,
        "background": False,
    },
    "/containers": {"name": "c", "file_ids": ["FILE"], "expires_after": {"minutes": 5}},
    "/conversations": {"items": [ITEM], "metadata": {"a": "b"}},
    "/conversations/CONVERSATION/items": {"items": [ITEM]},
    "/uploads": {"filename": "a", "purpose": "batch", "bytes": 3, "mime_type": "text/plain"},
    "/vector_stores": {"file_ids": ["FILE"], "name": "a", "expires_after": EXPIRY},
    "/vector_stores/STORE/search": {"query": ["a"], "max_num_results": 3},
    "/vector_stores/STORE/files": {"file_id": "FILE", "attributes": {"a": 1}},
    "/vector_stores/STORE/file_batches": {"file_ids": ["FILE"], "chunking_strategy": {}},
    "/batches": {
        "input_file_id": "FILE",
        "endpoint": "/embeddings",
        "completion_window": "24h",
        "metadata": {},
    },
}
DATED: dict[str, dict[str, Any]] = {
    "/assistants": {
        "model": "gpt-4o",
        "tools": TOOLS,
        "tool_resources": RESOURCES,
        "metadata": {"a": "b"},
        "temperature": 1,
    },
    "/assistants/ASSISTANT": {"tools": TOOLS, "tool_resources": RESOURCES},
    "/threads": {"messages": [MESSAGE], "tool_resources": RESOURCES},
    "/threads/THREAD": {"tool_resources": RESOURCES, "metadata": {"a": "b"}},
    "/threads/THREAD/messages": MESSAGE,
    "/threads/THREAD/runs": {
        "assistant_id": "ASSISTANT",
        "tools": TOOLS,
        "additional_messages": [MESSAGE],
        "instructions": "x",
        "additional_instructions": "y",
        "truncation_strategy": {"type": "auto"},
        **KNOBS,
    },
    "/threads/runs": {
        "assistant_id": "ASSISTANT",
        "thread": {"messages": [MESSAGE]},
        "tool_resources": {"code_interpreter": {"file_ids": ["FILE"]}},
        "stream": True,
        **KNOBS,
    },
}
WRONG: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(
            None,
            True,
            0,
            -1,
            1.5,
            10**30,
            "",
            "x",
            [],
            [None],
            [1],
            ["x"],
            [[]],
            [{}],
            {},
            {"a": 1},
        ),
        *({"a": 1}, {"type": []}, {"id": {}}, [{"type": 1}], {"file_ids": [{}]}, "auto", [[{}]]),
        *([{"type": "text"}], [{"type": "image_file"}], [{"tools": [None]}], ["a", 0]),
    ]
)


def places_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value inside `value`, itself among them."""
    yield path
    inside: Any = value.items() if isinstance(value, dict) else ()
    inside = enumerate(value) if isinstance(value, list) else inside
    for key, child in inside:
        yield from places_in(child, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    if not path:
        return other
    changed = copy.copy(value)
    changed[path[0]] = replaced(value[path[0]], path[1:], other)
    return changed


CASES = [
    (surface, target, path)
    for surface, bodies in (("v1", V1), ("dated", DATED))
    for target, body in bodies.items()
    for path in places_in(body)
]


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[Resource, dict[str, str]]]:
    """A resource with one object of each kind, and their ids by the names in the bodies."""
    config = SimulatorConfig(wall_clock=False, run_s=0)
    with LiveSimulator(config) as live, Resource(live.url) as azure:
        files = {"file": ("a.txt", b"alpha", "text/plain")}
        target = "/openai/v1/files"
        file = azure.http.post(target, files=files, data={"purpose": "assistants"}).json()
        yield (
            azure,
            {
                "FILE": file["id"],
                "ASSISTANT": azure.assistant(),
                "THREAD": azure.thread("hello"),
                "STORE": azure.v1("POST", "/vector_stores", {}).json()["id"],
                "CONVERSATION": azure.v1("POST", "/conversations", {}).json()["id"],
            },
        )


def send(world: tuple[Resource, dict[str, str]], surface: str, target: str, body: Any) -> Any:
    azure, ids = world
    text = json.dumps(body)
    for name, given_id in ids.items():
        text, target = text.replace(name, given_id), target.replace(name, given_id)
    root = "/openai/v1" if surface == "v1" else "/openai"
    query = "" if surface == "v1" else f"?api-version={VERSION}"
    return azure.http.post(f"{root}{target}{query}", content=text)


@pytest.mark.parametrize(
    ("surface", "target", "body"),
    [("v1", *row) for row in V1.items()] + [("dated", *row) for row in DATED.items()],
)
def test_the_bodies_that_are_spoilt_are_right_before(
    world: tuple[Resource, dict[str, str]], surface: str, target: str, body: dict[str, Any]
) -> None:
    answer = send(world, surface, target, body)
    assert answer.status_code in (200, 201), answer.text


@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=st.sampled_from(CASES), wrong=WRONG)
def test_a_wrongly_typed_value_anywhere_is_refused_in_azures_shape(
    world: tuple[Resource, dict[str, str]], case: tuple[str, str, tuple[Any, ...]], wrong: Any
) -> None:
    surface, target, path = case
    body = (V1 if surface == "v1" else DATED)[target]
    answer = send(world, surface, target, replaced(body, path, wrong))
    assert answer.status_code in (200, 201, 400, 404), answer.text
    if answer.status_code >= 400:
        assert answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("target", "body", "message"),
    [
        (
            "/chat/completions",
            {"model": "gpt-4o", "messages": "hi"},
            "Invalid type for 'messages': expected an array, but got a string.",
        ),
        (
            "/responses",
            {"model": "gpt-4o", "input": "hi", "tools": [{"type": "x", "container": 5}]},
            "Invalid type for 'tools[0].container': expected one of a string or an object, "
            "but got an integer.",
        ),
        (
            "/vector_stores",
            {"file_ids": ["a", True]},
            "Invalid type for 'file_ids[1]': expected a string, but got a boolean.",
        ),
    ],
)
def test_the_refusal_names_the_place_and_both_types(
    azure: Resource, target: str, body: dict[str, Any], message: str
) -> None:
    answer = azure.v1("POST", target, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == message
    assert answer.json()["error"]["code"] == "invalid_type"
