"""The course of a run: from queued, by its steps, to one of its ends.

A course is planned as events on the timeline. A phase begins with `in_progress`, then has its
steps one after the other (a function step ends the phase in `requires_action`; code interpreter
steps; at last the message), spread evenly over the run's duration. Each event changes the
objects, is dated by its own instant, and is written to the stream's log if somebody streams. Code
interpreter is billed when its step begins, tokens at the end, whichever end that is.

Source: the Assistants streaming reference and streams seen on the wire (order and shapes);
`expires_at` is 600 s after creation; a failed Azure run carries usage.
"""

from collections.abc import Callable
from functools import partial

from gateway.simulator.clock import MICROSECONDS
from gateway.simulator.drawing import draw_png
from gateway.simulator.exchange import Json
from gateway.simulator.objects import Run
from gateway.simulator.run_events import close, emit, emit_message_delta, emit_step_delta
from gateway.simulator.script import Outputs
from gateway.simulator.state import Simulator
from gateway.simulator.threads import TERMINAL, new_message, text_part
from gateway.simulator.usage import Usage

EXPIRES_S = 600
_WAIT = "Rate limit is exceeded. Try again in 60 seconds."
CODE = ["import", " numpy", " as", " np", "\n", "print", "(np", ".sum", "([3, 4]))"]
LOGS = "7\n"


def start_course(sim: Simulator, run: Run, at_us: int) -> None:
    """Queue the run and plan everything it will do, and its expiry."""
    emit(run, "thread.run.created", run.wire)
    emit(run, "thread.run.queued", run.wire)
    plan_phase(sim, run, at_us, ["function"] if run.plan.function else _last_phase(run))
    sim.at(at_us + EXPIRES_S * MICROSECONDS, partial(_expire, sim, run))


def resume_course(sim: Simulator, run: Run, outputs: dict[str, str], at_us: int) -> None:
    """Take the outputs of the function step and plan the rest of the run."""
    step = run.steps[-1]
    for tool_call in step["step_details"]["tool_calls"]:
        tool_call["function"]["output"] = outputs[tool_call["id"]]
    _finish_step(run, "completed", at_us)
    run.wire.update(status="queued", required_action=None)
    emit(run, "thread.run.queued", run.wire)
    plan_phase(sim, run, at_us, _last_phase(run))


