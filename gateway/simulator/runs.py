"""Runs and their steps: the operations; what a run does stands in `run_course`."""

from functools import partial
from typing import Any

from gateway.simulator.acting import act_out
from gateway.simulator.assistants import find_assistant, take_resources
from gateway.simulator.clock import MICROSECONDS
from gateway.simulator.errors import backend, missing, no_such
from gateway.simulator.exchange import Call, EventLog, Json, Reply, json_reply, stream_reply
from gateway.simulator.listing import page
from gateway.simulator.objects import Run, Thread
from gateway.simulator.run_course import EXPIRES_S, cancel_course, resume_course, start_course
from gateway.simulator.schemas import check_closed, check_tools
from gateway.simulator.script import Script, plan_work, read_script
from gateway.simulator.state import Simulator
from gateway.simulator.threads import (
    TERMINAL,
    active_run,
    add_messages,
    find_thread,
    open_thread,
    text_of,
)


def create_run(sim: Simulator, call: Call) -> Reply:
    """Start a run on a thread."""
    thread = find_thread(sim, call)
    body = call.json()
    check_closed("run", body, required=("assistant_id",))
    return _start_on(sim, call, thread, body, opened=False)


def create_thread_and_run(sim: Simulator, call: Call) -> Reply:
    """Create a thread and start a run on it."""
    body = call.json()
    check_closed("thread and run", body, required=("assistant_id",))
    tools = check_tools(body.get("tools"))
    resources = take_resources(sim, body.get("tool_resources"), tools=tools)
    find_assistant(sim, body["assistant_id"])
    thread = open_thread(sim, body.get("thread") or {})
    thread.wire["tool_resources"].update(resources)
    return _start_on(sim, call, thread, body, opened=True)


def list_runs(sim: Simulator, call: Call) -> Reply:
    """List a thread's runs."""
    return json_reply(page(call, [run.wire for run in find_thread(sim, call).runs.values()]))


def get_run(sim: Simulator, call: Call) -> Reply:
    """Answer a run as it is now."""
    return json_reply(_find_run(sim, call).wire)


def modify_run(sim: Simulator, call: Call) -> Reply:
    """Change a run's metadata."""
    run = _find_run(sim, call)
    body = call.json()
    check_closed("change", body)
    run.wire.update(body)
    return json_reply(run.wire)


def cancel_run(sim: Simulator, call: Call) -> Reply:
    """Begin to cancel a run that has not ended."""
    run = _find_run(sim, call)
    status = run.wire["status"]
    if status in TERMINAL or status == "cancelling":
        raise backend(f"Cannot cancel run with status '{status}'.")
    cancel_course(sim, run, sim.present_us)
    return json_reply(run.wire)


def submit_tool_outputs(sim: Simulator, call: Call) -> Reply:
    """Take all outputs a run waits for and let it go on."""
    run = _find_run(sim, call)
    body = call.json()
    check_closed("tool outputs", body, required=("tool_outputs",))
    if run.wire["status"] != "requires_action":
        raise backend(
            f'Runs in status "{run.wire["status"]}" do not accept tool outputs.',
        )
    outputs = _outputs_of(body["tool_outputs"])
    wanted = run.wire["required_action"]["submit_tool_outputs"]["tool_calls"]
    ids = {tool_call["id"] for tool_call in wanted}
    if set(outputs) != ids:
        listed = ", ".join(sorted(ids))
        raise backend(f"Expected tool outputs for call_ids [{listed}].")
    return _answer(sim, run, body, partial(resume_course, sim, run, outputs, sim.present_us))


def list_steps(sim: Simulator, call: Call) -> Reply:
    """List a run's steps."""
    return json_reply(page(call, _find_run(sim, call).steps))


def get_step(sim: Simulator, call: Call) -> Reply:
    """Answer one step."""
    step_id = call.names["step_id"]
    for step in _find_run(sim, call).steps:
        if step["id"] == step_id:
            return json_reply(step)
    raise no_such("run step", step_id)


def _start_on(sim: Simulator, call: Call, thread: Thread, body: Json, *, opened: bool) -> Reply:
    assistant = find_assistant(sim, body["assistant_id"])
    sim.model_of(body.get("model") or assistant["model"])
    check_tools(body.get("tools"))
    active = active_run(thread)
    if active is not None:
        thread_id, run_id = thread.wire["id"], active.wire["id"]
        raise backend(f"Thread {thread_id} already has an active run {run_id}.")
    add_messages(sim, thread, body.get("additional_messages") or [])
    script = read_script(_last_user_text(thread))

    def work() -> Reply:
        run = _new_run(sim, call, thread, assistant, body, script)
        if opened and body.get("stream"):
            run.log = EventLog()
            run.log.event("thread.created", thread.wire)
        return _answer(sim, run, body, partial(start_course, sim, run, sim.present_us))

    return act_out(script, work)


