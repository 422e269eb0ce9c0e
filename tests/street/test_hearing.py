"""Heard from everywhere, posted once: every way to hear of a call, alone, twice, in both orders.

Each story begins one piece of work that calls the interpreter, lets it be heard of in one way after
another, or not at all, and leaves the rest to the settlement. A session is opened in every one of
them, and the ledger is the invoice, whoever heard what first.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import httpx
import pytest

from tests.street.evidence import sessions_by_scope
from tests.street.living import AUTO, INTERPRETER, Street

pytestmark = pytest.mark.anyio

FUNCTION = {"type": "function", "function": {"name": "lookup", "parameters": {}}}
CALLS = 2


@dataclass(frozen=True)
class Work:
    """A piece of work under way, and where on its surface it can be asked for."""

    street: Street
    surface: str
    path: str

    async def ask(self, below: str = "") -> httpx.Response:
        """Ask for the work or for something below it."""
        return await asked(self.street, self.surface, "GET", f"{self.path}{below}")


async def asked(
    street: Street, surface: str, method: str, path: str, body: Any = None
) -> httpx.Response:
    send = {"dated": street.dated, "project": street.project, "v1": street.v1}[surface]
    answer = await send(method, path, body)
    assert answer.status_code == 200, answer.text
    return answer


def events(text: str) -> Iterator[dict[str, Any]]:
    """Yield the documents of an event stream."""
    for line in text.splitlines():
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


# beginning a run


async def a_thread(street: Street, surface: str, text: str) -> str:
    body = {"messages": [{"role": "user", "content": text}]}
    return str((await street.made("/threads", body, surface=surface))["id"])


async def an_assistant(street: Street, surface: str, *tools: Any) -> str:
    body = {"model": "gpt-4o", "tools": [INTERPRETER, *tools]}
    return str((await street.made("/assistants", body, surface=surface))["id"])


def first_run(answer: httpx.Response, *, stream: bool) -> dict[str, Any]:
    """Return the run an answer tells of."""
    found = events(answer.text) if stream else iter([answer.json()])
    return next(each for each in found if each.get("object") == "thread.run")


async def begun(street: Street, surface: str, *, stream: bool, at_once: bool) -> Work:
    """Begin a run, in a new thread of its own or one made with it; it takes a minute if polled."""
    text = f"[[sim calls={CALLS}{'' if stream else ' run_s=60'}]]"
    body: dict[str, Any] = {"assistant_id": await an_assistant(street, surface), "stream": stream}
    path = "/threads/runs"
    if at_once:
        body["thread"] = {"messages": [{"role": "user", "content": text}]}
    else:
        path = f"/threads/{await a_thread(street, surface, text)}/runs"
    run = first_run(await asked(street, surface, "POST", path, body), stream=stream)
    return Work(street, surface, f"/threads/{run['thread_id']}/runs/{run['id']}")


async def continued(street: Street, surface: str, *, streams: tuple[bool, bool]) -> Work:
    """Begin a run that waits for the outputs of a function, and go on with it."""
    text = f"[[sim calls={CALLS} function=lookup{'' if streams[0] else ' run_s=0'}]]"
    assistant = await an_assistant(street, surface, FUNCTION)
    thread = await a_thread(street, surface, text)
    body: dict[str, Any] = {"assistant_id": assistant, "stream": streams[0]}
    answer = await asked(street, surface, "POST", f"/threads/{thread}/runs", body)
    run = first_run(answer, stream=streams[0])
    work = Work(street, surface, f"/threads/{thread}/runs/{run['id']}")
    waiting = (await work.ask()).json()
    assert waiting["status"] == "requires_action"
    calls = waiting["required_action"]["submit_tool_outputs"]["tool_calls"]
    outputs = [{"tool_call_id": each["id"], "output": "42"} for each in calls]
    body = {"tool_outputs": outputs, "stream": streams[1]}
    await asked(street, surface, "POST", f"{work.path}/submit_tool_outputs", body)
    return work


Begin = Callable[[Street, str], Awaitable[Work]]
RUNS: Mapping[str, Begin] = {
    "run polled": lambda street, on: begun(street, on, stream=False, at_once=False),
    "run streamed": lambda street, on: begun(street, on, stream=True, at_once=False),
    "created and run, polled": lambda street, on: begun(street, on, stream=False, at_once=True),
    "created and run, streamed": lambda street, on: begun(street, on, stream=True, at_once=True),
    "outputs submitted, polled": lambda street, on: continued(street, on, streams=(False, False)),
    "outputs submitted, streamed": lambda street, on: continued(street, on, streams=(False, True)),
    "streamed from end to end": lambda street, on: continued(street, on, streams=(True, True)),
}


# hearing of a run

Hear = Callable[[Work], Awaitable[None]]


async def hear_run(work: Work) -> None:
    await work.ask()


async def hear_runs(work: Work) -> None:
    await asked(work.street, work.surface, "GET", work.path.rpartition("/")[0])


async def hear_steps_one_by_one(work: Work) -> None:
    """Read the steps as a poller does: the newest first, one on a page, while there are more."""
    after, pages = "", 0
    while True:
        page = (await work.ask(f"/steps?limit=1{after}")).json()
        pages += 1
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    assert pages <= 2 * CALLS + 2


async def hear_newest_step(work: Work) -> None:
    """Read one page of one step, and leave the rest although there are more."""
    await work.ask("/steps?limit=1")


async def hear_each_step(work: Work) -> None:
    listed = (await work.ask("/steps?limit=100&order=asc")).json()["data"]
    for step in listed[-1:]:
        await work.ask(f"/steps/{step['id']}")


HEARERS: Mapping[str, Hear] = {
    "run": hear_run,
    "runs": hear_runs,
    "steps": hear_steps_one_by_one,
    "newest step": hear_newest_step,
    "step": hear_each_step,
}


def orders(names: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return no name, each once, each twice, and every two in both orders."""
    return [
        (),
        *((name,) for name in names),
        *((name, name) for name in names),
        *permutations(names, 2),
    ]


