"""Foundry projects: the same objects on a third surface, with their own idle time."""

from __future__ import annotations

from typing import Any

import pytest

from tests.street.conftest import Opener
from tests.street.living import INTERPRETER, SESSION_NANO_USD, Street, session_cap, session_caps

pytestmark = pytest.mark.anyio

IDLE_S = 1800


async def an_agent(street: Street, *, team: str = "blue", **more: Any) -> str:
    body = {"model": "gpt-4o", "tools": [INTERPRETER], **more}
    made = await street.made("/assistants", body, team=team, surface="project")
    return str(made["id"])


async def a_thread(street: Street, text: str = "hello", *, team: str = "blue") -> str:
    body = {"messages": [{"role": "user", "content": text}]}
    return str((await street.made("/threads", body, team=team, surface="project"))["id"])


async def call(street: Street, thread: str, agent: str) -> None:
    """Have the interpreter called once in the thread by a streamed run."""
    message = {"role": "user", "content": "[[sim calls=1]]"}
    await street.made(f"/threads/{thread}/messages", message, surface="project")
    body = {"assistant_id": agent, "stream": True}
    answer = await street.project("POST", f"/threads/{thread}/runs", body)
    assert "thread.run.completed" in answer.text


@pytest.mark.parametrize(("after_s", "sessions"), [(IDLE_S - 60, 1), (IDLE_S + 60, 2)])
async def test_a_session_of_a_project_ends_after_half_an_hour_of_silence(
    street: Street, after_s: int, sessions: int
) -> None:
    agent, thread = await an_agent(street), await a_thread(street)
    await call(street, thread, agent)
    await street.advance(after_s)
    await call(street, thread, agent)

    assert (await street.agree())["session_count"] == sessions
    postings = [row.posting.charge for row in await street.ledger()]
    scopes = {str(charge.scope) for charge in postings if charge.scope is not None}
    assert scopes == {f"foundry/project_thread/{thread}"}
    assert {charge.origin.surface.value for charge in postings} == {"foundry"}


async def test_a_run_that_nobody_looks_at_is_settled_from_the_project(street: Street) -> None:
    agent, thread = await an_agent(street), await a_thread(street, "[[sim calls=1]]")
    await street.made(f"/threads/{thread}/runs", {"assistant_id": agent}, surface="project")
    mark = await street.mark()
    await street.advance(30)

    invoice = await street.agree()
    assert invoice["session_count"] == 1
    asked = {row["target"].split("?")[0] for row in await street.journal(mark)}
    assert all(each.startswith(f"/api/projects/books/threads/{thread}/runs/") for each in asked)
    assert asked


async def test_a_cap_stops_a_project_as_it_stops_the_others(open_street: Opener) -> None:
    caps = session_caps(session_cap("one-a-day", "team", 1, period="day"))
    async with open_street(policies=caps) as street:
        agent, thread = await an_agent(street), await a_thread(street)
        await call(street, thread, agent)
        other = await a_thread(street, "[[sim calls=1]]")
        body = {"assistant_id": agent}
        answer = await street.project("POST", f"/threads/{other}/runs", body)

        assert answer.status_code == 429
        assert "one-a-day" in answer.json()["error"]["message"]
        dated = await street.thread("[[sim calls=1]]")
        body = {"assistant_id": await street.assistant()}
        assert (await street.dated("POST", f"/threads/{dated}/runs", body)).status_code == 429
        assert (await street.agree())["total_nano_usd"] >= SESSION_NANO_USD


async def test_a_team_lists_its_own_threads_of_a_project(street: Street) -> None:
    mine = []
    for _ in range(3):
        mine.append(await a_thread(street))
        await street.advance(1)
    theirs = await a_thread(street, team="red")

    listed = await street.project("GET", "/threads?limit=2")
    assert [row["id"] for row in listed.json()["data"]] == [mine[2], mine[1]]
    assert listed.json()["has_more"] is True
    rest = await street.project("GET", f"/threads?after={mine[1]}")
    assert [row["id"] for row in rest.json()["data"]] == [mine[0]]
    assert (await street.project("GET", f"/threads?after={theirs}")).status_code == 404


