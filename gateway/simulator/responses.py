"""Responses: create (plain, streamed, in the background), get, delete, cancel, input items.

Code interpreter runs in a container. `container: {"type": "auto"}` opens one, and its session,
before the model has decided anything; only if the tool is called does its id appear in the
answer. It uses again the container of an earlier call found in the input, in the conversation or
through `previous_response_id`, if that is still alive.

The input tokens of a response in a conversation include the texts of the conversation's items,
for the model reads them too.

Source: OpenAI code interpreter guide and pricing page; Azure OpenAI Responses page.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from gateway.simulator.acting import act_out
from gateway.simulator.clock import MICROSECONDS
from gateway.simulator.conversations import add_items, find_conversation, read_items
from gateway.simulator.errors import backend, missing, no_such
from gateway.simulator.exchange import Call, EventLog, Json, Reply, json_reply, stream_reply
from gateway.simulator.listing import page
from gateway.simulator.objects import StoredResponse
from gateway.simulator.response_events import stream_of
from gateway.simulator.response_objects import ending_of, make_response
from gateway.simulator.response_work import container_for, output_of
from gateway.simulator.script import Plan, Script, plan_work, read_script
from gateway.simulator.state import Simulator
from gateway.simulator.threads import text_of

# The events that are there before the work has been done: created, in progress.
FIRST_EVENTS = 2


def create_response(sim: Simulator, call: Call) -> Reply:
    """Answer a response; containers, calls and tokens are billed before the first byte."""
    body = call.json()
    model = sim.model_of(body.get("model"))
    items = _items_of(sim, body.get("input"))
    previous = body.get("previous_response_id")
    if previous is not None:
        _find(sim, previous)
    if body.get("conversation") is not None:
        find_conversation(sim, body["conversation"])
        if previous is not None:
            raise backend(
                "Mutually exclusive parameters: 'previous_response_id' and 'conversation'.",
                code="mutually_exclusive_parameters",
            )
    script = read_script(_last_user_text(items))

    def work() -> Reply:
        return _respond(sim, body, model, items, script)

    return act_out(script, work)


def get_response(sim: Simulator, call: Call) -> Reply:
    """Answer a stored response as it is now, or its events again from one of them on."""
    stored = _find(sim, call.names["response_id"])
    if call.query.get("stream") != "true":
        return json_reply(stored.wire)
    after = call.query.get("starting_after", "-1")
    if not re.fullmatch(r"-1|[0-9]{1,9}", after):
        raise backend("Invalid 'starting_after': expected an integer.", param="starting_after")
    return replace(stream_reply(stored.replay()), skipped=int(after) + 1)


def delete_response(sim: Simulator, call: Call) -> Reply:
    """Delete a stored response."""
    response_id = _find(sim, call.names["response_id"]).wire["id"]
    del sim.responses[response_id]
    return json_reply({"id": response_id, "object": "response", "deleted": True})


def cancel_response(sim: Simulator, call: Call) -> Reply:
    """Cancel a background response that is under way; one that has ended stays as it is."""
    stored = _find(sim, call.names["response_id"])
    if not stored.wire["background"]:
        raise backend("Cannot cancel a synchronous response.")
    if stored.wire["status"] in ("queued", "in_progress"):
        stored.wire["status"] = "cancelled"
        stored.replay().close()
    return json_reply(stored.wire)


def list_input_items(sim: Simulator, call: Call) -> Reply:
    """List the items a response was asked with."""
    return json_reply(page(call, _find(sim, call.names["response_id"]).input_items))


def _respond(sim: Simulator, body: Json, model: str, items: list[Json], script: Script) -> Reply:
    named = body.get("conversation")
    # It may be deleted while the response is at work, which then ends all the same.
    conversation = find_conversation(sim, named) if named is not None else None
    plan = _plan_of(sim, body, items, script)
    container = container_for(sim, body, items)
    begun = make_response(sim, body, model)
    output = output_of(sim, body, plan, container, created_at_s=begun["created_at"])
    shown = container.wire["id"] if container is not None and plan.calls else None
    ended = {**begun, **ending_of(plan), "output": output, "usage": plan.usage.as_response()}
    replay = partial(stream_of, begun, ended, plan)
    stored = StoredResponse(ended, items, shown, replay)
    headers = sim.quota.take(body["model"], plan.usage.total_tokens, at_s=sim.now_s())
    if body.get("store", True):
        sim.responses[begun["id"]] = stored

    def finish() -> None:
        sim.invoice.charge(model, plan.usage)
        if conversation is not None:
            add_items(conversation, [*items, *output])

    if body.get("background"):
        run_s = sim.config.run_s if script.run_s is None else script.run_s
        log = _in_background(sim, stored, begun, finish, run_s=run_s)
        answer = stream_reply(log) if body.get("stream") else json_reply(stored.wire)
    else:
        finish()
        answer = stream_reply(replay()) if body.get("stream") else json_reply(ended)
    return replace(answer, headers=headers)


def _plan_of(sim: Simulator, body: Json, items: list[Json], script: Script) -> Plan:
    answered = any(item.get("type") == "function_call_output" for item in items)
    earlier: list[Json] = []
    if body.get("conversation") is not None:
        earlier = list(find_conversation(sim, body["conversation"]).items.values())
    instructions = body.get("instructions") or ""
    return plan_work(
        script,
        text=_last_user_text(items),
        texts=[instructions, *(_text_of_item(item) for item in [*earlier, *items])],
        tools=_tools_of(body, answered=answered),
        tool_choice=body.get("tool_choice") or "auto",
        output_tokens_max=body.get("max_output_tokens"),
    )


def _in_background(
    sim: Simulator, stored: StoredResponse, begun: Json, finish: Callable[[], None], *, run_s: float
) -> EventLog:
    """Let the clock finish the response (queued, in progress, then its end); return its events."""
    duration_us = round(run_s * MICROSECONDS)
    ended, whole = stored.wire, stored.replay()
    stored.wire = {**begun, "status": "queued"}
    log = EventLog(whole.frames[:FIRST_EVENTS])
    stored.replay = lambda: log

    def start(_at_us: int) -> None:
        if stored.wire["status"] == "queued":
            stored.wire["status"] = "in_progress"

    def end(_at_us: int) -> None:
        if stored.wire["status"] == "in_progress":
            finish()
            stored.wire = ended
            log.frames.extend(whole.frames[FIRST_EVENTS:])
            log.close()

    sim.at(sim.present_us + duration_us // 2, start)
    sim.at(sim.present_us + duration_us, end)
    return log


def _items_of(sim: Simulator, given: Any) -> list[Json]:
    """Return the input as items, each with an id."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise missing("input")
    return read_items(sim, given)


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
