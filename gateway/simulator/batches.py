"""Batches: a file of requests, answered within a day at half the price.

By the clock, a quarter of a run's time after its creation a batch has been validated (or has
failed), at three quarters its lines are answered and billed, each as the request it is, and at the
end its files are there: answers in one, refusals in the other.

Source: Azure OpenAI batch page (purposes, statuses, line format, 50 % less than global standard)
and authoring specification 2024-10-21 (201 with Location).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from gateway.simulator import chat, completions, embeddings, responses
from gateway.simulator.clock import MICROSECONDS
from gateway.simulator.errors import Fault, backend, missing, no_such
from gateway.simulator.exchange import Call, Json, Received, Reply, fault_reply, json_reply
from gateway.simulator.listing import page
from gateway.simulator.objects import Batch
from gateway.simulator.state import Simulator

LINES_MAX = 100_000
WINDOW_S = 86_400
_HANDLERS = {
    "/chat/completions": chat.create_chat_completion,
    "/completions": completions.create_completion,
    "/embeddings": embeddings.create_embeddings,
    "/responses": responses.create_response,
}
_STAMPS = (
    "in_progress_at",
    "expires_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)


@dataclass(frozen=True, slots=True)
class Line:
    """One request of a batch."""

    custom_id: str
    body: Json


def create_batch(sim: Simulator, call: Call) -> Reply:
    """Accept a batch; what is wrong with its file shows later."""
    body = call.json()
    for name in ("input_file_id", "endpoint", "completion_window"):
        if body.get(name) is None:
            raise missing(name)
    if body["endpoint"].removeprefix("/v1") not in _HANDLERS:
        raise backend(f"Invalid value: '{body['endpoint']}'.", param="endpoint")
    if body["completion_window"] != "24h":
        raise backend("Invalid value for 'completion_window': expected '24h'.")
    sim.file(body["input_file_id"])
    wire: Json = {
        "id": sim.ids.mixed("batch_"),
        "object": "batch",
        "endpoint": body["endpoint"],
        "errors": None,
        "input_file_id": body["input_file_id"],
        "completion_window": "24h",
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": sim.now_s(),
        **dict.fromkeys(_STAMPS),
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": body.get("metadata") or {},
    }
    wire["expires_at"] = sim.now_s() + WINDOW_S
    batch = sim.batches[wire["id"]] = Batch(wire, call.surface)
    quarter_us = round(sim.config.run_s * MICROSECONDS) // 4
    sim.at(sim.present_us + quarter_us, partial(_validate, sim, batch, quarter_us))
    if call.is_v1:
        return json_reply(wire)
    where = call.address_of(f"/openai/batches/{wire['id']}")
    return json_reply(wire, status=201, headers={"location": where, "operation-location": where})


def list_batches(sim: Simulator, call: Call) -> Reply:
    """List the batches."""
    return json_reply(page(call, [batch.wire for batch in sim.batches.values()]))


def get_batch(sim: Simulator, call: Call) -> Reply:
    """Answer a batch as it is now."""
    return json_reply(_find(sim, call).wire)


def cancel_batch(sim: Simulator, call: Call) -> Reply:
    """Begin to cancel a batch whose lines have not been answered."""
    batch = _find(sim, call)
    status = batch.wire["status"]
    if status not in ("validating", "in_progress"):
        raise backend(f"Cannot cancel a batch with status '{status}'.", status=409)
    batch.wire.update(status="cancelling", cancelling_at=sim.now_s())
    sim.at(sim.present_us, partial(_move, batch, "cancelled"))
    return json_reply(batch.wire)


def _validate(sim: Simulator, batch: Batch, quarter_us: int, at_us: int) -> None:
    if batch.wire["status"] != "validating":
        return
    stored = sim.files.get(batch.wire["input_file_id"])
    lines, errors = _read_lines(stored.content if stored else b"", batch.wire["endpoint"])
    if errors:
        batch.wire["errors"] = {"object": "list", "data": errors}
        _move(batch, "failed", at_us)
        return
    batch.wire["request_counts"]["total"] = len(lines)
    _move(batch, "in_progress", at_us)
    sim.at(at_us + 2 * quarter_us, partial(_answer_lines, sim, batch, lines, quarter_us))


def _answer_lines(
    sim: Simulator, batch: Batch, lines: list[Line], quarter_us: int, at_us: int
) -> None:
    if batch.wire["status"] != "in_progress":
        return
    _move(batch, "finalizing", at_us)
    rows: dict[str, list[bytes]] = {"output": [], "error": []}
    with sim.invoice.at_batch_price():
        for line in lines:
            reply = _answer_line(sim, batch, line)
            row = _row(sim, line, reply)
            rows["output" if reply.status == 200 else "error"].append(orjson.dumps(row))
    counts = {"completed": len(rows["output"]), "failed": len(rows["error"])}
    batch.wire["request_counts"].update(counts)
    sim.at(at_us + quarter_us, partial(_complete, sim, batch, rows))


def _complete(sim: Simulator, batch: Batch, rows: dict[str, list[bytes]], at_us: int) -> None:
    for name, written in rows.items():
        if not written:
            continue
        stored = sim.store_file(
            b"\n".join(written) + b"\n",
            filename=f"{batch.wire['id']}_{name}.jsonl",
            purpose="batch_output",
            content_type="application/octet-stream",
            surface=batch.surface,
            at_s=at_us // MICROSECONDS,
        )
        batch.wire[f"{name}_file_id"] = stored.wire["id"]
    _move(batch, "completed", at_us)


def _move(batch: Batch, status: str, at_us: int) -> None:
    batch.wire.update({"status": status, f"{status}_at": at_us // MICROSECONDS})


def _answer_line(sim: Simulator, batch: Batch, line: Line) -> Reply:
    path = batch.wire["endpoint"].removeprefix("/v1")
    headers = [("content-type", "application/json")]
    received = Received("POST", f"/openai/v1{path}", headers, orjson.dumps(line.body))
    try:
        if line.body.get("stream") or line.body.get("background"):
            raise backend("A line of a batch is answered at once and whole.", param="stream")
        return _HANDLERS[path](sim, Call(received, "v1", "v1", {}, {}))
    except Fault as fault:
        return fault_reply(fault)


def _row(sim: Simulator, line: Line, reply: Reply) -> Json:
    body = orjson.loads(reply.body) if isinstance(reply.body, bytes) else None
    answer = {"status_code": reply.status, "request_id": sim.ids.request(), "body": body}
    row_id = sim.ids.mixed("batch_req_")
    return {"id": row_id, "custom_id": line.custom_id, "response": answer, "error": None}


def _read_lines(content: bytes, endpoint: str) -> tuple[list[Line], list[Json]]:
    """Return the requests of a file, or what is wrong with its lines."""
    lines: list[Line] = []
    errors: list[Json] = []
    seen: set[str] = set()
    for number, text in enumerate(content.splitlines(), start=1):
        if not text.strip():
            continue
        read = _read_line(text, endpoint, seen)
        if isinstance(read, Line):
            lines.append(read)
            seen.add(read.custom_id)
        else:
            errors.append(_error(read, "The line is not a request of this batch.", number))
    if len(lines) > LINES_MAX:
        errors.append(_error("too_many_tasks", f"A batch has at most {LINES_MAX} lines.", None))
    if not lines and not errors:
        errors.append(_error("empty_file", "The input file is empty.", None))
    return lines, errors


def _read_line(text: bytes, endpoint: str, seen: set[str]) -> Line | str:
    """Return a line's request, or the code of what is wrong with it."""
    try:
        row: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        return "invalid_json_line"
    match row:
        case {"custom_id": str(custom_id), "method": "POST", "url": str(url), "body": dict(body)}:
            if custom_id in seen:
                return "duplicate_custom_id"
            same = url.removeprefix("/v1") == endpoint.removeprefix("/v1")
            return Line(custom_id, body) if same else "url_mismatch"
        case _:
            return "invalid_request"


def _error(code: str, message: str, line: int | None) -> Json:
    return {"code": code, "message": message, "param": None, "line": line}


def _find(sim: Simulator, call: Call) -> Batch:
    batch = sim.batches.get(call.names["batch_id"])
    if batch is None:
        raise no_such("batch", call.names["batch_id"])
    return batch