async def test_an_object_of_a_project_is_nobody_elses_and_of_no_other_surface(
    street: Street,
) -> None:
    thread = await a_thread(street)
    dated = await street.thread()
    unknown = (await street.project("GET", "/threads/thread_nosuch")).content
    mark = await street.mark()

    foreign = await street.project("GET", f"/threads/{thread}", team="red")
    elsewhere = await street.project("GET", f"/threads/{dated}")
    for answer in (foreign, elsewhere):
        assert (answer.status_code, answer.content) == (404, unknown)
    assert (await street.dated("GET", f"/threads/{thread}")).status_code == 404
    assert await street.journal(mark) == []


async def test_a_deleted_thread_is_gone_at_once_and_deleted_in_the_project_later(
    street: Street,
) -> None:
    agent, thread = await an_agent(street), await a_thread(street, "[[sim calls=1]]")
    await street.made(f"/threads/{thread}/runs", {"assistant_id": agent}, surface="project")
    gone = await street.project("DELETE", f"/threads/{thread}")

    assert gone.json() == {"id": thread, "object": "thread.deleted", "deleted": True}
    assert (await street.project("GET", f"/threads/{thread}")).status_code == 404
    assert (await street.agree())["session_count"] == 1
    deleted = [row for row in await street.journal() if row["method"] == "DELETE"]
    assert [row["target"].split("?")[0] for row in deleted] == [
        f"/api/projects/books/threads/{thread}"
    ]


async def test_a_project_nobody_configured_is_refused_before_anything_is_asked(
    street: Street,
) -> None:
    mark = await street.mark()
    answer = await street.blue.get("/api/projects/films/threads?api-version=v1")

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "unknown_operation"
    assert "`films`" in answer.json()["error"]["message"]
    assert await street.journal(mark) == []


@pytest.mark.parametrize(
    "body",
    [
        {"role": "user", "content": "x", "attachments": [{"data_source": {"uri": "azureml://x"}}]},
        {
            "role": "user",
            "content": "x",
            "attachments": [{"data_sources": [{"type": "uri_asset", "uri": "azureml://x"}]}],
        },
    ],
)
async def test_data_that_nobody_uploaded_here_cannot_be_named_by_its_address(
    street: Street, body: dict[str, Any]
) -> None:
    thread = await a_thread(street)
    mark = await street.mark()
    answer = await street.project("POST", f"/threads/{thread}/messages", body)

    assert answer.status_code == 403
    assert "`data-not-registered`" in answer.json()["error"]["message"]
    assert await street.journal(mark) == []


async def test_an_upload_to_a_project_may_say_its_name_twice_but_only_the_same(
    street: Street,
) -> None:
    for name, status in (("table.csv", 200), ("other.csv", 400)):
        answer = await street.blue.post(
            "/api/projects/books/files?api-version=v1",
            data={"purpose": "assistants", "filename": name},
            files={"file": ("table.csv", b"a,b\n1,2\n", "text/csv")},
        )
        assert answer.status_code == status, answer.text

    received = [row for row in await street.journal() if "/files" in row["target"]]
    assert len(received) == 1
    elsewhere = await street.blue.post(
        "/openai/files?api-version=2024-10-21",
        data={"purpose": "assistants", "filename": "table.csv"},
        files={"file": ("table.csv", b"a,b\n1,2\n", "text/csv")},
    )
    assert elsewhere.status_code == 400


@pytest.mark.parametrize("version", ["2024-10-21", "2023-05-15", "x"])
async def test_a_version_of_another_surface_is_refused(street: Street, version: str) -> None:
    answer = await street.blue.get(f"/api/projects/books/threads?api-version={version}")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "unsupported_api_version"
