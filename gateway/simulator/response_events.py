"""The events of a streamed response, in the order they have on the wire.

Source: streams of the Responses API with code interpreter, 2025-09.
"""

from gateway.simulator.exchange import EventLog, Json
from gateway.simulator.run_course import CODE
from gateway.simulator.script import Plan


class ResponseStream:
    """Writes events to a log and numbers them."""

    def __init__(self) -> None:
        self.log = EventLog()
        self._number = 0

    def event(self, name: str, content: Json) -> None:
        """Write the event `response.<name>`."""
        kind = f"response.{name}"
        head = {"type": kind, "sequence_number": self._number}
        self.log.event(kind, {**head, **content})
        self._number += 1


def stream_of(begun: Json, ended: Json, plan: Plan) -> EventLog:
    """Return the whole stream of a response, from `begun` to `ended`."""
    stream = ResponseStream()
    stream.event("created", {"response": begun})
    stream.event("in_progress", {"response": begun})
    for index, item in enumerate(ended["output"]):
        match item["type"]:
            case "code_interpreter_call":
                _interpret(stream, index, item)
            case "function_call":
                _call_function(stream, index, item)
            case _:
                _write_message(stream, index, item, plan.words)
    stream.event(ended["status"], {"response": ended})
    stream.log.close()
    return stream.log


def _interpret(stream: ResponseStream, index: int, item: Json) -> None:
    begun = {**item, "status": "in_progress", "code": "", "outputs": None}
    where = {"output_index": index, "item_id": item["id"]}
    stream.event("output_item.added", {"output_index": index, "item": begun})
    stream.event("code_interpreter_call.in_progress", where)
    for chunk in CODE:
        delta = {"delta": chunk, "obfuscation": ""}
        stream.event("code_interpreter_call_code.delta", {**where, **delta})
    stream.event("code_interpreter_call_code.done", {**where, "code": item["code"]})
    stream.event("code_interpreter_call.interpreting", where)
    stream.event("code_interpreter_call.completed", where)
    stream.event("output_item.done", {"output_index": index, "item": item})


def _call_function(stream: ResponseStream, index: int, item: Json) -> None:
    begun = {**item, "status": "in_progress", "arguments": ""}
    where = {"output_index": index, "item_id": item["id"]}
    stream.event("output_item.added", {"output_index": index, "item": begun})
    delta = {"delta": item["arguments"], "obfuscation": ""}
    stream.event("function_call_arguments.delta", {**where, **delta})
    done = {"arguments": item["arguments"], "name": item["name"]}
    stream.event("function_call_arguments.done", {**where, **done})
    stream.event("output_item.done", {"output_index": index, "item": item})


def _write_message(stream: ResponseStream, index: int, item: Json, words: list[str]) -> None:
    part = item["content"][0]
    begun = {**item, "status": "in_progress", "content": []}
    stream.event("output_item.added", {"output_index": index, "item": begun})
    where = {"item_id": item["id"], "output_index": index, "content_index": 0}
    empty = {**part, "annotations": [], "text": ""}
    stream.event("content_part.added", {**where, "part": empty})
    for word in words:
        delta = {"delta": word, "logprobs": [], "obfuscation": ""}
        stream.event("output_text.delta", {**where, **delta})
    for number, annotation in enumerate(part["annotations"]):
        added = {"annotation_index": number, "annotation": annotation}
        stream.event("output_text.annotation.added", {**where, **added})
    stream.event("output_text.done", {**where, "text": part["text"], "logprobs": []})
    stream.event("content_part.done", {**where, "part": part})
    stream.event("output_item.done", {"output_index": index, "item": item})
