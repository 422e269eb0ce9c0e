"""Responses: create (plain, streamed, in the background), get, delete, cancel, input items.

Code interpreter runs in a container. `container: {"type": "auto"}` opens one, and its session,
before the model has decided anything; only if the tool is called does its id appear in the
answer. It uses again the container of an earlier call found through `previous_response_id`, if
that is still alive.

Source: OpenAI code interpreter guide and pricing page; Azure OpenAI Responses page.
"""

from typing import Any

from gateway.simulator.acting import act_out
from gateway.simulator.clock import MICROSECONDS
from gateway.simulator.containers import keep_file, live_container, open_container, use_container
from gateway.simulator.drawing import draw_png
from gateway.simulator.errors import backend, missing, no_such
from gateway.simulator.exchange import Call, Json, Reply, json_reply, stream_reply
from gateway.simulator.listing import page
from gateway.simulator.response_events import stream_of
from gateway.simulator.response_objects import (
    ending_of,
    make_function_call,
    make_message,
    make_response,
)
from gateway.simulator.run_course import CODE, LOGS
from gateway.simulator.script import Outputs, Plan, Script, plan_work, read_script
from gateway.simulator.state import Container, Simulator, StoredResponse
from gateway.simulator.threads import text_of

INCLUDE_OUTPUTS = "code_interpreter_call.outputs"


def create_response(sim: Simulator, call: Call) -> Reply:
    """Answer a response; containers, calls and tokens are billed before the first byte."""
    body = call.json()
    model = sim.model_of(body.get("model"))
    items = _items_of(sim, body.get("input"))
    previous = body.get("previous_response_id")
    if previous is not None:
        _find(sim, previous)
    script = read_script(_last_user_text(items))

    def work() -> Reply:
        return _respond(sim, body, model, items, script)

    return act_out(script, work)


def get_response(sim: Simulator, call: Call) -> Reply:
    """Answer a stored response as it is now."""
    return json_reply(_find(sim, call.names["response_id"]).wire)


def delete_response(sim: Simulator, call: Call) -> Reply:
    """Delete a stored response."""
    response_id = _find(sim, call.names["response_id"]).wire["id"]
    del sim.responses[response_id]
    return json_reply({"id": response_id, "object": "response", "deleted": True})


def cancel_response(sim: Simulator, call: Call) -> Reply:
    """Cancel a background response that is under way; one that has ended stays as it is."""
    wire = _find(sim, call.names["response_id"]).wire
    if not wire["background"]:
        raise backend("Cannot cancel a synchronous response.")
    if wire["status"] in ("queued", "in_progress"):
        wire["status"] = "cancelled"
    return json_reply(wire)


def list_input_items(sim: Simulator, call: Call) -> Reply:
    """List the items a response was asked with."""
    return json_reply(page(call, _find(sim, call.names["response_id"]).input_items))


def _respond(sim: Simulator, body: Json, model: str, items: list[Json], script: Script) -> Reply:
    text = _last_user_text(items)
    answered = any(item.get("type") == "function_call_output" for item in items)
    plan = plan_work(
        script,
        text=text,
        texts=[str(body.get("instructions") or ""), *(_text_of_item(item) for item in items)],
        tools=_tools_of(body, answered=answered),
        tool_choice=body.get("tool_choice") or "auto",
        output_tokens_max=body.get("max_output_tokens"),
    )
    container = _container_for(sim, body, items)
    begun = make_response(sim, body, model)
    output = _output_of(sim, body, plan, container, created_at_s=begun["created_at"])
    shown = container.wire["id"] if container is not None and plan.calls else None
    ended = {**begun, **ending_of(plan), "output": output, "usage": plan.usage.as_response()}
    stored = StoredResponse(ended, items, shown)
    if body.get("store", True):
        sim.responses[begun["id"]] = stored
    if body.get("background"):
        return _in_background(sim, stored, begun, ended, model, plan, script)
    sim.invoice.charge(model, plan.usage)
    if body.get("stream"):
        return stream_reply(stream_of(begun, ended, plan))
    return json_reply(ended)