def _answer(sim: Simulator, run: Run, body: Json, begin: "partial[None]") -> Reply:
    """Begin the work, then answer with the run as it stands or with the stream of its events."""
    if not body.get("stream"):
        begin()
        return json_reply(run.wire)
    log = run.log = run.log or EventLog()
    begin()
    sim.observe()
    return stream_reply(log)


def _new_run(
    sim: Simulator, call: Call, thread: Thread, assistant: Json, body: Json, script: Script
) -> Run:
    wire = _run_object(sim, thread, assistant, body)
    plan = plan_work(
        script,
        text=_last_user_text(thread),
        texts=[wire["instructions"] or "", *_texts(thread)],
        tools=wire["tools"],
        tool_choice=wire["tool_choice"],
        output_tokens_max=wire["max_completion_tokens"],
    )
    # A streamed run takes no time unless it was told to: its reader paces it.
    run_s = sim.config.run_s if script.run_s is None and not body.get("stream") else script.run_s
    steps = (1 if plan.function else 0) + plan.calls + (0 if plan.fail else 1)
    run = Run(
        wire=wire,
        thread=thread,
        model=sim.model_of(wire["model"]),
        surface=call.surface,
        plan=plan,
        duration_us=round((run_s or 0.0) * MICROSECONDS),
        shares=plan.usage.split(steps),
    )
    thread.runs[wire["id"]] = run
    if any(tool.get("type") == "code_interpreter" for tool in wire["tools"]):
        scope, at_s = wire["thread_id"], wire["created_at"]
        sim.invoice.ask("thread", scope, at_s=at_s, surface=call.surface)
    return run


def _run_object(sim: Simulator, thread: Thread, assistant: Json, body: Json) -> Json:
    def chosen(name: str, default: Any = None) -> Any:
        given = body.get(name)
        return assistant.get(name, default) if given is None else given

    instructions = [chosen("instructions"), body.get("additional_instructions")]
    return {
        "id": sim.ids.mixed("run_"),
        "object": "thread.run",
        "created_at": sim.now_s(),
        "assistant_id": assistant["id"],
        "thread_id": thread.wire["id"],
        "status": "queued",
        "started_at": None,
        "expires_at": sim.now_s() + EXPIRES_S,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": None,
        "required_action": None,
        "last_error": None,
        "model": chosen("model"),
        "instructions": "\n".join(text for text in instructions if text) or None,
        "tools": chosen("tools"),
        "tool_resources": thread.wire["tool_resources"],
        "metadata": body.get("metadata") or {},
        "temperature": chosen("temperature", 1.0),
        "top_p": chosen("top_p", 1.0),
        "reasoning_effort": chosen("reasoning_effort"),
        "max_completion_tokens": body.get("max_completion_tokens"),
        "max_prompt_tokens": body.get("max_prompt_tokens"),
        "truncation_strategy": body.get("truncation_strategy")
        or {"type": "auto", "last_messages": None},
        "incomplete_details": None,
        "usage": None,
        "response_format": chosen("response_format", "auto"),
        "tool_choice": body.get("tool_choice") or "auto",
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
    }


def _texts(thread: Thread) -> list[str]:
    return [text_of(message["content"]) for message in thread.messages.values()]


def _last_user_text(thread: Thread) -> str:
    messages = [message for message in thread.messages.values() if message["role"] == "user"]
    return text_of(messages[-1]["content"]) if messages else ""


def _outputs_of(given: object) -> dict[str, str]:
    outputs: dict[str, str] = {}
    for row in given if isinstance(given, list) else []:
        check_closed("tool output", row)
        if not isinstance(row.get("tool_call_id"), str):
            raise missing("tool_outputs[0].tool_call_id")
        outputs[row["tool_call_id"]] = str(row.get("output") or "")
    return outputs


def _find_run(sim: Simulator, call: Call) -> Run:
    run = find_thread(sim, call).runs.get(call.names["run_id"])
    if run is None:
        raise no_such("run", call.names["run_id"])
    return run
