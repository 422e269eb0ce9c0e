"""Versions: what a client may name, what Azure receives for it, and what comes back."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.street.conftest import Opener
from tests.street.living import INTERPRETER, Street

pytestmark = pytest.mark.anyio

CHAT = "/openai/deployments/gpt-4o/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def _sent_version(row: dict[str, Any]) -> str | None:
    versions = parse_qs(str(row["target"]).partition("?")[2]).get("api-version")
    return versions[0] if versions else None


async def test_a_client_that_names_no_version_gets_the_default(street: Street) -> None:
    mark = await street.mark()
    answer = await street.blue.post(CHAT, json=HELLO)

    assert answer.status_code == 200
    assert [_sent_version(row) for row in await street.journal(mark)] == ["2024-10-21"]


@pytest.mark.parametrize("version", ["2029-01-01", "latest", "2024-05-01-Preview", "../x"])
async def test_a_version_nobody_knows_is_refused_with_the_way_out(
    street: Street, version: str
) -> None:
    mark = await street.mark()
    answer = await street.blue.post(f"{CHAT}?api-version={version}", json=HELLO)

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "unsupported_api_version"
    assert "`20" in error["message"]
    assert await street.journal(mark) == []


async def test_a_version_given_twice_is_refused(street: Street) -> None:
    answer = await street.blue.post(
        f"{CHAT}?api-version=2024-10-21&api-version=2024-05-01-preview", json=HELLO
    )

    assert answer.status_code == 400


async def test_a_pin_is_sent_whatever_the_client_names(open_street: Opener) -> None:
    pin = {"api_versions.toml": 'pin = "2025-04-01-preview"\n'}
    async with open_street(policies=pin) as street:
        for version in ("2024-05-01-preview", "2023-05-15", "2024-02-15-preview"):
            mark = await street.mark()
            answer = await street.blue.post(f"{CHAT}?api-version={version}", json=HELLO)
            assert answer.status_code == 200, answer.text
            rows = await street.journal(mark)
            assert [_sent_version(row) for row in rows] == ["2025-04-01-preview"]
        await street.agree()


async def test_a_dated_version_is_taken_off_the_undated_surface(street: Street) -> None:
    mark = await street.mark()
    for version in ("2024-10-21", "2025-04-01-preview", "v1", "preview"):
        answer = await street.blue.post(
            f"/openai/v1/chat/completions?api-version={version}", json={"model": "gpt-4o", **HELLO}
        )
        assert answer.status_code == 200, answer.text

    assert {_sent_version(row) for row in await street.journal(mark)} <= {None, "v1", "preview"}
    await street.agree()


async def test_a_client_of_the_first_assistants_lives_on(street: Street) -> None:
    """`2024-02-15-preview` has file ids on assistants and messages; Azure no longer knows them."""
    old = "?api-version=2024-02-15-preview"
    file = (await street.upload()).json()["id"]
    mark = await street.mark()
    made = await street.blue.post(
        f"/openai/assistants{old}",
        json={"model": "gpt-4o", "tools": [INTERPRETER], "file_ids": [file]},
    )
    assert made.status_code == 200, made.text
    assistant = made.json()
    thread = (await street.blue.post(f"/openai/threads{old}", json={})).json()["id"]
    message = await street.blue.post(
        f"/openai/threads/{thread}/messages{old}",
        json={"role": "user", "content": "[[sim calls=1]]", "file_ids": [file]},
    )
    assert message.status_code == 200, message.text
    body = {"assistant_id": assistant["id"], "stream": True}
    run = await street.blue.post(f"/openai/threads/{thread}/runs{old}", json=body)
    assert "thread.run.completed" in run.text

    sent = [row for row in await street.journal(mark) if row["method"] == "POST"]
    assert {_sent_version(row) for row in sent} == {"2024-05-01-preview"}
    assert sent[0]["json"]["tool_resources"] == {"code_interpreter": {"file_ids": [file]}}
    assert "file_ids" not in sent[2]["json"]
    assert sent[2]["json"]["attachments"][0]["file_id"] == file
    assert assistant["file_ids"] == [file]
    assert "tool_resources" not in assistant
    assert message.json()["file_ids"] == [file]
    assert "attachments" not in message.json()
    assert '"tool_resources"' not in run.text
    assert (await street.agree())["session_count"] == 1


async def test_an_old_spelling_of_a_foreign_file_is_foreign_all_the_same(street: Street) -> None:
    theirs = (await street.upload()).json()["id"]
    mark = await street.mark()
    body = {"model": "gpt-4o", "tools": [INTERPRETER], "file_ids": [theirs]}
    answer = await street.red.post("/openai/assistants?api-version=2024-02-15-preview", json=body)

    assert answer.status_code == 404
    assert await street.journal(mark) == []


async def test_an_old_spelling_of_the_tool_is_judged_and_capped_too(street: Street) -> None:
    answer = await street.blue.post(
        "/openai/assistants?api-version=2024-02-15-preview",
        json={"model": "gpt-4o", "tools": [{"type": "retrieval"}]},
    )

    assert answer.status_code == 200
    assert answer.json()["tools"] == [{"type": "retrieval"}]


async def test_a_chat_client_of_an_old_version_is_still_metered_exactly(street: Street) -> None:
    body = {**HELLO, "stream": True}
    for version in ("2023-05-15", "2024-02-01", "2024-06-01"):
        answer = await street.blue.post(f"{CHAT}?api-version={version}", json=body)
        assert answer.status_code == 200, answer.text
        assert '"usage":{' not in answer.text

    await street.agree()


async def test_a_retired_version_is_told_so_in_the_reply(street: Street) -> None:
    answer = await street.blue.post(f"{CHAT}?api-version=2023-03-15-preview", json=HELLO)

    assert answer.status_code == 200
    assert answer.headers["deprecation"] == "true"
