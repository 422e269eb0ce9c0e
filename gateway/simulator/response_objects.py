"""The objects of a response as they stand on the wire.

Source: answers of the Responses API on Azure and OpenAI, 2025-09.
"""

from gateway.simulator.config import snapshot_of
from gateway.simulator.exchange import Json
from gateway.simulator.script import Plan
from gateway.simulator.state import Simulator


def make_function_call(sim: Simulator, name: str) -> Json:
    """Return the item of a function the model wants called."""
    return {
        "id": sim.ids.hexadecimal("fc_"),
        "type": "function_call",
        "status": "completed",
        "arguments": "{}",
        "call_id": sim.ids.mixed("call_"),
        "name": name,
    }


def make_message(sim: Simulator, plan: Plan, annotations: list[Json]) -> Json:
    """Return the item of the answer's text."""
    text = "".join(plan.words)
    part = {"type": "output_text", "annotations": annotations, "logprobs": [], "text": text}
    return {
        "id": sim.ids.hexadecimal("msg_"),
        "type": "message",
        "status": "incomplete" if plan.truncated else "completed",
        "content": [part],
        "role": "assistant",
    }


def ending_of(plan: Plan) -> Json:
    """Return the fields that say how a response ended."""
    if plan.fail:
        message = "Rate limit is exceeded. Try again in 60 seconds."
        error = {"code": "rate_limit_exceeded", "message": message}
        return {"status": "failed", "error": error}
    if plan.truncated:
        details = {"reason": "max_output_tokens"}
        return {"status": "incomplete", "incomplete_details": details}
    return {"status": "completed"}


def make_response(sim: Simulator, body: Json, model: str) -> Json:
    """Return a response that has just begun."""
    return {
        "id": sim.ids.hexadecimal("resp_"),
        "object": "response",
        "created_at": sim.now_s(),
        "status": "in_progress",
        "background": bool(body.get("background")),
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "model": snapshot_of(model),
        "output": [],
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": body.get("previous_response_id"),
        "conversation": _conversation_of(body),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": body.get("reasoning") or {"effort": None, "summary": None},
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": "auto",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": body.get("text") or {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "top_logprobs": 0,
        "top_p": body.get("top_p", 1.0),
        "truncation": body.get("truncation") or "disabled",
        "usage": None,
        "user": body.get("user"),
        "metadata": body.get("metadata") or {},
    }


def _conversation_of(body: Json) -> Json | None:
    given = body.get("conversation")
    return {"id": given} if isinstance(given, str) else given