@pytest.mark.parametrize(
    ("begin", "surface"),
    [*((name, "dated") for name in RUNS), ("run polled", "project"), ("run streamed", "project")],
)
async def test_a_run_is_posted_once_however_often_and_in_which_order_it_is_heard(
    street: Street, begin: str, surface: str
) -> None:
    stories = orders(HEARERS)
    works = [await RUNS[begin](street, surface) for _ in stories]
    # The settlement sleeps for as long as the gateway's own clock stands still. Half of the stories
    # are heard first while the runs are under way.
    await street.advance_azure(30)
    for number, (story, work) in enumerate(zip(stories, works, strict=True)):
        for name in story[: number % 2]:
            await HEARERS[name](work)
    await street.advance_azure(120)
    for story, work in zip(stories, works, strict=True):
        for name in story:
            await HEARERS[name](work)

    invoice = await street.agree()
    assert invoice["session_count"] == len(stories)
    assert all(row["calls"] == CALLS for row in invoice["sessions"])
    assert set(sessions_by_scope(await street.ledger()).values()) == {1}
    known = await street.gateway.house.store.sessions()
    assert {row.calls for row in known} == {CALLS}


# responses


async def responded(street: Street, _surface: str, **more: Any) -> Work:
    """Have a response made that calls the interpreter."""
    body = {"model": "gpt-4o", "input": f"[[sim calls={CALLS}]]", "tools": [AUTO], **more}
    answer = await asked(street, "v1", "POST", "/responses", body)
    if body.get("stream"):
        response = next(each["response"] for each in events(answer.text) if "response" in each)
    else:
        response = answer.json()
    return Work(street, "v1", f"/responses/{response['id']}")


async def second_turn(street: Street, surface: str) -> Work:
    """Have a conversation of two turns, the second of which takes up the container."""
    conversation = (await street.made("/conversations", {}, surface="v1"))["id"]
    half = f"[[sim calls={CALLS // 2}]]"
    await responded(street, surface, conversation=conversation, input=half)
    return await responded(street, surface, conversation=conversation, input=half)


async def in_made_container(street: Street, surface: str) -> Work:
    """Make a container and have a response call in it."""
    made = await street.made("/containers", {"name": "x"}, surface="v1")
    tools = [{"type": "code_interpreter", "container": made["id"]}]
    return await responded(street, surface, tools=tools)


RESPONSES: Mapping[str, Begin] = {
    "plain": responded,
    "streamed": lambda street, on: responded(street, on, stream=True),
    "in the background": lambda street, on: responded(street, on, background=True),
    "second turn of a conversation": second_turn,
    "in a container that was made": in_made_container,
}


async def hear_response(work: Work) -> None:
    await work.ask()


async def hear_stream_again(work: Work) -> None:
    """Read the stream of a response again from its beginning."""
    assert "response.completed" in (await work.ask("?stream=true")).text


async def hear_end_of_stream(work: Work) -> None:
    """Resume the stream behind the event that first shows the container."""
    assert "response.completed" in (await work.ask("?stream=true&starting_after=2")).text


RESPONSE_HEARERS: Mapping[str, Hear] = {
    "response": hear_response,
    "stream": hear_stream_again,
    "end of stream": hear_end_of_stream,
}


@pytest.mark.parametrize("begin", RESPONSES)
async def test_a_response_is_posted_once_however_often_and_in_which_order_it_is_heard(
    street: Street, begin: str
) -> None:
    stories = orders(RESPONSE_HEARERS)
    works = [await RESPONSES[begin](street, "v1") for _ in stories]
    if begin == "in the background":
        for work in works[::2]:
            assert (await work.ask()).json()["status"] == "queued"
    await street.advance_azure(120)
    for story, work in zip(stories, works, strict=True):
        for name in story:
            await RESPONSE_HEARERS[name](work)

    invoice = await street.agree()
    assert invoice["session_count"] == len(stories)
    assert all(row["calls"] == CALLS for row in invoice["sessions"])
    assert set(sessions_by_scope(await street.ledger()).values()) == {1}


async def test_a_container_that_was_made_and_never_called_is_posted_once(street: Street) -> None:
    made = await street.made("/containers", {"name": "x"}, surface="v1")
    for _ in range(2):
        await asked(street, "v1", "GET", f"/containers/{made['id']}")
        await asked(street, "v1", "GET", "/containers")

    assert (await street.agree())["session_count"] == 1
