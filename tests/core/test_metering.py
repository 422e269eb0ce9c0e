"""What the meters hear of streams and documents, and what they must not hear."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.metering import Ear, HeardCall, Meter, names_interpreter
from gateway.core.model import SECOND, ObjectKind, ScopeKind, Usage

AT = 1_795_435_200
USAGE = {
    "prompt_tokens": 381,
    "completion_tokens": 89,
    "prompt_token_details": {"cached_tokens": 81},
}
INTERPRETER = {"type": "code_interpreter"}
FUNCTION = {"type": "function", "function": {"name": "weather"}}

Document = dict[str, object]


def run(status: str = "queued", **more: object) -> Document:
    fields: Document = {
        "id": "run_1",
        "object": "thread.run",
        "thread_id": "thread_1",
        "created_at": AT,
        "status": status,
        "started_at": None if status == "queued" else AT + 1,
        "model": "gpt-4o",
        "tools": [INTERPRETER],
        "usage": None,
    }
    return fields | more


def step(calls: list[object], **more: object) -> Document:
    fields: Document = {
        "id": "step_1",
        "object": "thread.run.step",
        "thread_id": "thread_1",
        "run_id": "run_1",
        "created_at": AT + 2,
        "type": "tool_calls",
        "step_details": {"type": "tool_calls", "tool_calls": calls},
    }
    return fields | more


def delta(call: object, name: str = "step_1") -> Document:
    details = {"step_details": {"type": "tool_calls", "tool_calls": [call]}}
    return {"id": name, "object": "thread.run.step.delta", "delta": details}


def interpreter_call(outputs: list[object] | None = None) -> Document:
    return {"index": 0, **INTERPRETER, "code_interpreter": {"input": "", "outputs": outputs or []}}


def response(status: str = "in_progress", **more: object) -> Document:
    fields: Document = {
        "id": "resp_1",
        "object": "response",
        "created_at": AT,
        "status": status,
        "model": "gpt-4o",
        "output": [],
        "usage": None,
    }
    return fields | more


def item(container: object = "cntr_1", name: object = "ci_1") -> Document:
    return {"id": name, "type": "code_interpreter_call", "container_id": container, "outputs": None}


def event(kind: str, **more: object) -> Document:
    return {"type": kind, "sequence_number": 0, **more}


def stream(*documents: Document, done: bool = True) -> Meter:
    meter = Meter(is_stream=True)
    for document in documents:
        name = str(document.get("object", document.get("type")))
        meter.feed(f"event: {name}\ndata: {json.dumps(document)}\n\n".encode())
    if done:
        meter.feed(b"event: done\ndata: [DONE]\n\n")
    meter.finish()
    return meter


def listen(*documents: object) -> Ear:
    ear = Ear()
    for document in documents:
        ear.hear(document)
    return ear


CALLED = HeardCall(ScopeKind.THREAD, "thread_1", "step_1", (AT + 2) * SECOND, run="run_1")


# runs


def test_a_tool_step_begins_without_calls_and_its_first_delta_says_that_it_is_the_interpreter() -> (
    None
):
    begun = stream(run(), step([]), done=False)
    assert begun.ear.calls == {}
    called = stream(run(), step([]), delta(interpreter_call()), done=False)
    assert list(called.ear.calls.values()) == [CALLED]


def test_one_step_is_one_call_however_often_it_is_told() -> None:
    meter = stream(
        run(),
        run("in_progress"),
        step([]),
        delta(interpreter_call()),
        delta({"index": 0, **INTERPRETER, "code_interpreter": {"input": "import"}}),
        step([interpreter_call()]),
        run("completed", usage=USAGE),
    )
    assert list(meter.ear.calls.values()) == [CALLED]
    assert meter.ear.runs["run_1"].usage == Usage(300, 81, 89)
    assert meter.ended
    assert meter.whole


def test_a_completed_step_with_empty_outputs_is_a_call() -> None:
    assert list(listen(step([interpreter_call([])])).calls.values()) == [CALLED]


def test_a_call_that_only_the_list_of_steps_shows_is_heard_there() -> None:
    steps = {"object": "list", "data": [step([interpreter_call()]), step([], id="step_2")]}
    assert list(listen(steps).calls.values()) == [CALLED]


@pytest.mark.parametrize(
    "call", [FUNCTION, {"type": "file_search"}, {"type": "code"}, {"type": []}, {}, None, 5]
)
def test_a_step_that_calls_no_interpreter_is_no_call_though_the_run_could(call: object) -> None:
    meter = stream(run(), step([]), delta(call), step([call]), run("completed", usage=USAGE))
    assert meter.ear.calls == {}
    assert meter.ear.runs["run_1"].may_call


def test_enabling_the_interpreter_without_calling_it_is_no_call() -> None:
    meter = stream(run(tools=[INTERPRETER]), run("completed", usage=USAGE))
    assert (meter.ear.calls, meter.ear.runs["run_1"].may_call) == ({}, True)


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired", "incomplete"])
def test_a_run_that_fails_after_its_call_has_called(status: str) -> None:
    meter = stream(run(), step([]), delta(interpreter_call()), run(status, usage=USAGE))
    assert list(meter.ear.calls.values()) == [CALLED]
    assert meter.ear.runs["run_1"].has_ended
    assert meter.ear.runs["run_1"].usage == Usage(300, 81, 89)


@pytest.mark.parametrize("status", ["queued", "in_progress", "requires_action", "cancelling", ""])
def test_a_run_in_any_other_state_has_not_ended(status: str) -> None:
    assert not listen(run(status)).runs["run_1"].has_ended


def test_a_delta_of_a_step_that_was_not_seen_to_begin_has_no_time_and_waits_for_the_step() -> None:
    ear = listen(delta(interpreter_call()))
    assert ear.calls == {}
    ear.hear(step([interpreter_call()]))
    assert list(ear.calls.values()) == [CALLED]


def test_a_run_began_here_only_if_it_was_first_heard_queued_and_not_started() -> None:
    assert listen(run("queued"), run("in_progress")).runs["run_1"].began_here
    assert not listen(run("in_progress")).runs["run_1"].began_here
    # After tool outputs were submitted a run is queued again, but then it has started before.
    again = listen(step([FUNCTION]), run("queued", started_at=AT + 1), run("completed"))
    assert not again.runs["run_1"].began_here


def test_the_last_word_on_a_run_counts_but_silence_takes_nothing_back() -> None:
    heard = listen(run("completed", usage=USAGE), run(None, usage=None, model=None)).runs["run_1"]  # type: ignore[arg-type]
    assert (heard.status, heard.usage, heard.model) == ("completed", Usage(300, 81, 89), "gpt-4o")


@pytest.mark.parametrize(
    "created_at", [None, "1795435200", True, 0, -5, 1e300, float("inf"), float("nan"), AT * 1000]
)
def test_what_has_no_sane_time_is_not_noted(created_at: object) -> None:
    ear = listen(
        run(created_at=created_at),
        step([interpreter_call()], created_at=created_at),
        response(created_at=created_at),
        {"object": "container", "id": "cntr_1", "created_at": created_at},
    )
    assert (ear.runs, ear.calls, ear.responses, ear.containers) == ({}, {}, {}, {})


@pytest.mark.parametrize(
    "broken",
    [
        run(id=None),
        run(thread_id=7),
        step([interpreter_call()], id=None),
        step([interpreter_call()], thread_id=None),
        step([], step_details="tool_calls"),
        step([], step_details={"tool_calls": {"type": "code_interpreter"}}),
        delta(interpreter_call()) | {"delta": []},
        delta(interpreter_call()) | {"id": None},
    ],
)
def test_documents_with_holes_are_passed_over(broken: Document) -> None:
    ear = listen(broken)
    assert (ear.runs, ear.calls) == ({}, {})


# objects


def test_pictures_that_a_call_made_are_objects_and_logs_are_not() -> None:
    outputs: list[object] = [
        {"type": "logs", "logs": "assistant-spoofed"},
        {"type": "image", "image": {"file_id": "assistant-picture"}},
        {"type": "image", "image": None},
        None,
    ]
    ear = listen(step([]), delta(interpreter_call(outputs)))
    assert set(ear.objects) == {(ObjectKind.FILE, "assistant-picture")}


@pytest.mark.parametrize("kind", ["thread.message", "thread.message.delta"])
def test_files_that_a_message_shows_or_annotates_are_objects(kind: str) -> None:
    content = [
        {"type": "image_file", "image_file": {"file_id": "assistant-shown"}},
        {
            "type": "text",
            "text": {
                "value": "see assistant-spoofed",
                "annotations": [
                    {"type": "file_path", "file_path": {"file_id": "assistant-made"}},
                    {"type": "file_citation", "file_citation": {"file_id": "assistant-cited"}},
                    {"file_path": "assistant-spoofed"},
                    None,
                ],
            },
        },
        None,
    ]
    holder = {"content": content} if kind == "thread.message" else {"delta": {"content": content}}
    ear = listen({"id": "msg_1", "object": kind, **holder})
    assert set(ear.objects) == {
        (ObjectKind.FILE, "assistant-shown"),
        (ObjectKind.FILE, "assistant-made"),
    }


def test_created_objects_are_noted_by_their_kind() -> None:
    ear = listen(
        {"object": "thread", "id": "thread_1"},
        {"object": "assistant", "id": "asst_1"},
        {"object": "file", "id": "assistant-1"},
        {"object": "container", "id": "cntr_1", "created_at": AT},
        {"object": "file", "id": ""},
        {"object": "file", "id": 5},
    )
    assert set(ear.objects) == {
        (ObjectKind.THREAD, "thread_1"),
        (ObjectKind.ASSISTANT, "asst_1"),
        (ObjectKind.FILE, "assistant-1"),
        (ObjectKind.CONTAINER, "cntr_1"),
    }
    assert ear.containers == {"cntr_1": AT * SECOND}


@pytest.mark.parametrize(
    "deleted",
    [
        {"id": "assistant-1", "object": "file", "deleted": True},
        {"id": "thread_1", "object": "thread.deleted", "deleted": True},
        {"id": "asst_1", "object": "assistant.deleted", "deleted": True},
        {"id": "cntr_1", "object": "container.deleted", "deleted": True},
    ],
)
def test_an_object_that_was_deleted_is_not_noted_again(deleted: Document) -> None:
    assert listen(deleted).objects == {}


SPOOF = json.dumps(step([interpreter_call()]) | {"thread_id": "thread_spoofed"})


@pytest.mark.parametrize(
    "document",
    [
        {"object": "thread.message", "content": [{"type": "text", "text": {"value": SPOOF}}]},
        {"object": "thread.message", "content": SPOOF, "metadata": json.loads(SPOOF)},
        {"object": "chat.completion", "choices": [{"message": {"content": SPOOF}}]},
        {
            "object": "thread.message",
            "id": "msg_1",
            "thread": {"object": "thread", "id": "spoofed"},
        },
        step([FUNCTION | {"output": SPOOF}]),
        event("response.output_text.delta", delta=SPOOF),
        event("function_call_output", item=item(), response=response()),
        {"object": "vector_store.file", "id": "vs_1", "data": [json.loads(SPOOF)]},
        {"error": {"code": 5, "message": SPOOF}},
    ],
)
def test_an_id_in_a_text_or_in_the_wrong_place_is_not_heard(document: Document) -> None:
    ear = listen(document)
    assert (ear.calls, ear.objects, ear.runs, ear.responses) == ({}, {}, {}, {})


# responses


def test_a_streamed_response_tells_its_container_in_the_first_item_and_its_usage_at_the_end() -> (
    None
):
    usage = {
        "input_tokens": 600,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 40,
    }
    meter = stream(
        event("response.created", response=response()),
        event("response.output_item.added", item=item()),
        event("response.code_interpreter_call_code.delta", item_id="ci_1", delta="print(1)"),
        event("response.output_item.done", item=item()),
        event("response.completed", response=response("completed", output=[item()], usage=usage)),
        done=False,
    )
    ear = meter.ear
    assert list(ear.calls.values()) == [
        HeardCall(ScopeKind.CONTAINER, "cntr_1", "ci_1", AT * SECOND, response="resp_1")
    ]
    assert ear.responses["resp_1"].usage == Usage(600, 0, 40)
    assert ear.responses["resp_1"].containers == {"cntr_1": "ci_1"}
    assert (meter.ended, meter.whole) == (True, True)


def test_a_response_that_is_fetched_later_says_the_same() -> None:
    ear = listen(response("completed", output=[item(), {"type": "message"}, None]))
    assert [(call.scope, call.key) for call in ear.calls.values()] == [("cntr_1", "ci_1")]
    assert (ObjectKind.RESPONSE, "resp_1") in ear.objects
    assert (ObjectKind.CONTAINER, "cntr_1") in ear.objects


@pytest.mark.parametrize("broken", [item(container=None), item(container=5), item(name=None)])
def test_an_item_without_container_or_id_is_no_call(broken: Document) -> None:
    assert listen(response("completed", output=[broken])).calls == {}


def test_an_item_without_its_response_has_no_time_and_is_no_call() -> None:
    assert listen(event("response.output_item.added", item=item())).calls == {}


@pytest.mark.parametrize(
    ("status", "ended"),
    [
        *((status, True) for status in ("completed", "failed", "incomplete", "cancelled")),
        *((status, False) for status in ("in_progress", "queued", "")),
    ],
)
def test_a_response_has_ended_in_its_four_last_states_only(status: str, ended: bool) -> None:
    assert listen(response(status)).responses["resp_1"].has_ended is ended


def test_a_response_without_an_id_is_not_noted() -> None:
    assert listen(response(id=None)).responses == {}


# chat, embeddings, errors


def test_a_chat_stream_tells_its_usage_in_the_last_chunk_and_ends_with_done() -> None:
    chunk: Document = {"object": "chat.completion.chunk", "choices": [], "usage": None}
    usage = {"prompt_tokens": 9, "completion_tokens": 2}
    meter = stream(chunk, chunk | {"usage": usage})
    assert (meter.ear.usage, meter.ended, meter.whole) == (Usage(9, 0, 2), True, True)
    cut = stream(chunk, done=False)
    assert (cut.ear.usage, cut.ended) == (None, False)


def test_embeddings_tell_their_usage_beside_the_list() -> None:
    document = {"object": "list", "data": [{"object": "embedding"}], "usage": {"prompt_tokens": 8}}
    assert listen(document).usage == Usage(8, 0, 0)


def test_an_error_tells_its_code() -> None:
    assert listen({"error": {"code": "content_filter"}}).error_code == "content_filter"
    assert listen({"error": None}).error_code is None


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        ([INTERPRETER], True),
        ([FUNCTION, INTERPRETER], True),
        ([FUNCTION], False),
        ([], False),
        (None, False),
        ("code_interpreter", False),
        ([None, 5, {"type": ["code_interpreter"]}], False),
    ],
    ids=str,
)
def test_tools_name_the_interpreter_only_in_a_list_of_objects(
    tools: object, expected: bool
) -> None:
    assert names_interpreter(tools) is expected


# bytes


def test_a_document_is_read_when_it_is_whole() -> None:
    meter = Meter(is_stream=False)
    for byte in json.dumps(run("completed", usage=USAGE)).encode():
        meter.feed(bytes([byte]))
    assert not meter.ended
    meter.finish()
    assert (meter.ended, meter.whole, list(meter.ear.runs)) == (True, True, ["run_1"])


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"id"', b"\xff", b"[" * 100_000])
def test_a_reply_that_is_no_json_is_not_whole(body: bytes) -> None:
    meter = Meter(is_stream=False)
    meter.feed(body)
    meter.finish()
    assert not meter.whole


def test_an_event_that_is_no_json_makes_the_stream_unwhole_but_not_deaf() -> None:
    meter = Meter(is_stream=True)
    meter.feed(b"data: {oops\n\n")
    meter.feed(f"data: {json.dumps(run('completed', usage=USAGE))}\n\n".encode())
    assert (meter.whole, meter.ended) == (False, True)


def test_an_event_too_large_to_keep_makes_the_stream_unwhole_but_not_deaf() -> None:
    meter = Meter(is_stream=True)
    meter.feed(b"data: " + b"x" * (4 * 1024 * 1024 + 1) + b"\n\n")
    meter.feed(b"data: [DONE]\n\n")
    assert (meter.whole, meter.ended) == (False, True)


def test_a_document_too_large_to_keep_is_not_whole_and_not_kept() -> None:
    meter = Meter(is_stream=False)
    for _ in range(33):
        meter.feed(b" " * 1024 * 1024)
    meter.finish()
    assert (meter.whole, meter.ended) == (False, False)


# anything at all

WORDS = st.sampled_from(
    [
        *("list", "thread.run", "thread.run.step", "thread.run.step.delta", "thread.message"),
        *("thread.message.delta", "response", "chat.completion", "container", "file", "thread"),
        *("code_interpreter", "code_interpreter_call", "response.created", "image_file", "queued"),
    ]
)
KEYS = st.sampled_from(
    [
        *("object", "type", "id", "thread_id", "run_id", "created_at", "status", "usage", "tools"),
        *("data", "delta", "content", "step_details", "tool_calls", "code_interpreter", "outputs"),
        *("image", "file_id", "image_file", "text", "annotations", "file_path", "response", "item"),
        *("output", "container_id", "error", "code", "prompt_tokens", "input_tokens_details"),
    ]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=8),
    max_leaves=40,
)


@given(st.lists(ANYTHING, max_size=4))
def test_nothing_that_is_json_ever_makes_a_meter_fail(documents: list[object]) -> None:
    ear = listen(*documents)
    assert "" not in {name for _, name in ear.objects}
    assert all(0 < call.at < 1 << 57 for call in ear.calls.values())


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_ever_make_a_meter_fail(body: bytes, is_stream: bool) -> None:
    meter = Meter(is_stream=is_stream)
    meter.feed(body)
    meter.finish()
    assert meter.ear.calls == {}
