"""Assistants: create, list, get, modify, delete."""

from typing import Any

from gateway.simulator.errors import no_such
from gateway.simulator.exchange import Call, Json, Reply, json_reply
from gateway.simulator.listing import page
from gateway.simulator.schemas import check_closed, check_tools
from gateway.simulator.state import Simulator


def create_assistant(sim: Simulator, call: Call) -> Reply:
    """Create an assistant on a deployment that exists."""
    body = call.json()
    check_closed("assistant", body, required=("model",))
    sim.model_of(body["model"])
    tools = check_tools(body.get("tools"))
    assistant: Json = {
        "id": sim.ids.mixed("asst_"),
        "object": "assistant",
        "created_at": sim.now_s(),
        "name": body.get("name"),
        "description": body.get("description"),
        "model": body["model"],
        "instructions": body.get("instructions"),
        "tools": tools,
        "top_p": body.get("top_p", 1.0),
        "temperature": body.get("temperature", 1.0),
        "reasoning_effort": body.get("reasoning_effort"),
        "tool_resources": check_resources(sim, body.get("tool_resources"), tools=tools),
        "metadata": body.get("metadata") or {},
        "response_format": body.get("response_format") or "auto",
    }
    sim.assistants[assistant["id"]] = assistant
    return json_reply(assistant)


def list_assistants(sim: Simulator, call: Call) -> Reply:
    """List the resource's assistants."""
    return json_reply(page(call, list(sim.assistants.values())))


def get_assistant(sim: Simulator, call: Call) -> Reply:
    """Answer one assistant."""
    return json_reply(find_assistant(sim, call.names["assistant_id"]))


def modify_assistant(sim: Simulator, call: Call) -> Reply:
    """Change what the body names and leave the rest."""
    assistant = find_assistant(sim, call.names["assistant_id"])
    body = call.json()
    check_closed("assistant", body)
    tools = check_tools(body.get("tools", assistant["tools"]))
    if "model" in body:
        sim.model_of(body["model"])
    if "tool_resources" in body:
        body["tool_resources"] = check_resources(sim, body["tool_resources"], tools=tools)
    assistant.update(body)
    return json_reply(assistant)


def delete_assistant(sim: Simulator, call: Call) -> Reply:
    """Delete an assistant; its runs go on."""
    assistant_id = find_assistant(sim, call.names["assistant_id"])["id"]
    del sim.assistants[assistant_id]
    return json_reply({"id": assistant_id, "object": "assistant.deleted", "deleted": True})


def find_assistant(sim: Simulator, assistant_id: object) -> Json:
    """Return an assistant.

    Raises:
        Fault: 404, there is none of that id.
    """
    found = sim.assistants.get(assistant_id) if isinstance(assistant_id, str) else None
    if found is None:
        raise no_such("assistant", str(assistant_id))
    return found


def check_resources(sim: Simulator, given: object, *, tools: list[dict[str, Any]]) -> Json:
    """Return `tool_resources` whose files exist, with the lists an enabled tool always has."""
    resources: Json = dict(given) if isinstance(given, dict) else {}
    if any(tool["type"] == "code_interpreter" for tool in tools):
        resources["code_interpreter"] = dict(resources.get("code_interpreter") or {"file_ids": []})
    interpreter = resources.get("code_interpreter")
    if interpreter is not None:
        for file_id in interpreter.get("file_ids") or []:
            sim.file(file_id)
    return resources
