"""Ids: found wherever Azure takes one, and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.catalogue import CATALOGUE
from gateway.core.errors import Code, Refusal
from gateway.core.model import ObjectKind
from gateway.core.operations import OWNED_PLACEHOLDERS, Catalogue, Match
from gateway.core.ownership import references

THREADS = Catalogue(CATALOGUE).match("POST", ("openai", "threads"))
FILE, STORE = ObjectKind.FILE, ObjectKind.VECTOR_STORE
CONTAINER, RESPONSE = ObjectKind.CONTAINER, ObjectKind.RESPONSE


def named(body: dict[str, object]) -> list[tuple[ObjectKind, str, str]]:
    return [(each.kind, each.id, each.param) for each in references(THREADS, (), body)]


POSITIONS: list[tuple[dict[str, object], list[tuple[ObjectKind, str, str]]]] = [
    ({"file_ids": ["f1", "f2"]}, [(FILE, "f1", "file_ids[0]"), (FILE, "f2", "file_ids[1]")]),
    (
        {"tool_resources": {"code_interpreter": {"file_ids": ["f"]}}},
        [(FILE, "f", "tool_resources.code_interpreter.file_ids[0]")],
    ),
    (
        {"tool_resources": {"file_search": {"vector_store_ids": ["v"]}}},
        [(STORE, "v", "tool_resources.file_search.vector_store_ids[0]")],
    ),
    (
        {"tool_resources": {"file_search": {"vector_stores": [{"file_ids": ["f"]}]}}},
        [(FILE, "f", "tool_resources.file_search.vector_stores[0].file_ids[0]")],
    ),
    ({"attachments": [{"file_id": "f"}]}, [(FILE, "f", "attachments[0].file_id")]),
    (
        {"thread": {"messages": [{"attachments": [{"file_id": "f"}]}]}},
        [(FILE, "f", "thread.messages[0].attachments[0].file_id")],
    ),
    (
        {"additional_messages": [{"content": [{"image_file": {"file_id": "f"}}]}]},
        [(FILE, "f", "additional_messages[0].content[0].image_file.file_id")],
    ),
    (
        {"messages": [{"content": [{"type": "file", "file": {"file_id": "f"}}]}]},
        [(FILE, "f", "messages[0].content[0].file.file_id")],
    ),
    (
        {"input": [{"content": [{"type": "input_file", "file_id": "f"}]}]},
        [(FILE, "f", "input[0].content[0].file_id")],
    ),
    (
        {"input": [{"content": [{"type": "input_image", "file_id": "f"}]}]},
        [(FILE, "f", "input[0].content[0].file_id")],
    ),
    (
        {"input": [{"type": "function_call_output", "output": [{"file_id": "f"}]}]},
        [(FILE, "f", "input[0].output[0].file_id")],
    ),
    (
        {"input": [{"type": "code_interpreter_call", "container_id": "c"}]},
        [(CONTAINER, "c", "input[0].container_id")],
    ),
    (
        {"tools": [{"type": "code_interpreter", "container": "c"}]},
        [(CONTAINER, "c", "tools[0].container")],
    ),
    (
        {"tools": [{"container": {"type": "auto", "file_ids": ["f"]}}]},
        [(FILE, "f", "tools[0].container.file_ids[0]")],
    ),
    (
        {"tools": [{"environment": {"type": "container_reference", "container_id": "c"}}]},
        [(CONTAINER, "c", "tools[0].environment.container_id")],
    ),
    (
        {"tools": [{"type": "file_search", "vector_store_ids": ["v"]}]},
        [(STORE, "v", "tools[0].vector_store_ids[0]")],
    ),
    (
        {"tools": [{"input_image_mask": {"file_id": "f"}}]},
        [(FILE, "f", "tools[0].input_image_mask.file_id")],
    ),
    ({"previous_response_id": "r"}, [(RESPONSE, "r", "previous_response_id")]),
    ({"conversation": "c"}, [(ObjectKind.CONVERSATION, "c", "conversation")]),
    ({"conversation": {"id": "c"}}, [(ObjectKind.CONVERSATION, "c", "conversation.id")]),
    ({"prompt": {"id": "p"}}, [(ObjectKind.PROMPT, "p", "prompt.id")]),
    (
        {"prompt": {"id": "p", "variables": {"doc": {"type": "input_file", "file_id": "f"}}}},
        [(ObjectKind.PROMPT, "p", "prompt.id"), (FILE, "f", "prompt.variables.doc.file_id")],
    ),
    ({"assistant_id": "a"}, [(ObjectKind.ASSISTANT, "a", "assistant_id")]),
    ({"thread_id": "t"}, [(ObjectKind.THREAD, "t", "thread_id")]),
    ({"input_file_id": "f"}, [(FILE, "f", "input_file_id")]),
    (
        {"training_file": "f", "validation_file": "g"},
        [(FILE, "f", "training_file"), (FILE, "g", "validation_file")],
    ),
    ({"field_of_tomorrow": {"file_id": "f"}}, [(FILE, "f", "field_of_tomorrow.file_id")]),
]


@pytest.mark.parametrize(("body", "found"), POSITIONS, ids=[where[0][2] for _, where in POSITIONS])
def test_every_place_of_a_body_that_takes_an_id_is_found(
    body: dict[str, object], found: list[tuple[ObjectKind, str, str]]
) -> None:
    assert named(body) == found


@pytest.mark.parametrize(
    "body",
    [
        {"metadata": {"file_id": "f", "thread_id": "t"}},
        {"tools": [{"function": {"parameters": {"properties": {"file_id": {"type": "string"}}}}}]},
        {"response_format": {"json_schema": {"schema": {"file_id": {"type": "string"}}}}},
        {"input": [{"type": "function_call", "arguments": '{"file_id": "f"}'}]},
        {"messages": [{"content": "assistant-abc thread_abc file_id"}]},
        {"instructions": '{"file_id": "assistant-abc"}'},
        {"file_ids": [], "attachments": [], "previous_response_id": None, "conversation": None},
        {"conversation": {"id": None}, "tools": None},
        {},
    ],
)
def test_free_texts_and_empty_fields_name_nothing(body: dict[str, object]) -> None:
    assert named(body) == []


@pytest.mark.parametrize("key", ["file_id", "file_ids", "thread_id", "container", "conversation"])
@pytest.mark.parametrize(
    "value", [1, 1.5, True, "", "x" * 257, [1], [["a"]], [None], [{"id": "a"}]]
)
def test_a_field_of_ids_that_holds_something_else_is_refused(key: str, value: object) -> None:
    with pytest.raises(Refusal) as caught:
        named({"tool_resources": {key: value}})
    assert caught.value.refused.code is Code.MALFORMED_REQUEST
    assert caught.value.refused.rule == "not-an-id"
    assert str(caught.value.refused.param).startswith(f"tool_resources.{key}")


@pytest.mark.parametrize("key", ["file_id", "file_ids", "thread_id", "previous_response_id"])
def test_an_object_where_an_id_belongs_is_refused(key: str) -> None:
    with pytest.raises(Refusal):
        named({key: {"id": "f"}})


def test_an_id_is_compared_byte_for_byte_and_never_trimmed() -> None:
    ids = ["f", "F", " f", "f ", "f\u200b", "%66"]
    assert [each.id for each in references(THREADS, (), {"file_ids": ids})] == ids


@pytest.mark.parametrize("kind", ["list", "object", "conversation", "container"])
def test_deep_nesting_is_refused_and_does_not_crash(kind: str) -> None:
    body: dict[str, object] = {"file_id": "f"}
    for _ in range(500):
        body = {"a": [body]} if kind == "list" else {"a" if kind == "object" else kind: body}
    with pytest.raises(Refusal) as caught:
        named(body)
    assert caught.value.refused.code is Code.INVALID_JSON


def test_an_object_named_in_several_places_is_asked_about_once() -> None:
    match = Catalogue(CATALOGUE).match("POST", ("openai", "threads", "t", "messages"))
    found = references(
        match, (), {"thread_id": "t", "file_ids": ["f"], "attachments": [{"file_id": "f"}]}
    )
    assert [(each.kind, each.id, each.param) for each in found] == [
        (ObjectKind.THREAD, "t", "thread"),
        (FILE, "f", "file_ids[0]"),
    ]


PATHS = [
    ("GET", "openai/threads/t/runs/run_1/steps/step_1", [(ObjectKind.THREAD, "t")]),
    ("DELETE", "openai/threads/t/messages/msg_1", [(ObjectKind.THREAD, "t")]),
    ("GET", "openai/assistants/a", [(ObjectKind.ASSISTANT, "a")]),
    ("GET", "openai/v1/files/f/content", [(FILE, "f")]),
    ("POST", "openai/responses/r/cancel", [(RESPONSE, "r")]),
    ("GET", "openai/v1/containers/c/files/cfile_1/content", [(CONTAINER, "c")]),
    ("POST", "openai/deployments/gpt/chat/completions", []),
]


@pytest.mark.parametrize(("method", "path", "found"), PATHS, ids=[path for _, path, _ in PATHS])
def test_ids_of_the_path_are_found_and_what_lives_inside_shares_the_owner(
    method: str, path: str, found: list[tuple[ObjectKind, str]]
) -> None:
    match = Catalogue(CATALOGUE).match(method, tuple(path.split("/")))
    assert [(each.kind, each.id) for each in references(match, (), None)] == found


@pytest.mark.parametrize("cursor", ["after", "before"])
def test_a_cursor_over_the_whole_resource_names_an_object(cursor: str) -> None:
    match = Catalogue(CATALOGUE).match("GET", ("openai", "files"))
    (found,) = references(match, (("limit", "2"), (cursor, "f")), None)
    assert (found.kind, found.id, found.param) == (FILE, "f", cursor)


def test_a_cursor_inside_a_thread_names_no_object_of_its_own() -> None:
    match = Catalogue(CATALOGUE).match("GET", ("openai", "threads", "t", "messages"))
    assert [each.id for each in references(match, (("after", "msg_1"),), None)] == ["t"]


def test_every_owned_placeholder_of_the_catalogue_is_found() -> None:
    for row in CATALOGUE:
        values = {part[1:-1]: "id" for part in row.template.split("/") if part.startswith("{")}
        found = {each.param for each in references(Match(row, values), (), None)}
        assert found == set(values) & set(OWNED_PLACEHOLDERS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["file_id", "container", "a", "metadata"]), inner, max_size=3
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=3))
def test_any_body_is_read_or_refused_and_never_crashes(body: dict[str, object]) -> None:
    try:
        found = named(body)
    except Refusal:
        return
    assert all(name for _, name, _ in found)