def plan_phase(sim: Simulator, run: Run, at_us: int, kinds: list[str]) -> None:
    """Put one phase of the run on the timeline, in place of whatever was planned."""
    run.life += 1
    slots = len(kinds) + 1
    step_us = run.duration_us // slots
    end_us = at_us + run.duration_us
    _plan(sim, run, at_us + step_us // 2, _begin)
    for number, kind in enumerate(kinds, start=1):
        last = number == len(kinds)
        starts, finishes = _ACTIONS[kind]
        _plan(sim, run, at_us + number * step_us, starts)
        _plan(sim, run, end_us if last else at_us + (number + 1) * step_us, finishes)
    if kinds != ["function"]:
        _plan(sim, run, end_us, _end)


def cancel_course(sim: Simulator, run: Run, at_us: int) -> None:
    """Begin to cancel; the run is cancelled at the next look."""
    run.life += 1
    run.wire["status"] = "cancelling"
    emit(run, "thread.run.cancelling", run.wire)
    _plan(sim, run, at_us, _cancelled)


def _last_phase(run: Run) -> list[str]:
    return ["code"] * run.plan.calls + ([] if run.plan.fail else ["message"])


def _plan(
    sim: Simulator, run: Run, due_us: int, action: Callable[[Simulator, Run, int], None]
) -> None:
    life = run.life

    def act(at_us: int) -> None:
        if run.life == life and run.wire["status"] not in TERMINAL:
            action(sim, run, at_us)

    sim.at(due_us, act)


def _begin(sim: Simulator, run: Run, at_us: int) -> None:
    run.wire["status"] = "in_progress"
    run.wire["started_at"] = run.wire["started_at"] or at_us // MICROSECONDS
    emit(run, "thread.run.in_progress", run.wire)


def _start_code(sim: Simulator, run: Run, at_us: int) -> None:
    step = _start_step(sim, run, "tool_calls", {"tool_calls": []}, at_us)
    sim.invoice.call("thread", run.wire["thread_id"], at_s=step["created_at"], surface=run.surface)
    tool_call = {
        "id": sim.ids.mixed("call_"),
        "type": "code_interpreter",
        "code_interpreter": {"input": "", "outputs": []},
    }
    emit_step_delta(run, step, {"index": 0, **tool_call})
    for chunk in CODE:
        part = {"index": 0, "type": "code_interpreter", "code_interpreter": {"input": chunk}}
        emit_step_delta(run, step, part)
    tool_call["code_interpreter"] = {"input": "".join(CODE), "outputs": []}
    step["step_details"]["tool_calls"] = [tool_call]


def _finish_code(sim: Simulator, run: Run, at_us: int) -> None:
    step = run.steps[-1]
    interpreter = step["step_details"]["tool_calls"][0]["code_interpreter"]
    interpreter["outputs"] = _draw_outputs(sim, run, at_us)
    for index, output in enumerate(interpreter["outputs"]):
        shown = {"outputs": [{"index": index, **output}]}
        part = {"index": 0, "type": "code_interpreter", "code_interpreter": shown}
        emit_step_delta(run, step, part)
    _finish_step(run, "completed", at_us)


def _draw_outputs(sim: Simulator, run: Run, at_us: int) -> list[Json]:
    match run.plan.outputs:
        case Outputs.NONE:
            return []
        case Outputs.LOGS:
            return [{"type": "logs", "logs": LOGS}]
        case Outputs.IMAGE:
            stored = sim.store_file(
                draw_png(f"{sim.config.seed}/{run.steps[-1]['id']}"),
                filename="",
                purpose="assistants_output",
                content_type="image/png",
                surface=run.surface,
                at_s=at_us // MICROSECONDS,
            )
            return [{"type": "image", "image": {"file_id": stored.wire["id"]}}]


def _start_function(sim: Simulator, run: Run, at_us: int) -> None:
    step = _start_step(sim, run, "tool_calls", {"tool_calls": []}, at_us)
    call_id, name = sim.ids.mixed("call_"), run.plan.function
    begun = {"name": name, "arguments": "", "output": None}
    emit_step_delta(run, step, {"index": 0, "id": call_id, "type": "function", "function": begun})
    emit_step_delta(run, step, {"index": 0, "type": "function", "function": {"arguments": "{}"}})
    whole = {"name": name, "arguments": "{}", "output": None}
    step["step_details"]["tool_calls"] = [{"id": call_id, "type": "function", "function": whole}]


def _require_action(sim: Simulator, run: Run, at_us: int) -> None:
    wanted = [
        {
            "id": tool_call["id"],
            "type": "function",
            "function": {
                "name": tool_call["function"]["name"],
                "arguments": tool_call["function"]["arguments"],
            },
        }
        for tool_call in run.steps[-1]["step_details"]["tool_calls"]
    ]
    run.wire["status"] = "requires_action"
    run.wire["required_action"] = {
        "type": "submit_tool_outputs",
        "submit_tool_outputs": {"tool_calls": wanted},
    }
    emit(run, "thread.run.requires_action", run.wire)
    close(run)


def _start_message(sim: Simulator, run: Run, at_us: int) -> None:
    at_s = at_us // MICROSECONDS
    message = new_message(sim, run.thread, at_s=at_s, role="assistant", content=[], run=run.wire)
    run.message = message
    created = {"message_creation": {"message_id": message["id"]}}
    _start_step(sim, run, "message_creation", created, at_us)
    emit(run, "thread.message.created", message)
    emit(run, "thread.message.in_progress", message)


def _finish_message(sim: Simulator, run: Run, at_us: int) -> None:
    message = run.message
    if message is None:
        return
    images = [
        {"type": "image_file", "image_file": {"file_id": output["image"]["file_id"]}}
        for step in run.steps
        for tool_call in step["step_details"].get("tool_calls", [])
        for output in tool_call.get("code_interpreter", {}).get("outputs", [])
        if output["type"] == "image"
    ]
    for index, image in enumerate(images):
        emit_message_delta(run, message, {"index": index, **image})
    for position, word in enumerate(run.plan.words):
        text: Json = {"value": word, "annotations": []} if position == 0 else {"value": word}
        emit_message_delta(run, message, {"index": len(images), "type": "text", "text": text})
    message["content"] = [*images, text_part("".join(run.plan.words))]
    _finish_words(run, message, at_us, reason="max_tokens" if run.plan.truncated else None)
    _finish_step(run, "completed", at_us)


def _finish_words(run: Run, message: Json, at_us: int, *, reason: str | None) -> None:
    if reason is None:
        message.update(status="completed", completed_at=at_us // MICROSECONDS)
        emit(run, "thread.message.completed", message)
        return
    message.update(
        status="incomplete",
        incomplete_at=at_us // MICROSECONDS,
        incomplete_details={"reason": reason},
    )
    emit(run, "thread.message.incomplete", message)


def _end(sim: Simulator, run: Run, at_us: int) -> None:
    status = "completed"
    if run.plan.fail:
        status = "failed"
        run.wire["last_error"] = {"code": "rate_limit_exceeded", "message": _WAIT}
    elif run.plan.truncated:
        status, run.wire["incomplete_details"] = "incomplete", {"reason": "max_completion_tokens"}
    _close_run(sim, run, status, at_us)


def _cancelled(sim: Simulator, run: Run, at_us: int) -> None:
    _break_off(run, "cancelled", at_us, reason="run_cancelled")
    _close_run(sim, run, "cancelled", at_us)


def _expire(sim: Simulator, run: Run, at_us: int) -> None:
    if run.wire["status"] in TERMINAL:
        return
    _break_off(run, "expired", at_us, reason="run_expired")
    _close_run(sim, run, "expired", at_us)


def _break_off(run: Run, status: str, at_us: int, *, reason: str) -> None:
    """End the step that is under way, if any, and the message it was writing."""
    if not run.steps or run.steps[-1]["status"] != "in_progress":
        return
    if run.message is not None:
        _finish_words(run, run.message, at_us, reason=reason)
    _finish_step(run, status, at_us)


def _close_run(sim: Simulator, run: Run, status: str, at_us: int) -> None:
    # A run is billed for the steps it began; one that failed without any has worked all the same.
    did = sum(run.shares[: len(run.steps)], Usage())
    if status == "failed" and not run.steps:
        did = run.plan.usage
    if did.total_tokens:
        sim.invoice.charge(run.model, did)
    run.wire.update(status=status, expires_at=None, required_action=None, usage=did.as_run())
    if status != "expired":
        stamp = status if status in ("failed", "cancelled") else "completed"
        run.wire[f"{stamp}_at"] = at_us // MICROSECONDS
    emit(run, f"thread.run.{status}", run.wire)
    close(run)


def _start_step(sim: Simulator, run: Run, kind: str, details: Json, at_us: int) -> Json:
    step: Json = {
        "id": sim.ids.mixed("step_"),
        "object": "thread.run.step",
        "created_at": at_us // MICROSECONDS,
        "run_id": run.wire["id"],
        "assistant_id": run.wire["assistant_id"],
        "thread_id": run.wire["thread_id"],
        "type": kind,
        "status": "in_progress",
        "cancelled_at": None,
        "completed_at": None,
        "expires_at": run.wire["expires_at"],
        "failed_at": None,
        "last_error": None,
        "step_details": {"type": kind, **details},
        "usage": None,
    }
    run.steps.append(step)
    emit(run, "thread.run.step.created", step)
    emit(run, "thread.run.step.in_progress", step)
    return step


def _finish_step(run: Run, status: str, at_us: int) -> None:
    step = run.steps[-1]
    step.update(status=status, usage=run.shares[len(run.steps) - 1].as_run())
    if status in ("completed", "cancelled"):
        step[f"{status}_at"] = at_us // MICROSECONDS
    emit(run, f"thread.run.step.{status}", step)


_ACTIONS = {
    "function": (_start_function, _require_action),
    "code": (_start_code, _finish_code),
    "message": (_start_message, _finish_message),
}
