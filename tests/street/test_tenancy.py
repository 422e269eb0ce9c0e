"""Tenancy: to a team, another team's objects are not there, by any operation and in any place."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from gateway.core.catalogue import CATALOGUE
from gateway.core.model import Surface
from gateway.core.operations import OWNED_PLACEHOLDERS, Body, Operation
from tests.street.conftest import Opener
from tests.street.living import AUTO, STORES_PERMITTED, VERSION, Street

pytestmark = pytest.mark.anyio

_VERSIONS = {
    Surface.V1: "",
    Surface.DATED: "?api-version=2025-04-01-preview",
    Surface.FOUNDRY: "?api-version=v1",
}
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def _owned_rows() -> list[Operation]:
    return [
        row
        for row in CATALOGUE
        if any(name in OWNED_PLACEHOLDERS for name in _PLACEHOLDER.findall(row.template))
    ]


def _name(row: Operation) -> str:
    return f"{row.surface}-{row.name}"


def _target(row: Operation, ids: dict[str, str]) -> str:
    filled = _PLACEHOLDER.sub(lambda found: ids[found[1]], row.template)
    return filled + _VERSIONS[row.surface]


def _body_of(row: Operation) -> dict[str, Any] | None:
    if row.body is Body.NONE:
        return None
    if row.name == "runs.create":
        return {"assistant_id": "asst_1"}
    if row.name.startswith("vector_stores."):
        return {"file_ids": ["file_1"]} if "batches" in row.name else {"file_id": "file_1"}
    if row.body is Body.CONTAINER_FILE:
        return {"file_id": "file_1"}
    return {"metadata": {}, "role": "user", "content": "hello", "tool_outputs": []}


def _seen(answer: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    varying = {"x-request-id", "date"}
    headers = [(k, v) for k, v in answer.headers.multi_items() if k not in varying]
    return answer.status_code, answer.content, headers


async def _project_objects(street: Street, team: str) -> dict[str, str]:
    """Make one object of each kind that a project has and return their ids."""

    async def made(path: str, body: Any) -> Any:
        return await street.made(path, body, team=team, surface="project")

    uploaded = await street.clients[team].post(
        "/api/projects/books/files?api-version=v1",
        data={"purpose": "assistants"},
        files={"file": ("table.csv", b"a,b\n1,2\n", "text/csv")},
    )
    said = [{"role": "user", "content": "hello"}]
    thread = (await made("/threads", {"messages": said}))["id"]
    assistant = (await made("/assistants", {"model": "gpt-4o"}))["id"]
    message = await street.project("GET", f"/threads/{thread}/messages", team=team)
    return {
        "project": "books",
        "thread": thread,
        "assistant": assistant,
        "run": (await made(f"/threads/{thread}/runs", {"assistant_id": assistant}))["id"],
        "message": message.json()["data"][0]["id"],
        "step": "step_1",
        "file": uploaded.json()["id"],
        "vector_store": (await made("/vector_stores", {"name": "x"}))["id"],
        "file_batch": "vsfb_1",
    }


async def _objects_for(street: Street, team: str, surface: Surface) -> dict[str, str]:
    if surface is Surface.FOUNDRY:
        return await _project_objects(street, team)
    return await _objects(street, team)


async def _objects(street: Street, team: str) -> dict[str, str]:
    """Make one object of each kind and return their ids, with something inside each."""
    thread, assistant = await street.thread(team=team), await street.assistant(team=team)
    run = await street.start(thread, assistant, team=team)
    messages = await street.dated("GET", f"/threads/{thread}/messages", team=team)
    container = await street.made("/containers", {"name": "x"}, team=team, surface="v1")
    body = {"model": "gpt-4o", "input": "hello"}
    response = await street.made("/responses", body, team=team, surface="v1")
    said = {"items": [{"type": "message", "role": "user", "content": "hello"}]}
    conversation = await street.made("/conversations", said, team=team, surface="v1")
    store = await street.made("/vector_stores", {"name": "x"}, team=team)
    return {
        "conversation": conversation["id"],
        "item": "msg_1",
        "vector_store": store["id"],
        "file_batch": "vsfb_1",
        "thread": thread,
        "assistant": assistant,
        "run": run.rpartition("/")[2],
        "message": messages.json()["data"][0]["id"],
        "step": "step_1",
        "file": (await street.upload(team=team)).json()["id"],
        "container": container["id"],
        "container_file": "cfile_1",
        "response": response["id"],
    }


async def _deleted(street: Street, ids: dict[str, str], team: str) -> None:
    await street.settled()
    if "project" in ids:
        names = ("thread", "assistant", "file", "vector_store")
        for path in (f"/{name}s/{ids[name]}" for name in names):
            assert (await street.project("DELETE", path, team=team)).status_code == 200
        await street.settled()
        return
    for path in (f"/vector_stores/{ids['vector_store']}", f"/conversations/{ids['conversation']}"):
        assert (await street.v1("DELETE", path, team=team)).status_code == 200
    for path in (f"/threads/{ids['thread']}", f"/assistants/{ids['assistant']}"):
        assert (await street.dated("DELETE", path, team=team)).status_code == 200
    for path in (f"/files/{ids['file']}", f"/responses/{ids['response']}"):
        assert (await street.v1("DELETE", path, team=team)).status_code == 200
    gone = await street.v1("DELETE", f"/containers/{ids['container']}", team=team)
    assert gone.status_code == 200
    await street.settled()


@pytest.mark.parametrize("surface", [Surface.DATED, Surface.FOUNDRY])
async def test_foreign_unknown_and_deleted_are_one_answer_to_every_operation(
    open_street: Opener, surface: Surface
) -> None:
    async with open_street(policies=STORES_PERMITTED) as street:
        await _one_answer(street, surface)


async def _one_answer(street: Street, surface: Surface) -> None:
    foreign = await _objects_for(street, "blue", surface)
    deleted = await _objects_for(street, "red", surface)
    await _deleted(street, deleted, "red")
    unknown = {
        name: value if name == "project" else f"{value[:-4]}zzzz" for name, value in foreign.items()
    }
    mark = await street.mark()

    differing, served = [], []
    is_project = surface is Surface.FOUNDRY
    rows = [row for row in _owned_rows() if (row.surface is Surface.FOUNDRY) is is_project]
    assert len(rows) > 20
    for row in rows:
        seen = {}
        for what, ids in (("foreign", foreign), ("unknown", unknown), ("deleted", deleted)):
            answer = await street.red.request(row.method, _target(row, ids), json=_body_of(row))
            seen[what] = _seen(answer)
        if len({repr(value) for value in seen.values()}) != 1:
            differing.append(_name(row))
        if seen["foreign"][0] != 404:
            served.append((_name(row), seen["foreign"][0]))

    assert differing == []
    assert served == []
    assert await street.journal(mark) == []


async def test_every_kind_of_owned_placeholder_is_in_the_matrix() -> None:
    found = {name for row in _owned_rows() for name in _PLACEHOLDER.findall(row.template)}
    assert set(OWNED_PLACEHOLDERS) <= found


@pytest.mark.parametrize("row", _owned_rows(), ids=_name)
async def test_ones_own_object_is_served_by_every_operation(
    open_street: Opener, row: Operation
) -> None:
    async with open_street(policies=STORES_PERMITTED) as street:
        await _served(street, row)


async def _served(street: Street, row: Operation) -> None:
    ids = await _objects_for(street, "blue", row.surface)
    mark = await street.mark()
    body = _body_of(row)
    for name in ("file_id", "file_ids"):
        if body is not None and name in body:
            body[name] = ids["file"] if name == "file_id" else [ids["file"]]
    answer = await street.blue.request(row.method, _target(row, ids), json=body)

    ours = answer.headers.get("apim-request-id") is None
    deferred = row.name in ("threads.delete", "responses.delete")
    assert answer.status_code != 403
    assert not ours or deferred or row.name == "runs.create", answer.text
    if row.name != "runs.create":
        await street.settled()
        assert await street.journal(mark) != []


def _in_bodies(ids: dict[str, str]) -> list[tuple[str, str, dict[str, Any]]]:
    code = {"code_interpreter": {"file_ids": [ids["file"]]}}
    attachments = [{"file_id": ids["file"], "tools": [{"type": "code_interpreter"}]}]
    picture = {"type": "image_file", "image_file": {"file_id": ids["file"]}}
    message = {"role": "user", "content": "hello"}
    with_file = {**message, "attachments": attachments}
    with_picture = {**message, "content": [picture]}
    tools = [{"type": "code_interpreter", "container": ids["container"]}]
    auto = [{**AUTO, "container": {"type": "auto", "file_ids": [ids["file"]]}}]
    part = {"type": "input_file", "file_id": ids["file"]}
    item = {"role": "user", "content": [part]}
    called = {"type": "code_interpreter_call", "container_id": ids["container"], "id": "ci_1"}
    response = {"model": "gpt-4o", "input": "hello"}
    store = ids["vector_store"]
    search = {"file_search": {"vector_store_ids": [store]}}
    searching = [{"type": "file_search", "vector_store_ids": [store]}]
    talk = ids["conversation"]
    return [
        ("v1", "/vector_stores", {"file_ids": [ids["file"]]}),
        ("v1", "/vector_stores/{vector_store}/files", {"file_id": ids["file"]}),
        ("v1", "/vector_stores/{vector_store}/file_batches", {"file_ids": [ids["file"]]}),
        ("v1", "/vector_stores/{vector_store}/file_batches", {"files": [{"file_id": ids["file"]}]}),
        ("v1", "/containers/{container}/files", {"file_id": ids["file"]}),
        ("dated", "/assistants", {"model": "gpt-4o", "tool_resources": search}),
        ("dated", "/threads/{thread}", {"tool_resources": search}),
        ("v1", "/responses", response | {"tools": searching}),
        ("v1", "/responses", response | {"conversation": talk}),
        ("v1", "/responses", response | {"conversation": {"id": talk}}),
        ("v1", "/conversations", {"items": [item | {"type": "message"}]}),
        ("dated", "/assistants", {"model": "gpt-4o", "tool_resources": code}),
        ("dated", "/threads", {"messages": [with_file]}),
        ("dated", "/threads", {"messages": [with_picture]}),
        ("dated", "/threads", {"tool_resources": code}),
        ("dated", "/threads/{thread}", {"tool_resources": code}),
        ("dated", "/threads/{thread}/messages", with_file),
        ("dated", "/threads/{thread}/messages", with_picture),
        ("dated", "/threads/{thread}/runs", {"assistant_id": ids["assistant"]}),
        (
            "dated",
            "/threads/{thread}/runs",
            {"assistant_id": "{assistant}", "additional_messages": [with_file]},
        ),
        ("dated", "/threads/runs", {"assistant_id": ids["assistant"]}),
        (
            "dated",
            "/threads/runs",
            {"assistant_id": "{assistant}", "thread": {"messages": [with_file]}},
        ),
        ("v1", "/responses", {**response, "previous_response_id": ids["response"]}),
        ("v1", "/responses", {**response, "tools": tools}),
        ("v1", "/responses", {**response, "tools": auto}),
        ("v1", "/responses", {**response, "input": [item]}),
        ("v1", "/responses", {**response, "input": [called]}),
        ("v1", "/responses", {**response, "conversation": "conv_1"}),
        ("v1", "/responses", {**response, "conversation": {"id": "conv_1"}}),
        ("v1", "/responses", {**response, "prompt": {"id": "pmpt_1"}}),
        ("v1", "/containers", {"name": "x", "file_ids": [ids["file"]]}),
    ]


async def test_a_foreign_id_in_a_body_is_the_same_answer_as_an_unknown_one(
    open_street: Opener,
) -> None:
    async with open_street(policies=STORES_PERMITTED) as street:
        await _one_answer_in_bodies(street)


async def _one_answer_in_bodies(street: Street) -> None:
    theirs = await _objects(street, "blue")
    ours = await _objects(street, "red")
    unknown = {name: f"{value[:-4]}zzzz" for name, value in theirs.items()}
    mark = await street.mark()
    wrong = []
    for (surface, path, body), (_, _, other) in zip(
        _in_bodies(theirs), _in_bodies(unknown), strict=True
    ):
        send = street.v1 if surface == "v1" else street.dated
        seen = []
        for name in ("thread", "vector_store", "container"):
            path = path.replace("{" + name + "}", ours[name])
        for each in (body, other):
            own = json.loads(json.dumps(each).replace("{assistant}", ours["assistant"]))
            seen.append(_seen(await send("POST", path, own, team="red")))
        if seen[0] != seen[1] or seen[0][0] != 404:
            wrong.append((path, body, seen[0][:2]))

    assert wrong == []
    assert await street.journal(mark) == []


async def test_a_list_shows_a_teams_own_objects_page_by_page(street: Street) -> None:
    mine = []
    for number in range(5):
        mine.append((await street.upload(name=f"t{number}.csv")).json()["id"])
        await street.advance(1)
        await street.upload(name=f"r{number}.csv", team="red")
    found: list[str] = []
    after = ""
    for _ in range(3):
        page = (await street.dated("GET", f"/files?limit=2{after}")).json()
        found += [file["id"] for file in page["data"]]
        after = f"&after={page['last_id']}"
        assert page["has_more"] is (len(found) < 5)

    assert found == list(reversed(mine))
    backwards = (await street.dated("GET", "/files?order=asc&limit=100")).json()
    assert [file["id"] for file in backwards["data"]] == mine
    before = (await street.dated("GET", f"/files?order=asc&before={mine[2]}")).json()
    assert [file["id"] for file in before["data"]] == mine[:2]


async def test_a_cursor_of_another_team_is_an_unknown_cursor(street: Street) -> None:
    theirs = (await street.upload()).json()["id"]
    own = (await street.upload(team="red")).json()["id"]
    assert (await street.dated("GET", f"/files?after={own}", team="red")).status_code == 200
    seen = [
        _seen(await street.dated("GET", f"/files?after={name}", team="red"))
        for name in (theirs, f"{theirs[:-4]}zzzz")
    ]

    assert seen[0] == seen[1]
    assert seen[0][0] == 404


@pytest.mark.parametrize("path", ["/assistants", "/files"])
async def test_lists_of_the_dated_surface_show_the_other_team_nothing(
    street: Street, path: str
) -> None:
    await street.assistant()
    await street.upload()

    page = (await street.dated("GET", path, team="red")).json()
    assert (page["data"], page["has_more"]) == ([], False)


async def test_containers_are_listed_to_their_team_alone(street: Street) -> None:
    made = await street.made("/containers", {"name": "x"}, surface="v1")

    page = (await street.v1("GET", "/containers")).json()
    assert [row["id"] for row in page["data"]] == [made["id"]]
    assert (await street.v1("GET", "/containers", team="red")).json()["data"] == []


async def test_a_picture_a_run_drew_belongs_to_the_team_that_ran_it(street: Street) -> None:
    assistant, thread = (
        await street.assistant(),
        await street.thread("[[sim outputs=image calls=1]]"),
    )
    body = {"assistant_id": assistant, "stream": True}
    assert (await street.dated("POST", f"/threads/{thread}/runs", body)).status_code == 200
    messages = (await street.dated("GET", f"/threads/{thread}/messages")).json()
    pictures = re.findall(r'"file_id": ?"([^"]+)"', json.dumps(messages))

    assert pictures
    mine = await street.dated("GET", f"/files/{pictures[0]}/content")
    theirs = await street.dated("GET", f"/files/{pictures[0]}/content", team="red")
    assert mine.content.startswith(b"\x89PNG")
    assert mine.headers["x-content-type-options"] == "nosniff"
    assert theirs.status_code == 404


async def test_one_team_cannot_ask_what_anothers_request_cost(street: Street) -> None:
    path = "/deployments/gpt-4o/chat/completions"
    made = await street.dated("POST", path, {"messages": [{"role": "user", "content": "a"}]})
    name = made.headers["x-request-id"]
    unknown = f"gw-{'0' * 32}"

    assert (await street.blue.get(f"/gateway/v1/requests/{name}")).status_code == 200
    theirs = _seen(await street.red.get(f"/gateway/v1/requests/{name}"))
    assert theirs[0] == 404
    assert theirs == _seen(await street.red.get(f"/gateway/v1/requests/{unknown}"))
    assert VERSION not in theirs[1].decode()
