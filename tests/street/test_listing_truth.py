"""A list that cannot be read whole is refused; what is read for one keeps nothing alive."""

from __future__ import annotations

import httpx
import pytest

from tests.street.living import Street

pytestmark = pytest.mark.anyio


async def lay(street: Street, fault: dict[str, object], path: str) -> None:
    ambush = {"match": {"method": "GET", "path": path}, "fault": fault}
    laid = await street.azure.post("/simulator/faults", json=ambush)
    assert laid.status_code == 200, laid.text


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ({"kind": "status", "status": 429, "retry_after": 3}, 429),
        ({"kind": "status", "status": 500}, 502),
        ({"kind": "huge_header"}, 502),
    ],
)
async def test_a_list_of_which_an_object_cannot_be_read_is_no_shorter_list(
    street: Street, fault: dict[str, object], status: int
) -> None:
    names = [(await street.upload(name=f"{n}.csv")).json()["id"] for n in range(2)]
    await lay(street, fault, f"/openai/files/{names[0]}")
    answer = await street.dated("GET", "/files")

    assert answer.status_code == status, answer.text
    assert answer.headers.get("retry-after") == ("3" if status == 429 else None)
    assert len((await street.dated("GET", "/files")).json()["data"]) == 2


async def test_listing_containers_keeps_none_of_them_alive(street: Street) -> None:
    made = [(await street.made("/containers", {"name": "x"}, surface="v1"))["id"] for _ in "ab"]
    mark = await street.mark()
    listed = (await street.v1("GET", "/containers")).json()["data"]
    assert {row["id"] for row in listed} == set(made)
    theirs = await street.v1("GET", "/containers", team="red")
    assert theirs.json()["data"] == []

    asked = {row["target"].partition("?")[0] for row in await street.journal(mark)}
    assert asked == {"/openai/v1/containers"}
    await street.advance(1300)
    assert (await street.v1("GET", "/containers")).json()["data"] == []
    await street.agree()


async def test_an_assistant_that_cannot_be_read_is_nothing_done(street: Street) -> None:
    assistant, thread = await street.assistant(), await street.thread()
    await lay(street, {"kind": "huge_header"}, f"/openai/assistants/{assistant}")
    body = {"assistant_id": assistant}
    answer = await street.dated("POST", f"/threads/{thread}/runs", body)

    assert answer.status_code == 502
    assert answer.headers["x-should-retry"] == "true"
    assert "nothing was sent" in answer.json()["error"]["message"]
    await street.agree()


async def test_a_run_cut_off_before_it_is_named_is_found_in_its_thread(street: Street) -> None:
    assistant = await street.assistant()
    text = "[[sim calls=1 cut=1]]"
    body = {
        "assistant_id": assistant,
        "thread": {"messages": [{"role": "user", "content": text}]},
        "stream": True,
    }
    with pytest.raises(httpx.RemoteProtocolError):
        await street.dated("POST", "/threads/runs", body)
    assert (await street.agree())["session_count"] == 1
