"""Batches: lines are answered by the clock, at half the price, and refused lines apart."""

import json
from typing import Any

import pytest

from tests.simulator.resource import START_S, Resource


def chat(custom_id: str, text: str, **more: Any) -> dict[str, Any]:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **more}
    return {"custom_id": custom_id, "method": "POST", "url": "/chat/completions", "body": body}


def submit(azure: Resource, lines: list[Any], endpoint: str = "/chat/completions") -> str:
    written = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    files = {"file": ("in.jsonl", "\n".join(written).encode(), "application/jsonl")}
    target = "/openai/v1/files"
    file = azure.http.post(target, files=files, data={"purpose": "batch"}).json()
    body = {"input_file_id": file["id"], "endpoint": endpoint, "completion_window": "24h"}
    made = azure.v1("POST", "/batches", body).json()
    assert made["status"] == "validating"
    return f"/batches/{made['id']}"


def rows_of(azure: Resource, file_id: str) -> list[Any]:
    text = azure.v1("GET", f"/files/{file_id}/content").text
    return [json.loads(line) for line in text.splitlines()]


def test_a_batch_goes_its_way_by_the_clock(azure: Resource) -> None:
    path = submit(azure, [chat("a", "hi")])
    seen = []
    for _ in range(4):
        azure.advance(2.5)
        seen.append(azure.v1("GET", path).json()["status"])
    assert seen == ["in_progress", "in_progress", "finalizing", "completed"]
    batch = azure.v1("GET", path).json()
    assert batch["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
    assert (batch["finalizing_at"], batch["completed_at"]) == (START_S + 7, START_S + 10)
    assert batch["error_file_id"] is None
    (row,) = rows_of(azure, batch["output_file_id"])
    assert row["custom_id"] == "a"
    assert row["response"]["body"]["object"] == "chat.completion"
    file = azure.v1("GET", f"/files/{batch['output_file_id']}").json()
    assert file["purpose"] == "batch_output"


def test_a_line_costs_half_and_stands_in_a_row_of_its_own(azure: Resource) -> None:
    submit(azure, [chat("a", "[[sim tokens=1000/0/100]]"), chat("b", "[[sim tokens=1000/0/100]]")])
    whole = {"model": "gpt-4o", "messages": [{"role": "user", "content": "[[sim tokens=10/0/1]]"}]}
    azure.v1("POST", "/chat/completions", whole)
    azure.advance(10)
    invoice = azure.invoice()
    assert invoice["tokens"] == [
        {
            "model": "gpt-4o",
            "input_tokens": 10,
            "cached_input_tokens": 0,
            "output_tokens": 1,
            "calls": 1,
            "nano_usd": 35_000,
        },
        {
            "model": "gpt-4o",
            "input_tokens": 2000,
            "cached_input_tokens": 0,
            "output_tokens": 200,
            "calls": 2,
            "nano_usd": 3_500_000,
            "batch": True,
        },
    ]
    assert invoice["total_nano_usd"] == 3_535_000


def test_a_refused_line_stands_in_the_error_file(azure: Resource) -> None:
    lines = [chat("good", "hi"), chat("bad", "hi", n=129), chat("live", "hi", stream=True)]
    lines[0]["body"]["model"] = "gpt-4o-mini"
    path = submit(azure, [*lines, chat("busy", "[[sim status=429]]"), chat("typed", "x", n="1")])
    azure.advance(10)
    batch = azure.v1("GET", path).json()
    assert batch["request_counts"] == {"total": 5, "completed": 1, "failed": 4}
    rows = rows_of(azure, batch["error_file_id"])
    codes = {row["custom_id"]: row["response"]["status_code"] for row in rows}
    assert codes == {"bad": 400, "live": 400, "busy": 429, "typed": 400}
    (line,) = azure.invoice()["tokens"]
    assert (line["model"], line["calls"]) == ("gpt-4o-mini", 1)


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([], "empty_file"),
        (["{"], "invalid_json_line"),
        (["[]"], "invalid_request"),
        ([chat("a", "x"), chat("a", "x")], "duplicate_custom_id"),
        ([{**chat("a", "x"), "url": "/embeddings"}], "url_mismatch"),
    ],
)
def test_a_file_that_is_no_batch_fails_and_costs_nothing(
    azure: Resource, lines: list[Any], code: str
) -> None:
    path = submit(azure, lines or [""])
    azure.advance(10)
    batch = azure.v1("GET", path).json()
    assert (batch["status"], batch["errors"]["data"][0]["code"]) == ("failed", code)
    assert azure.invoice()["total_nano_usd"] == 0


def test_a_batch_cancelled_before_its_lines_are_answered_costs_nothing(azure: Resource) -> None:
    path = submit(azure, [chat("a", "hi")])
    azure.advance(3)
    assert azure.v1("POST", f"{path}/cancel").json()["status"] == "cancelling"
    assert azure.v1("GET", path).json()["status"] == "cancelled"
    azure.advance(10)
    assert azure.v1("GET", path).json()["status"] == "cancelled"
    assert azure.v1("POST", f"{path}/cancel").status_code == 409
    assert azure.invoice()["total_nano_usd"] == 0


def test_code_interpreter_in_a_batch_opens_its_sessions_when_it_runs(azure: Resource) -> None:
    tool = {"type": "code_interpreter", "container": {"type": "auto"}}
    body = {"model": "gpt-4o", "input": "compute this", "tools": [tool]}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body}
    submit(azure, [line], endpoint="/v1/responses")
    azure.advance(4000)
    (session,) = azure.invoice()["sessions"]
    assert (session["opened_at"], session["calls"]) == (START_S + 7, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": "/v1/images"},
        {"completion_window": "1h"},
        {"input_file_id": "file-none"},
        {"endpoint": None},
    ],
)
def test_a_batch_that_cannot_be_is_refused(azure: Resource, change: dict[str, Any]) -> None:
    body = {"input_file_id": "x", "endpoint": "/embeddings", "completion_window": "24h"}
    assert azure.v1("POST", "/batches", {**body, **change}).status_code in (400, 404)
    assert azure.v1("GET", "/batches").json()["data"] == []


def test_a_dated_batch_is_created_with_its_location(azure: Resource) -> None:
    version = "2024-10-21"
    files = {"file": ("in.jsonl", json.dumps(chat("a", "hi")).encode(), "application/jsonl")}
    target = f"/openai/files?api-version={version}"
    file = azure.http.post(target, files=files, data={"purpose": "batch"}).json()
    body = {
        "input_file_id": file["id"],
        "endpoint": "/chat/completions",
        "completion_window": "24h",
    }
    made = azure.dated("POST", "/batches", body, version=version)
    assert made.status_code == 201
    assert azure.http.get(made.headers["location"]).json()["id"] == made.json()["id"]
    assert made.headers["operation-location"] == made.headers["location"]
