"""The order and the shape of streamed events."""

import json
from typing import Any

import pytest

from gateway.simulator import LiveSimulator, SimulatorConfig
from tests.simulator.resource import (
    AUTO,
    CODE_INTERPRETER,
    START_S,
    Resource,
    names_of,
    read_events,
)

BEGINNING = ["thread.run.created", "thread.run.queued", "thread.run.in_progress"]
STEP_BEGINS = ["thread.run.step.created", "thread.run.step.in_progress"]
TOOL_STEP = [*STEP_BEGINS, "thread.run.step.delta", "thread.run.step.completed"]
MESSAGE_STEP = [
    *STEP_BEGINS,
    "thread.message.created",
    "thread.message.in_progress",
    "thread.message.delta",
    "thread.message.completed",
    "thread.run.step.completed",
]
FUNCTION = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}


def run_events(azure: Resource, text: str, **more: Any) -> list[tuple[str, Any]]:
    body = {"assistant_id": azure.assistant(), **more}
    return azure.events(f"/threads/{azure.thread(text)}/runs", body)


def test_a_run_with_two_calls_streams_its_events_in_azures_order(azure: Resource) -> None:
    events = run_events(azure, "[[sim calls=2]]")
    ending = ["thread.run.completed", "done"]
    assert names_of(events) == [*BEGINNING, *TOOL_STEP, *TOOL_STEP, *MESSAGE_STEP, *ending]
    assert events[-1] == ("done", "[DONE]")


def test_the_kind_of_a_tool_step_is_first_told_by_its_delta(azure: Resource) -> None:
    events = run_events(azure, "[[sim calls=1]]")
    by_name = dict(reversed(events))
    for name in STEP_BEGINS:
        assert by_name[name]["step_details"] == {"type": "tool_calls", "tool_calls": []}
    first, second = [data for name, data in events if name == "thread.run.step.delta"][:2]
    (begun,) = first["delta"]["step_details"]["tool_calls"]
    assert begun["id"].startswith("call_")
    assert begun["code_interpreter"] == {"input": "", "outputs": []}
    (going_on,) = second["delta"]["step_details"]["tool_calls"]
    assert going_on == {
        "index": 0,
        "type": "code_interpreter",
        "code_interpreter": {"input": "import"},
    }


def test_usage_is_told_by_the_steps_and_their_sum_by_the_run(azure: Resource) -> None:
    events = run_events(azure, "[[sim calls=2 tokens=100/10/11]]")
    steps = [data["usage"] for name, data in events if name == "thread.run.step.completed"]
    run = next(data["usage"] for name, data in events if name == "thread.run.completed")
    assert [step["prompt_tokens"] for step in steps] == [33, 33, 34]
    assert run["prompt_tokens"] == 100
    assert run["completion_tokens"] == sum(step["completion_tokens"] for step in steps) == 11
    assert run["prompt_token_details"] == {"cached_tokens": 10}
    started = [data["usage"] for name, data in events if name in BEGINNING]
    assert started == [None, None, None]


@pytest.mark.parametrize(("outputs", "kinds"), [("none", []), ("logs", ["logs"])])
def test_outputs_are_what_the_directive_says(
    azure: Resource, outputs: str, kinds: list[str]
) -> None:
    events = dict(run_events(azure, f"[[sim calls=1 outputs={outputs} fail=1]]"))
    (tool_call,) = events["thread.run.step.completed"]["step_details"]["tool_calls"]
    assert [row["type"] for row in tool_call["code_interpreter"]["outputs"]] == kinds


def test_an_image_is_in_the_step_in_the_message_and_among_the_files(azure: Resource) -> None:
    events = dict(run_events(azure, "please draw a plot [[sim words=1]]"))
    image, text = events["thread.message.completed"]["content"]
    file_id = image["image_file"]["file_id"]
    assert text["text"] == {"value": "Here", "annotations": []}
    file = azure.dated("GET", f"/files/{file_id}").json()
    assert (file["purpose"], file["filename"]) == ("assistants_output", f"{file_id}.png")
    content = azure.dated("GET", f"/files/{file_id}/content").content
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(content) == file["bytes"]


