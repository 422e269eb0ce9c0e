"""Dated calls carried to a Foundry project, where the objects of the retired API live on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.street.conftest import Opener
from tests.street.living import INTERPRETER, Street

pytestmark = pytest.mark.anyio

V1_SHAPES = "2024-02-15-preview"


def targets(rows: list[dict[str, Any]]) -> set[str]:
    return {row["target"] for row in rows}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_an_unmodified_program_of_the_retired_api_runs_on_a_project(
    open_street: Opener,
) -> None:
    async with open_street(carries_dated=True) as street:
        client = street.sdk()
        file = await client.files.create(file=("t.csv", b"a,b\n1,2\n"), purpose="assistants")
        resources: Any = {"code_interpreter": {"file_ids": [file.id]}}
        assistant = await client.beta.assistants.create(
            model="gpt-4o", tools=[{"type": "code_interpreter"}], tool_resources=resources
        )
        thread = await client.beta.threads.create()
        await client.beta.threads.messages.create(thread.id, role="user", content="[[sim calls=1]]")
        run = await client.beta.threads.runs.create(thread.id, assistant_id=assistant.id)
        await street.advance(30)
        run = await client.beta.threads.runs.retrieve(run.id, thread_id=thread.id)
        assert run.status == "completed"
        messages = await client.beta.threads.messages.list(thread.id)
        assert len(messages.data) == 2
        assert [row.id async for row in client.files.list()] == [file.id]
        await client.beta.threads.delete(thread.id)

        assert (await street.agree())["session_count"] == 1
        received = targets(await street.journal())
        assert all(target.startswith("/api/projects/books/") for target in received), received
        assert all("api-version=v1" in target for target in received), received
        scopes = {row.posting.charge.scope for row in await street.ledger()}
        assert {str(scope) for scope in scopes if scope} == {f"foundry/project_thread/{thread.id}"}


async def test_shapes_of_the_first_assistants_are_walked_up_to_the_projects(
    open_street: Opener,
) -> None:
    async with open_street(carries_dated=True) as street:
        file = (await street.upload()).json()["id"]
        body = {"model": "gpt-4o", "tools": [INTERPRETER], "file_ids": [file]}
        made = await street.blue.post(f"/openai/assistants?api-version={V1_SHAPES}", json=body)

        assert made.status_code == 200, made.text
        assert made.json()["file_ids"] == [file]
        (sent,) = [row for row in await street.journal() if "/assistants" in row["target"]]
        assert sent["target"] == "/api/projects/books/assistants?api-version=v1"
        assert sent["json"]["tool_resources"] == {"code_interpreter": {"file_ids": [file]}}


async def test_what_projects_do_not_have_is_refused_and_named(open_street: Opener) -> None:
    async with open_street(carries_dated=True) as street:
        thread = await street.thread()
        mark = await street.mark()
        answer = await street.dated("DELETE", f"/threads/{thread}/messages/msg_1")

        assert answer.status_code == 404
        assert "`messages.delete`" in answer.json()["error"]["message"]
        assert await street.journal(mark) == []


async def test_dated_responses_and_chat_stay_where_they_are(open_street: Opener) -> None:
    async with open_street(carries_dated=True) as street:
        body = {"messages": [{"role": "user", "content": "hello"}]}
        answer = await street.dated("POST", "/deployments/gpt-4o/chat/completions", body)
        assert answer.status_code == 200
        assert all(target.startswith("/openai/") for target in targets(await street.journal()))
        await street.agree()


async def test_a_thread_is_one_object_on_both_of_its_surfaces(open_street: Opener) -> None:
    async with open_street(carries_dated=True) as street:
        thread = await street.thread()
        assert (await street.project("GET", f"/threads/{thread}")).status_code == 200
        assert (await street.project("GET", f"/threads/{thread}", team="red")).status_code == 404


async def test_without_it_dated_calls_go_where_they_always_went(street: Street) -> None:
    await street.thread()
    assert all(target.startswith("/openai/") for target in targets(await street.journal()))
