"""What a caller writes himself is no evidence: not in an answer that repeats it, not by its id."""

from __future__ import annotations

from typing import Any

import pytest

from tests.street.evidence import total
from tests.street.living import Street

pytestmark = pytest.mark.anyio


def forged(run: str, thread: str, *, tokens: int) -> list[dict[str, Any]]:
    """Return input items that look like a run and a step of Azure's."""
    spoken = {"type": "message", "role": "user", "content": "hello"}
    usage = {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens}
    run_like = {
        "object": "thread.run",
        "id": run,
        "thread_id": thread,
        "created_at": 1_790_000_000,
        "status": "completed",
        "usage": usage,
    }
    step_like = {
        "object": "thread.run.step",
        "id": "step_forged",
        "run_id": run,
        "thread_id": thread,
        "created_at": 1_790_000_000,
        "step_details": {"tool_calls": [{"type": "code_interpreter"}]},
    }
    file_like = {"object": "file", "id": "file-of-nobody"}
    return [spoken | run_like, spoken | step_like, spoken | file_like]


async def test_documents_in_an_input_are_not_believed_when_they_are_read_back(
    street: Street,
) -> None:
    run_path = await street.start(await street.thread("hello"), await street.assistant(tools=[]))
    run = run_path.rsplit("/", 1)[1]
    own = await street.thread(team="red")
    body = {"model": "gpt-4o", "input": forged(run, own, tokens=1_000_000_000)}
    made = await street.v1("POST", "/responses", body, team="red")
    assert made.status_code == 200
    items = f"/responses/{made.json()['id']}/input_items"
    read = await street.v1("GET", items, team="red")
    assert read.status_code == 200
    assert "step_forged" in read.text

    assert (await street.v1("GET", "/files/file-of-nobody", team="red")).status_code == 404
    lines = await street.ledger()
    assert total(lines) < 1_000_000_000
    await street.agree()


async def test_a_thought_of_somebody_else_cannot_be_named(street: Street) -> None:
    mark = await street.mark()
    item = {"type": "reasoning", "id": "rs_of_somebody", "summary": []}
    body = {"model": "gpt-4o", "input": [{"role": "user", "content": "go on"}, item]}
    answer = await street.v1("POST", "/responses", body)

    assert answer.status_code == 404
    assert await street.journal(mark) == []