def test_a_failed_run_ends_after_its_tool_step(azure: Resource) -> None:
    events = run_events(azure, "[[sim calls=1 fail=1 tokens=279/0/20]]")
    assert names_of(events) == [*BEGINNING, *TOOL_STEP, "thread.run.failed", "done"]
    assert dict(events)["thread.run.failed"]["usage"]["total_tokens"] == 299


def test_a_function_call_ends_the_stream_and_its_outputs_begin_another(azure: Resource) -> None:
    assistant = azure.assistant(tools=[CODE_INTERPRETER, FUNCTION])
    body = {
        "assistant_id": assistant,
        "thread": {
            "messages": [{"role": "user", "content": "[[sim function=get_weather calls=1]]"}]
        },
    }
    events = azure.events("/threads/runs", body)
    assert names_of(events) == [
        "thread.created",
        *BEGINNING,
        *STEP_BEGINS,
        "thread.run.step.delta",
        "thread.run.requires_action",
        "done",
    ]
    run = dict(events)["thread.run.requires_action"]
    assert azure.invoice()["total_nano_usd"] == 0
    (wanted,) = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    path = f"/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs"
    refused = azure.dated("POST", path, {"tool_outputs": []})
    assert refused.status_code == 400
    outputs = {"tool_outputs": [{"tool_call_id": wanted["id"], "output": "sunny"}]}
    events = azure.events(path, outputs)
    assert names_of(events) == [
        "thread.run.step.completed",
        "thread.run.queued",
        "thread.run.in_progress",
        *TOOL_STEP,
        *MESSAGE_STEP,
        "thread.run.completed",
        "done",
    ]
    assert azure.invoice()["session_count"] == 1


def test_a_function_nobody_answers_expires_and_is_charged(azure: Resource) -> None:
    assistant = azure.assistant(tools=[FUNCTION])
    thread = azure.thread("[[sim function=get_weather tokens=10/0/2]]")
    run = azure.start(thread, assistant)
    azure.advance(10)
    assert azure.dated("GET", run).json()["status"] == "requires_action"
    azure.advance(590)
    assert azure.dated("GET", run).json()["status"] == "expired"
    assert azure.invoice()["total_nano_usd"] == 5 * 2500 + 1 * 10_000


def test_an_answer_over_its_limit_is_incomplete(azure: Resource) -> None:
    events = dict(run_events(azure, "hello [[sim words=9]]", max_completion_tokens=4))
    assert events["thread.message.incomplete"]["incomplete_details"] == {"reason": "max_tokens"}
    run = events["thread.run.incomplete"]
    assert run["incomplete_details"] == {"reason": "max_completion_tokens"}
    assert run["usage"]["completion_tokens"] == 4


def test_a_paced_stream_follows_the_clock_and_locks_its_thread() -> None:
    with LiveSimulator(SimulatorConfig()) as live, Resource(live.url) as azure:
        thread, assistant = azure.thread("[[sim calls=1 run_s=3000]]"), azure.assistant()
        target = f"/openai/threads/{thread}/runs?api-version=2024-05-01-preview"
        body = {"assistant_id": assistant, "stream": True}
        with azure.http.stream("POST", target, json=body) as answer:
            chunks = answer.iter_text()
            text = next(chunks)
            while "event: thread.run.queued" not in text:
                text += next(chunks)
            (run,) = azure.dated("GET", f"/threads/{thread}/runs").json()["data"]
            assert run["status"] == "queued"
            message = {"role": "user", "content": "more"}
            locked = azure.dated("POST", f"/threads/{thread}/messages", message)
            assert locked.status_code == 400
            azure.dated("POST", f"/threads/{thread}/runs/{run['id']}/cancel")
            text += "".join(chunks)
        ending = ["thread.run.cancelling", "thread.run.cancelled", "done"]
        assert names_of(read_events(text)) == [*BEGINNING[:2], *ending]


