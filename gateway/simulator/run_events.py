"""The events of a streamed run, written to the log its connection reads."""

from gateway.simulator.exchange import Json
from gateway.simulator.objects import Run

DONE = b"event: done\ndata: [DONE]\n\n"


def emit(run: Run, name: str, content: Json) -> None:
    """Write an event, if somebody streams."""
    if run.log is not None:
        run.log.event(name, content)


def emit_step_delta(run: Run, step: Json, tool_call: Json) -> None:
    """Write a piece of one tool call of a step."""
    details = {"type": "tool_calls", "tool_calls": [tool_call]}
    delta = {"step_details": details}
    content = {"id": step["id"], "object": "thread.run.step.delta", "delta": delta}
    emit(run, "thread.run.step.delta", content)


def emit_message_delta(run: Run, message: Json, part: Json) -> None:
    """Write a piece of a message."""
    delta = {"content": [part]}
    content = {"id": message["id"], "object": "thread.message.delta", "delta": delta}
    emit(run, "thread.message.delta", content)


def close(run: Run) -> None:
    """End the stream, if there is one; what the run does later is not in it."""
    if run.log is not None:
        run.log.close(DONE)
        run.log = None
