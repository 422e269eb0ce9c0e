"""The container of a response and what code interpreter does in it.

Source: OpenAI code interpreter guide and pricing page; Azure OpenAI Responses page.
"""

from collections.abc import Iterable

from gateway.simulator.containers import (
    keep_file,
    live_container,
    open_container,
    read_memory,
    use_container,
)
from gateway.simulator.conversations import find_conversation
from gateway.simulator.drawing import draw_png
from gateway.simulator.errors import missing
from gateway.simulator.exchange import Json
from gateway.simulator.objects import Container
from gateway.simulator.response_objects import make_function_call, make_message
from gateway.simulator.run_course import CODE, LOGS
from gateway.simulator.script import Outputs, Plan
from gateway.simulator.state import Simulator

INCLUDE_OUTPUTS = "code_interpreter_call.outputs"


def container_for(sim: Simulator, body: Json, items: list[Json]) -> Container | None:
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
    file_ids, memory = wanted.get("file_ids") or [], read_memory(sim, wanted)
    return open_container(sim, "Auto-created container", file_ids, memory=memory)


def _containers_in_context(sim: Simulator, body: Json, items: list[Json]) -> list[str]:
    """Return the containers of earlier calls, latest first."""
    found = list(_containers_shown(items))
    if body.get("conversation") is not None:
        conversation = find_conversation(sim, body["conversation"])
        found += _containers_shown(list(conversation.items.values()))
    previous = body.get("previous_response_id")
    while previous is not None and previous in sim.responses:
        earlier = sim.responses[previous]
        if earlier.shown_container is not None:
            found.append(earlier.shown_container)
        previous = earlier.wire["previous_response_id"]
    return found


def _containers_shown(items: list[Json]) -> Iterable[str]:
    for item in reversed(items):
        if item.get("type") == "code_interpreter_call" and "container_id" in item:
            yield item["container_id"]


def output_of(
    sim: Simulator, body: Json, plan: Plan, container: Container | None, *, created_at_s: int
) -> list[Json]:
    output: list[Json] = []
    annotations: list[Json] = []
    for _ in range(plan.calls if container is not None else 0):
        if container is None:
            break
        container_id = container.wire["id"]
        memory = container.wire.get("memory_limit")
        sim.invoice.call("container", container_id, at_s=created_at_s, memory=memory)
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