def test_a_response_streams_its_events_in_order_and_numbered(azure: Resource) -> None:
    body = {
        "model": "gpt-4o",
        "input": "draw a chart [[sim words=2]]",
        "tools": [AUTO],
        "stream": True,
    }
    answer = azure.v1("POST", "/responses", body)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = read_events(answer.text)
    call = "response.code_interpreter_call"
    assert names_of(events) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        f"{call}.in_progress",
        f"{call}_code.delta",
        f"{call}_code.done",
        f"{call}.interpreting",
        f"{call}.completed",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.annotation.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))
    assert all(data["type"] == name for name, data in events)
    added = next(data["item"] for name, data in events if name.endswith("item.added"))
    cited = dict(events)["response.output_text.annotation.added"]["annotation"]
    assert added["container_id"] == cited["container_id"]
    path = f"/containers/{cited['container_id']}/files/{cited['file_id']}/content"
    assert azure.v1("GET", path).content.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("directive", "ending"),
    [
        ("calls=1 fail=1", "response.failed"),
        ("words=9", "response.incomplete"),
        ("words=8", "response.completed"),
    ],
)
def test_a_response_ends_by_the_event_of_its_status(
    azure: Resource, directive: str, ending: str
) -> None:
    body = {"model": "gpt-4o", "input": f"[[sim {directive}]]", "tools": [AUTO]}
    answer = azure.v1("POST", "/responses", {**body, "stream": True, "max_output_tokens": 8})
    name, last = read_events(answer.text)[-1]
    assert name == ending
    assert last["response"]["usage"] is not None


def chat_chunks(azure: Resource, text: str, **more: Any) -> list[Any]:
    messages = [{"role": "user", "content": text}]
    path = "/deployments/gpt-4o/chat/completions"
    body = {"messages": messages, "stream": True, **more}
    answer = azure.dated("POST", path, body, version="2024-10-21").text
    assert "event:" not in answer
    *blocks, last = answer.removesuffix("\n\n").split("\n\n")
    assert last == "data: [DONE]"
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def test_a_chat_stream_begins_with_the_prompts_filter_and_may_end_with_usage(
    azure: Resource,
) -> None:
    options = {"stream_options": {"include_usage": True}}
    first, *middle, last = chat_chunks(azure, "hi [[sim words=3]]", **options)
    assert (first["choices"], first["id"]) == ([], "")
    assert first["prompt_filter_results"][0]["prompt_index"] == 0
    deltas = [chunk["choices"][0]["delta"] for chunk in middle]
    assert [delta.get("content") for delta in deltas] == ["", "Here", " is", " the", None]
    assert middle[-1]["choices"][0]["finish_reason"] == "stop"
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 3


def test_a_chat_stream_tells_no_usage_unless_it_is_asked_to(azure: Resource) -> None:
    assert all("usage" not in chunk for chunk in chat_chunks(azure, "hi"))
    assert azure.invoice()["tokens"][0]["output_tokens"] == 12


def test_a_chat_stream_can_call_a_function(azure: Resource) -> None:
    chunks = chat_chunks(azure, "[[sim function=get_weather]]", tools=[FUNCTION])
    choices = [chunk["choices"][0] for chunk in chunks[1:]]
    assert choices[1]["delta"]["tool_calls"][0]["function"]["name"] == "get_weather"
    assert choices[-1]["finish_reason"] == "tool_calls"


def test_max_tokens_bounds_every_choice(azure: Resource) -> None:
    chunks = chat_chunks(azure, "[[sim words=9]]", max_tokens=2, n=3)
    finals = [chunk["choices"][0] for chunk in chunks[-3:]]
    assert [(row["index"], row["finish_reason"]) for row in finals] == [
        (0, "length"),
        (1, "length"),
        (2, "length"),
    ]
    assert azure.invoice()["tokens"][0]["output_tokens"] == 6


def test_a_streamed_run_is_dated_by_the_clock(azure: Resource) -> None:
    azure.advance(5)
    run = dict(run_events(azure, "hello"))["thread.run.completed"]
    assert run["created_at"] == run["completed_at"] == START_S + 5
