"""Sessions on threads: what opens one, for how long, and however it becomes known."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from gateway.core.model import Confidence, Meter
from tests.street.living import INTERPRETER, SESSION_NANO_USD, VERSION, Street

pytestmark = pytest.mark.anyio


async def _sessions(street: Street) -> int:
    return int((await street.agree())["session_count"])


async def _session_lines(street: Street) -> list[tuple[str, int]]:
    return [
        (row.posting.kind.value, row.posting.charge.quantity)
        for row in await street.ledger()
        if row.posting.charge.meter is Meter.CODE_INTERPRETER_SESSION
    ]


@pytest.mark.parametrize(("after_s", "sessions"), [(3599, 1), (3600, 2)])
async def test_a_session_lasts_an_hour_to_the_second(
    street: Street, after_s: int, sessions: int
) -> None:
    assistant, thread = await street.assistant(), await street.thread()
    await street.call(thread, assistant)
    await street.until(after_s)
    await street.call(thread, assistant)

    assert await _sessions(street) == sessions


async def test_calls_heard_last_first_end_in_the_same_two_sessions(street: Street) -> None:
    assistant, thread = await street.assistant(), await street.thread()
    runs = []
    for minute in (0, 50, 80):
        now = minute * 60
        await street.azure.post("/simulator/clock", json={"now_s": 1_790_000_000 + now})
        await street.say(thread, "[[sim calls=1 run_s=1]]")
        runs.append(await street.start(thread, assistant))
        await street.advance_azure(5)

    standing = []
    for run in reversed(runs):
        steps = await street.dated("GET", f"{run}/steps")
        assert steps.status_code == 200
        standing.append((await street.sessions_posted())[0])

    assert standing == [1, 1, 2]
    assert await _session_lines(street) == [
        ("charge", 1),
        ("correction", -1),
        ("charge", 1),
        ("correction", -1),
        ("charge", 1),
        ("correction", 1),
    ]
    assert await _sessions(street) == 2


async def test_a_run_that_fails_after_the_call_pays_for_it(street: Street) -> None:
    assistant, thread = await street.assistant(), await street.thread("[[sim calls=1 fail=1]]")
    await street.start(thread, assistant)
    other = await street.thread("[[sim calls=1 fail=1]]")
    body = {"assistant_id": assistant, "stream": True}
    streamed = await street.dated("POST", f"/threads/{other}/runs", body)

    assert "thread.run.failed" in streamed.text
    assert await _sessions(street) == 2


async def test_a_call_without_outputs_is_a_call(street: Street) -> None:
    assistant, thread = (
        await street.assistant(),
        await street.thread("[[sim calls=1 outputs=none]]"),
    )
    await street.start(thread, assistant)

    assert await _sessions(street) == 1


async def test_a_run_that_never_calls_the_tool_opens_nothing(street: Street) -> None:
    assistant = await street.assistant()
    await street.start(await street.thread("[[sim calls=0]]"), assistant)
    body = {"assistant_id": assistant, "stream": True}
    thread = await street.thread("[[sim calls=0]]")
    await street.dated("POST", f"/threads/{thread}/runs", body)

    assert await _sessions(street) == 0
    assert await street.sessions_posted() == (0, 0)


async def test_two_threads_are_two_sessions_at_the_same_moment(street: Street) -> None:
    assistant = await street.assistant()
    for _ in range(2):
        await street.call(await street.thread(), assistant)

    assert await _sessions(street) == 2


async def test_a_run_that_nobody_looks_at_again_is_paid_for(street: Street) -> None:
    assistant = await street.assistant()
    await street.start(await street.thread("[[sim calls=2 tokens=100/40/7]]"), assistant)

    invoice = await street.agree()

    assert invoice["session_count"] == 1
    assert invoice["tokens"][0]["cached_input_tokens"] == 40
    found = {row.posting.charge.confidence for row in await street.ledger()}
    assert found == {Confidence.RECOVERED}


async def test_steps_read_one_at_a_time_leave_no_call_unheard(street: Street) -> None:
    assistant = await street.assistant()
    run = await street.start(await street.thread("[[sim calls=3 run_s=400]]"), assistant)
    await street.until(300)
    page = await street.dated("GET", f"{run}/steps?limit=1&order=asc")
    assert len(page.json()["data"]) == 1

    assert await _sessions(street) == 1
    assert (await street.invoice())["sessions"][0]["calls"] == 3
    scope = (await street.gateway.house.store.sessions())[0]
    assert scope.calls == 3


async def test_a_poll_that_sees_the_end_does_not_lose_the_calls_in_the_steps(
    street: Street,
) -> None:
    assistant = await street.assistant()
    run = await street.start(await street.thread("[[sim calls=1]]"), assistant)
    await street.advance(11)
    assert (await street.dated("GET", run)).json()["status"] == "completed"
    assert (await street.dated("GET", f"{run}/steps?limit=1&order=desc")).status_code == 200

    assert await _sessions(street) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_a_thread_created_and_run_at_once_is_metered_like_any_other(
    street: Street, stream: bool
) -> None:
    assistant = await street.assistant()
    message = {"role": "user", "content": "[[sim calls=1]]"}
    body = {"assistant_id": assistant, "thread": {"messages": [message]}, "stream": stream}
    answer = await street.dated("POST", "/threads/runs", body)
    assert answer.status_code == 200

    invoice = await street.agree()

    assert invoice["session_count"] == 1
    thread = invoice["sessions"][0]["scope"]
    assert (await street.dated("GET", f"/threads/{thread}")).status_code == 200
    assert (await street.dated("GET", f"/threads/{thread}", team="red")).status_code == 404


@pytest.mark.parametrize("stream", [True, False])
async def test_a_run_that_waits_for_outputs_is_paid_for_when_it_has_gone_on(
    street: Street, stream: bool
) -> None:
    function = {"type": "function", "function": {"name": "lookup", "parameters": {}}}
    assistant = await street.assistant(tools=[INTERPRETER, function])
    thread = await street.thread("[[sim calls=1 function=lookup run_s=0]]")
    run = await street.start(thread, assistant)
    waiting = (await street.dated("GET", run)).json()
    assert waiting["status"] == "requires_action"
    calls = waiting["required_action"]["submit_tool_outputs"]["tool_calls"]
    outputs = [{"tool_call_id": call["id"], "output": "42"} for call in calls]
    body = {"tool_outputs": outputs, "stream": stream}
    answer = await street.dated("POST", f"{run}/submit_tool_outputs", body)
    assert answer.status_code == 200

    assert await _sessions(street) == 1


@pytest.mark.parametrize("events", [1, 2, 5, 9, 18])
async def test_a_stream_cut_anywhere_is_settled_to_the_cent(street: Street, events: int) -> None:
    assistant, thread = await street.assistant(), await street.thread()
    await street.say(thread, f"[[sim calls=1 cut={events} tokens=50/10/5]]")
    body = {"assistant_id": assistant, "stream": True}
    target = f"/threads/{thread}/runs"
    text = await _read_what_comes(street, target, body)
    assert "[DONE]" not in text

    assert await _sessions(street) == 1


async def _read_what_comes(street: Street, path: str, body: Any) -> str:
    seen = ""
    target = f"/openai{path}?api-version={VERSION}"
    async with street.blue.stream("POST", target, json=body) as answer:
        pieces = answer.aiter_text()
        while True:
            try:
                seen += await anext(pieces)
            except httpx.RemoteProtocolError:
                return seen


async def test_a_cancelled_run_pays_for_what_it_called(street: Street) -> None:
    assistant = await street.assistant()
    run = await street.start(await street.thread("[[sim calls=1 run_s=300]]"), assistant)
    await street.advance(200)
    assert (await street.dated("POST", f"{run}/cancel")).status_code == 200

    assert await _sessions(street) == 1


async def test_an_expired_run_pays_for_what_it_called(street: Street) -> None:
    assistant = await street.assistant()
    run = await street.start(await street.thread("[[sim calls=1 run_s=1800]]"), assistant)
    await street.advance(700)
    await street.settled()

    assert (await street.dated("GET", run)).json()["status"] == "expired"
    await street.agree()


async def test_a_thread_deleted_before_anybody_looked_is_paid_for(street: Street) -> None:
    assistant = await street.assistant()
    thread = await street.thread("[[sim calls=1]]")
    await street.start(thread, assistant)
    gone = await street.dated("DELETE", f"/threads/{thread}")
    assert gone.json() == {"id": thread, "object": "thread.deleted", "deleted": True}
    assert (await street.dated("GET", f"/threads/{thread}")).status_code == 404

    assert await _sessions(street) == 1
    deletions = [row for row in await street.journal() if row["method"] == "DELETE"]
    assert len(deletions) == 1


async def test_sessions_in_both_teams_land_on_the_team_that_called(street: Street) -> None:
    for team, calls in (("blue", 1), ("red", 2)):
        assistant = await street.assistant(team=team)
        for _ in range(calls):
            await street.call(await street.thread(team=team), assistant, team=team)

    await street.agree()

    assert await street.sessions_posted("blue") == (1, 0)
    assert await street.sessions_posted("red") == (2, 0)
    spent = sum(row.posting.charge.nano_usd for row in await street.ledger())
    assert spent > 3 * SESSION_NANO_USD
