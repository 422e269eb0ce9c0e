"""Chat completions, plain and streamed.

Source: Azure chat streams of 2026-03: no event lines, a first chunk without choices that carries
`prompt_filter_results`, `data: [DONE]` at the end.
"""

from dataclasses import dataclass, replace

from gateway.simulator.acting import act_out
from gateway.simulator.config import snapshot_of
from gateway.simulator.errors import backend, missing
from gateway.simulator.exchange import Call, EventLog, Json, Reply, json_reply, stream_reply
from gateway.simulator.script import Plan, Script, plan_work, read_script
from gateway.simulator.state import Simulator
from gateway.simulator.threads import text_of
from gateway.simulator.usage import Usage

CHOICES_MAX = 128
DONE = b"data: [DONE]\n\n"
SAFE = {
    name: {"filtered": False, "severity": "safe"}
    for name in ("hate", "self_harm", "sexual", "violence")
}
_PROMPT_FILTER = [
    {
        "prompt_index": 0,
        "content_filter_results": {"jailbreak": {"detected": False, "filtered": False}, **SAFE},
    }
]


@dataclass(frozen=True, slots=True)
class Completion:
    """One answered chat: what every chunk and the plain answer share."""

    id: str
    created: int
    model: str
    choices: int
    plan: Plan
    usage: Usage
    tool_calls: list[Json]

    @property
    def finish_reason(self) -> str:
        """Why the answer ended."""
        if self.tool_calls:
            return "tool_calls"
        return "length" if self.plan.truncated else "stop"


def create_chat_completion(sim: Simulator, call: Call) -> Reply:
    """Answer a chat; the tokens are billed before the first byte leaves."""
    body = call.json()
    deployment = str(call.names.get("deployment") or body.get("model"))
    model = sim.model_of(deployment)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise missing("messages")
    if not all(isinstance(message, dict) for message in messages):
        raise backend("Invalid type for 'messages[0]': expected an object.", param="messages")
    script = read_script(_last_user_text(messages))

    def work() -> Reply:
        completion = _complete(sim, model, body, messages, script)
        sim.invoice.charge(model, completion.usage)
        headers = sim.quota.take(deployment, completion.usage.total_tokens, at_s=sim.now_s())
        if not body.get("stream"):
            return json_reply(_plain(completion), headers=headers)
        options = body.get("stream_options") or {}
        log = _stream(completion, with_usage=bool(options.get("include_usage")))
        return replace(stream_reply(log), headers=headers)

    return act_out(script, work)


def _last_user_text(messages: list[Json]) -> str:
    users = [item for item in messages if item.get("role") == "user"]
    return text_of(users[-1].get("content")) if users else ""


def _complete(
    sim: Simulator, model: str, body: Json, messages: list[Json], script: Script
) -> Completion:
    text = _last_user_text(messages)
    choices = body.get("n") or 1
    if not isinstance(choices, int) or not 1 <= choices <= CHOICES_MAX:
        raise backend(f"Invalid 'n': expected an integer from 1 to {CHOICES_MAX}.", param="n")
    answered = messages[-1].get("role") == "tool"
    plan = plan_work(
        script,
        text=text,
        texts=[text_of(item.get("content")) for item in messages],
        tools=[] if answered else body.get("tools") or [],
        tool_choice=body.get("tool_choice") or "auto",
        output_tokens_max=body.get("max_completion_tokens") or body.get("max_tokens"),
    )
    usage = plan.usage
    if script.tokens is None:
        usage = Usage(usage.input_tokens, 0, usage.output_tokens * choices)
    tool_calls: list[Json] = []
    if plan.function is not None:
        function = {"name": plan.function, "arguments": "{}"}
        tool_calls = [{"id": sim.ids.mixed("call_"), "type": "function", "function": function}]
    return Completion(
        id=sim.ids.mixed("chatcmpl-"),
        created=sim.now_s(),
        model=snapshot_of(model),
        choices=choices,
        plan=plan,
        usage=usage,
        tool_calls=tool_calls,
    )


def _plain(completion: Completion) -> Json:
    message: Json = {
        "annotations": [],
        "content": None if completion.tool_calls else "".join(completion.plan.words),
        "refusal": None,
        "role": "assistant",
    }
    if completion.tool_calls:
        message["tool_calls"] = completion.tool_calls
    choices = [
        {
            "content_filter_results": SAFE,
            "finish_reason": completion.finish_reason,
            "index": index,
            "logprobs": None,
            "message": message,
        }
        for index in range(completion.choices)
    ]
    return {
        "choices": choices,
        "created": completion.created,
        "id": completion.id,
        "model": completion.model,
        "object": "chat.completion",
        "prompt_filter_results": _PROMPT_FILTER,
        "system_fingerprint": "fp_simulator",
        "usage": completion.usage.as_chat(),
    }


def _stream(completion: Completion, *, with_usage: bool) -> EventLog:
    log = EventLog()
    first = {"choices": [], "created": 0, "id": "", "model": "", "object": ""}
    log.unnamed({**first, "prompt_filter_results": _PROMPT_FILTER})
    no_usage: Json = {"usage": None} if with_usage else {}
    for index in range(completion.choices):
        for delta in _deltas(completion):
            choice = _choice(index, delta, None)
            log.unnamed({**_chunk(completion, [choice]), **no_usage})
    for index in range(completion.choices):
        choice = _choice(index, {}, completion.finish_reason)
        log.unnamed({**_chunk(completion, [choice]), **no_usage})
    if with_usage:
        log.unnamed({**_chunk(completion, []), "usage": completion.usage.as_chat()})
    log.close(DONE)
    return log


def _deltas(completion: Completion) -> list[Json]:
    if not completion.tool_calls:
        begin = {"content": "", "refusal": None, "role": "assistant"}
        return [begin, *({"content": word} for word in completion.plan.words)]
    tool_call = completion.tool_calls[0]
    function = {**tool_call["function"], "arguments": ""}
    return [
        {"content": None, "role": "assistant"},
        {"tool_calls": [{"index": 0, **tool_call, "function": function}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
    ]


def _choice(index: int, delta: Json, finish_reason: str | None) -> Json:
    return {
        "content_filter_results": SAFE if delta.get("content") else {},
        "delta": delta,
        "finish_reason": finish_reason,
        "index": index,
        "logprobs": None,
    }


def _chunk(completion: Completion, choices: list[Json]) -> Json:
    return {
        "choices": choices,
        "created": completion.created,
        "id": completion.id,
        "model": completion.model,
        "obfuscation": "",
        "object": "chat.completion.chunk",
        "system_fingerprint": "fp_simulator",
    }
