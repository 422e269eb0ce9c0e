"""Text completions, the older sibling of chat, plain and streamed."""

from dataclasses import replace
from typing import Any

from gateway.simulator.acting import act_out
from gateway.simulator.chat import DONE, SAFE
from gateway.simulator.config import snapshot_of
from gateway.simulator.exchange import Call, EventLog, Json, Reply, json_reply, stream_reply
from gateway.simulator.script import Plan, plan_work, read_script
from gateway.simulator.state import Simulator

OUTPUT_TOKENS_DEFAULT = 16


def create_completion(sim: Simulator, call: Call) -> Reply:
    """Answer a text completion."""
    body = call.json()
    deployment = str(call.names.get("deployment") or body.get("model"))
    model = sim.model_of(deployment)
    prompt: Any = body.get("prompt")
    prompts = [prompt] if isinstance(prompt, str) else [str(part) for part in prompt or [""]]
    script = read_script(prompts[-1])
    most = body.get("max_tokens") or OUTPUT_TOKENS_DEFAULT
    plan = plan_work(script, text=prompts[-1], texts=prompts, tools=[], output_tokens_max=most)

    def work() -> Reply:
        sim.invoice.charge(model, plan.usage)
        headers = sim.quota.take(deployment, plan.usage.total_tokens, at_s=sim.now_s())
        shared: Json = {
            "id": sim.ids.mixed("cmpl-"),
            "object": "text_completion",
            "created": sim.now_s(),
            "model": snapshot_of(model),
        }
        if not body.get("stream"):
            finish = "length" if plan.truncated else "stop"
            whole = _text_choice("".join(plan.words), finish)
            answer = {**shared, "choices": [whole], "usage": plan.usage.as_chat()}
            return json_reply(answer, headers=headers)
        options = body.get("stream_options") or {}
        log = _stream(shared, plan, with_usage=bool(options.get("include_usage")))
        return replace(stream_reply(log), headers=headers)

    return act_out(script, work)


def _stream(shared: Json, plan: Plan, *, with_usage: bool) -> EventLog:
    log = EventLog()
    for word in plan.words:
        log.unnamed({**shared, "choices": [_text_choice(word, None)]})
    finish = "length" if plan.truncated else "stop"
    log.unnamed({**shared, "choices": [_text_choice("", finish)]})
    if with_usage:
        log.unnamed({**shared, "choices": [], "usage": plan.usage.as_chat()})
    log.close(DONE)
    return log


def _text_choice(text: str, finish_reason: str | None) -> Json:
    return {
        "text": text,
        "index": 0,
        "finish_reason": finish_reason,
        "logprobs": None,
        "content_filter_results": SAFE,
    }
