"""Vector stores, container files, conversations and models: the rows beside threads and runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.street.conftest import Opener
from tests.street.living import AUTO, STORES_PERMITTED, Street

pytestmark = pytest.mark.anyio

SURFACES = ("dated", "v1", "project")


async def a_file(street: Street, surface: str = "dated", *, team: str = "blue") -> str:
    root = {"dated": "/openai", "v1": "/openai/v1", "project": "/api/projects/books"}[surface]
    version = {"dated": "?api-version=2024-10-21", "v1": "", "project": "?api-version=v1"}[surface]
    answer = await street.clients[team].post(
        f"{root}/files{version}",
        data={"purpose": "assistants"},
        files={"file": ("notes.txt", b"words\n", "text/plain")},
    )
    assert answer.status_code in (200, 201), answer.text
    return str(answer.json()["id"])


async def send(
    street: Street, surface: str, method: str, path: str, body: Any = None, *, team: str = "blue"
) -> Any:
    sender = {"dated": street.dated, "v1": street.v1, "project": street.project}[surface]
    return await sender(method, path, body, team=team)


# vector stores


@pytest.mark.parametrize("surface", SURFACES)
async def test_what_a_vector_store_costs_is_not_metered_so_it_must_be_permitted(
    street: Street, surface: str
) -> None:
    mark = await street.mark()
    answer = await send(street, surface, "POST", "/vector_stores", {"name": "books"})

    assert answer.status_code == 403
    assert "`unmetered-feature`" in answer.json()["error"]["message"]
    assert await street.journal(mark) == []


@pytest.mark.parametrize("surface", SURFACES)
async def test_a_permitted_vector_store_belongs_to_its_team(
    open_street: Opener, surface: str
) -> None:
    async with open_street(policies=STORES_PERMITTED) as street:
        file = await a_file(street, surface)
        store = (await send(street, surface, "POST", "/vector_stores", {"file_ids": [file]})).json()
        path = f"/vector_stores/{store['id']}"
        listed = await send(street, surface, "GET", "/vector_stores")
        assert [row["id"] for row in listed.json()["data"]] == [store["id"]]
        assert (await send(street, surface, "GET", f"{path}/files/{file}")).status_code == 200

        mark = await street.mark()
        for method, below in (("GET", ""), ("POST", ""), ("DELETE", ""), ("GET", "/files")):
            body: Any = {} if method == "POST" else None
            answer = await send(street, surface, method, path + below, body, team="red")
            assert answer.status_code == 404
        theirs = await a_file(street, surface, team="red")
        added = await send(street, surface, "POST", f"{path}/files", {"file_id": theirs})
        batch = {"files": [{"file_id": theirs}]}
        if surface != "project":
            batched = await send(street, surface, "POST", f"{path}/file_batches", batch)
            assert batched.status_code == 404
        assert added.status_code == 404
        received = [row for row in await street.journal(mark) if "vector_stores" in row["target"]]
        assert received == []
        gone = await send(street, surface, "DELETE", path)
        assert gone.status_code == 200
        assert (await send(street, surface, "GET", path)).status_code == 404
        used = 'aoaigw_unmetered_requests_total{feature="file_search",team="blue"} 1.0'
        assert used in await street.metrics()


async def test_attributes_of_a_file_are_the_callers_own_words(open_street: Opener) -> None:
    async with open_street(policies=STORES_PERMITTED) as street:
        file = await a_file(street)
        store = (await street.made("/vector_stores", {"name": "x"}))["id"]
        body = {"file_id": file, "attributes": {"file_id": "of nobody", "Region": "EU"}}
        assert await street.made(f"/vector_stores/{store}/files", body)


async def test_a_store_that_an_attachment_made_shows_in_its_thread_and_belongs_to_its_team(
    open_street: Opener,
) -> None:
    async with open_street(policies=STORES_PERMITTED) as street:
        file = await a_file(street)
        attached = [{"file_id": file, "tools": [{"type": "file_search"}]}]
        message = {"role": "user", "content": "look", "attachments": attached}
        thread = (await street.made("/threads", {"messages": [message]}))["id"]
        shown = (await street.dated("GET", f"/threads/{thread}")).json()
        (store,) = shown["tool_resources"]["file_search"]["vector_store_ids"]

        assert (await street.dated("GET", f"/vector_stores/{store}")).status_code == 200
        foreign = await street.dated("GET", f"/vector_stores/{store}", team="red")
        assert foreign.status_code == 404


# files put into a container


async def test_a_file_put_into_a_container_is_judged_like_any_upload(street: Street) -> None:
    container = (await street.made("/containers", {"name": "box"}, surface="v1"))["id"]
    path = f"/openai/v1/containers/{container}/files"
    good = await street.blue.post(path, files={"file": ("table.csv", b"a,b\n1,2\n", "text/csv")})
    assert good.status_code == 200, good.text
    content = await street.v1("GET", f"/containers/{container}/files/{good.json()['id']}/content")
    assert content.content == b"a,b\n1,2\n"

    mark = await street.mark()
    bad = await street.blue.post(path, files={"file": ("tool.exe", b"MZ\x90\x00", "text/csv")})
    assert bad.status_code == 415
    liar = await street.blue.post(path, files={"file": ("a.png", b"MZ\x90\x00", "image/png")})
    assert liar.status_code == 415
    foreign = await street.red.post(path, files={"file": ("a.csv", b"a,b\n", "text/csv")})
    assert foreign.status_code == 404
    assert await street.journal(mark) == []
    await street.agree()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"file_id": "of_nobody"}, 404),
        ({"file": "MZ"}, 400),
        ({"file_id": "of_nobody", "file": "MZ"}, 404),
        ({}, 400),
        ({"file_id": None}, 400),
        ({"file_id": 5}, 400),
    ],
)
async def test_a_file_that_comes_as_json_is_one_of_the_teams_own(
    street: Street, body: Any, status: int
) -> None:
    container = (await street.made("/containers", {"name": "box"}, surface="v1"))["id"]
    mark = await street.mark()
    answer = await street.v1("POST", f"/containers/{container}/files", body)

    assert answer.status_code == status
    assert await street.journal(mark) == []


async def test_a_file_of_the_team_goes_into_its_container_by_its_id(street: Street) -> None:
    container = (await street.made("/containers", {"name": "box"}, surface="v1"))["id"]
    file = await a_file(street, "v1")
    put = await street.v1("POST", f"/containers/{container}/files", {"file_id": file})
    assert put.status_code == 200, put.text


async def test_a_form_cannot_bring_a_file_and_name_another(street: Street) -> None:
    container = (await street.made("/containers", {"name": "box"}, surface="v1"))["id"]
    mark = await street.mark()
    answer = await street.blue.post(
        f"/openai/v1/containers/{container}/files",
        data={"file_id": "of_nobody"},
        files={"file": ("table.csv", b"a,b\n1,2\n", "text/csv")},
    )
    assert answer.status_code == 400
    assert await street.journal(mark) == []


# conversations


async def test_a_conversation_belongs_to_its_team_and_so_do_its_items(street: Street) -> None:
    said = {"type": "message", "role": "user", "content": "hello"}
    made = await street.made("/conversations", {"items": [said]}, surface="v1")
    path = f"/conversations/{made['id']}"
    items = await street.v1("GET", f"{path}/items")
    item = items.json()["data"][0]["id"]
    body = {"model": "gpt-4o", "input": "[[sim calls=1]]", "conversation": made["id"]}
    assert (await street.v1("POST", "/responses", body | {"tools": [AUTO]})).status_code == 200

    mark = await street.mark()
    for method, below in (
        ("GET", ""),
        ("GET", "/items"),
        ("GET", f"/items/{item}"),
        ("DELETE", ""),
    ):
        assert (await street.v1(method, path + below, team="red")).status_code == 404
    assert (await street.v1("POST", "/responses", body, team="red")).status_code == 404
    assert (
        await street.v1("POST", f"{path}/items", {"items": [said]}, team="red")
    ).status_code == 404
    assert await street.journal(mark) == []
    assert (await street.agree())["session_count"] == 1


async def test_items_of_a_conversation_cannot_be_those_of_another(street: Street) -> None:
    path = f"/conversations/{(await street.made('/conversations', {}, surface='v1'))['id']}"
    mark = await street.mark()
    for items in (
        [{"type": "item_reference", "id": "msg_of_somebody"}],
        [{"id": "msg_of_somebody"}],
        [{"type": "message", "role": "user", "content": [{"type": "input_file", "file_id": "x"}]}],
        [{"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_x", "code": "1"}],
    ):
        answer = await street.v1("POST", f"{path}/items", {"items": items})
        assert answer.status_code in (403, 404), answer.text
        made = await street.v1("POST", "/conversations", {"items": items})
        assert made.status_code in (403, 404), made.text

    assert await street.journal(mark) == []


# models


async def test_models_are_the_deployments_and_nobody_is_asked(street: Street) -> None:
    mark = await street.mark()
    for surface in ("dated", "v1"):
        listed = (await send(street, surface, "GET", "/models")).json()
        names = [row["id"] for row in listed["data"]]
        assert "gpt-4o" in names
        one = (await send(street, surface, "GET", "/models/gpt-4o")).json()
        assert one == next(row for row in listed["data"] if row["id"] == "gpt-4o")
        assert (await send(street, surface, "GET", "/models/gpt-x")).status_code == 404

    assert await street.journal(mark) == []
    models = [row.id async for row in street.sdk_v1().models.list()]
    assert models == names