def _in_background(
    sim: Simulator,
    stored: StoredResponse,
    begun: Json,
    ended: Json,
    model: str,
    plan: Plan,
    script: Script,
) -> Reply:
    """Let the clock finish the response: queued, in progress, then its end."""
    run_s = sim.config.run_s if script.run_s is None else script.run_s
    duration_us = round(run_s * MICROSECONDS)
    stored.wire = {**begun, "status": "queued"}

    def start(_at_us: int) -> None:
        if stored.wire["status"] == "queued":
            stored.wire["status"] = "in_progress"

    def finish(_at_us: int) -> None:
        if stored.wire["status"] == "in_progress":
            sim.invoice.charge(model, plan.usage)
            stored.wire = ended

    sim.at(sim.present_us + duration_us // 2, start)
    sim.at(sim.present_us + duration_us, finish)
    return json_reply(stored.wire)


def _container_for(sim: Simulator, body: Json, items: list[Json]) -> Container | None:
    """Return the tool's container, opened or used again, or None if the tool is not enabled."""
    tool = next((t for t in body.get("tools") or [] if t.get("type") == "code_interpreter"), None)
    if tool is None:
        return None
    wanted = tool.get("container")
    if isinstance(wanted, str):
        return use_container(sim, wanted)
    if not isinstance(wanted, dict) or wanted.get("type") != "auto":
        raise missing("tools[0].container")
    for container_id in _containers_in_context(sim, body, items):
        if live_container(sim, container_id) is not None:
            return use_container(sim, container_id)
    return open_container(sim, "Auto-created container", wanted.get("file_ids") or [])


def _containers_in_context(sim: Simulator, body: Json, items: list[Json]) -> list[str]:
    """Return the containers of earlier calls, latest first."""
    found = [
        item["container_id"]
        for item in reversed(items)
        if item.get("type") == "code_interpreter_call" and "container_id" in item
    ]
    previous = body.get("previous_response_id")
    while previous is not None and previous in sim.responses:
        earlier = sim.responses[previous]
        if earlier.shown_container is not None:
            found.append(earlier.shown_container)
        previous = earlier.wire["previous_response_id"]
    return found


def _output_of(
    sim: Simulator, body: Json, plan: Plan, container: Container | None, *, created_at_s: int
) -> list[Json]:
    output: list[Json] = []
    annotations: list[Json] = []
    for _ in range(plan.calls if container is not None else 0):
        if container is None:
            break
        container_id = container.wire["id"]
        sim.invoice.call("container", container_id, at_s=created_at_s)
        returned: list[Json] = []
        if plan.outputs is Outputs.LOGS:
            returned = [{"type": "logs", "logs": LOGS}]
        if plan.outputs is Outputs.IMAGE:
            citation = _draw(sim, container)
            annotations.append(citation)
            path = f"containers/{container_id}/files/{citation['file_id']}/content"
            returned = [{"type": "image", "url": f"/openai/v1/{path}"}]
        output.append(
            {
                "id": sim.ids.hexadecimal("ci_"),
                "type": "code_interpreter_call",
                "status": "completed",
                "code": "".join(CODE),
                "container_id": container_id,
                "outputs": returned if INCLUDE_OUTPUTS in (body.get("include") or []) else None,
            }
        )
    if plan.fail:
        return output
    if plan.function is not None:
        return [*output, make_function_call(sim, plan.function)]
    return [*output, make_message(sim, plan, annotations)]


def _draw(sim: Simulator, container: Container) -> Json:
    name = f"{sim.config.seed}/{container.wire['id']}/{len(container.files)}"
    file = keep_file(sim, container, "", draw_png(name), source="assistant")
    return {
        "type": "container_file_citation",
        "container_id": container.wire["id"],
        "end_index": 0,
        "file_id": file["id"],
        "filename": f"{file['id']}.png",
        "start_index": 0,
    }


def _items_of(sim: Simulator, given: Any) -> list[Json]:
    """Return the input as items, each with an id; the simulator's own ids are given once."""
    if isinstance(given, str):
        given = [{"role": "user", "content": [{"type": "input_text", "text": given}]}]
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise missing("input")
    items = [{"id": sim.ids.hexadecimal("msg_"), "type": "message", **item} for item in given]
    for item in items:
        for part in item["content"] if isinstance(item.get("content"), list) else []:
            if part.get("file_id") is not None:
                sim.file(part["file_id"])
    return items


def _tools_of(body: Json, *, answered: bool) -> list[Json]:
    tools: list[Json] = body.get("tools") or []
    return [tool for tool in tools if not answered or tool.get("type") != "function"]


def _text_of_item(item: Json) -> str:
    return text_of(item.get("content", item.get("output")))


def _last_user_text(items: list[Json]) -> str:
    users = [item for item in items if item.get("role") == "user"]
    return text_of(users[-1].get("content")) if users else ""


def _find(sim: Simulator, response_id: object) -> StoredResponse:
    found = sim.responses.get(response_id) if isinstance(response_id, str) else None
    if found is None:
        raise no_such("response", str(response_id))
    return found
