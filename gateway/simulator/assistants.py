"""Assistants: create, list, get, modify, delete."""

from typing import Any

from gateway.simulator.errors import backend, no_such
from gateway.simulator.exchange import Call, Json, Reply, json_reply
from gateway.simulator.listing import page
from gateway.simulator.schemas import check_closed, check_tools
from gateway.simulator.state import Simulator
from gateway.simulator.vector_stores import find_store, open_store

FILES_MAX = 20
STORES_MAX = 1


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
        "tool_resources": take_resources(sim, body.get("tool_resources"), tools=tools),
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
        body["tool_resources"] = take_resources(sim, body["tool_resources"], tools=tools)
    assistant.update({**body, "tools": tools})
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


def take_resources(sim: Simulator, given: object, *, tools: list[dict[str, Any]]) -> Json:
    """Return `tool_resources` whose files exist, with the lists an enabled tool always has.

    A vector store described in place is created, and stands in the answer by its id.

    Raises:
        Fault: 404, a file or a vector store does not exist; 400, there are too many.
    """
    kept = given.items() if isinstance(given, dict) else ()
    resources: Json = {name: value for name, value in kept if value is not None}
    kinds = {tool["type"] for tool in tools}
    if "code_interpreter" in kinds or resources.get("code_interpreter") is not None:
        interpreter = dict(resources.get("code_interpreter") or {})
        interpreter["file_ids"] = interpreter.get("file_ids") or []
        if len(interpreter["file_ids"]) > FILES_MAX:
            raise backend(f"Code interpreter takes at most {FILES_MAX} files.")
        for file_id in interpreter["file_ids"]:
            sim.file(file_id)
        resources["code_interpreter"] = interpreter
    if "file_search" in kinds or resources.get("file_search") is not None:
        search = resources.get("file_search") or {}
        resources["file_search"] = {"vector_store_ids": _stores_of(sim, search)}
    return resources


def _stores_of(sim: Simulator, search: Json) -> list[str]:
    store_ids: list[str] = search.get("vector_store_ids") or []
    described: list[Json] = search.get("vector_stores") or []
    if len(store_ids) + len(described) > STORES_MAX:
        raise backend("Only one vector store is allowed, by its id or described in place.")
    for store_id in store_ids:
        find_store(sim, store_id)
    return [*store_ids, *(open_store(sim, store).wire["id"] for store in described)]
