"""curl, as in the examples of Azure's own pages: forms, pipes, chunks, and an older HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.playing import (
    REFUSED_TWICE_AND_GONE,
    ROOT,
    play,
    street_with_one_session,
    went_well,
)
from tests.clients.programs.steps import TABLE
from tests.conftest import needs_real
from tests.street.living import AZURE_KEY, VERSION, Street

pytestmark = pytest.mark.anyio

STORY = ROOT / "tests" / "clients" / "programs" / "story.sh"
# What each step uploads: the file's name, and its bytes unless it is the table.
UPLOADS = {
    "upload": "table.csv",
    "upload-typed": "table.csv",
    # A quote travels as `%22`, from curl to us and from us to Azure (WHATWG HTML).
    "upload-named": "Umsätze; %22neu%22.csv",
    "upload-large": "large.csv",
    "upload-piped": "piped.csv",
    "upload-chunked": "piped.csv",
    "upload-chunked-by-name": "piped.csv",
    "upload-http-1-0": "table.csv",
    "upload-bearer": "table.csv",
}
REFUSED = {"refused-upload": 415, "session-cap": 429, "after-delete": 404}
# Source: curl's manual, "EXIT CODES".
CURL_SAYS_PARTIAL = 18
CURL_SAYS_STATUS_400_OR_MORE = 22
CURL_SAYS_IT_COULD_NOT_RECEIVE = 56


@pytest.fixture
async def street(tmp_path: Path) -> AsyncIterator[Street]:
    """Return a running street."""
    async with street_with_one_session(tmp_path) as opened:
        yield opened


def _answer(street: Street, step: str) -> Any:
    return json.loads((street.folder / f"{step}.body").read_bytes())


def _head(street: Street, step: str) -> str:
    return (street.folder / f"{step}.head").read_text().lower()


def _words(street: Street, step: str) -> str:
    """Return the text of a streamed chat, which must be ended as Azure ends it."""
    lines = (street.folder / f"{step}.body").read_text().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


async def test_curl_plays_the_story(street: Street) -> None:
    needs_real("curl", found=shutil.which("curl") is not None, how="apt-get install curl")
    steps = await play(street, ["/bin/sh", STORY, street.url, street.keys["blue"]])

    for step, seen in steps.items():
        is_refused = step in REFUSED
        assert seen["status"] in ([REFUSED[step]] if is_refused else [200, 201]), step
        assert seen["exit"] == (CURL_SAYS_STATUS_400_OR_MORE if is_refused else 0), step
    await _saw_uploads(street)
    await _saw_assistants(street)
    _saw_chat(street)
    await went_well(street, sessions=1, refusals=REFUSED_TWICE_AND_GONE)


@pytest.mark.parametrize(
    ("http", "exit_code"),
    [("--http1.0", CURL_SAYS_IT_COULD_NOT_RECEIVE), ("--http1.1", CURL_SAYS_PARTIAL)],
)
async def test_a_reply_that_broke_under_way_is_none_for_curl(
    street: Street, http: str, exit_code: int
) -> None:
    found = shutil.which("curl")
    needs_real("curl", found=found is not None, how="apt-get install curl")
    question = {"role": "user", "content": "[[sim words=50 cut=20]]"}
    body = {"model": "gpt-4o", "messages": [question], "stream": True}
    headers = (f"api-key: {street.keys['blue']}", "content-type: application/json")
    process = await asyncio.create_subprocess_exec(
        *(str(found), "-q", "--silent", http, "--data-binary", json.dumps(body)),
        *(word for header in headers for word in ("--header", header)),
        f"{street.url}/openai/v1/chat/completions",
        env={},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()

    assert b"[DONE]" not in said
    assert process.returncode == exit_code


async def _saw_uploads(street: Street) -> None:
    rows = [row for row in await street.journal() if row["form"] is not None]
    for row, (step, filename) in zip(rows, UPLOADS.items(), strict=True):
        large = (street.folder / "large.csv").read_bytes()
        content = large if step == "upload-large" else TABLE
        parts = {part["name"]: part for part in row["form"]}
        assert parts["file"]["filename"] == filename == _answer(street, step)["filename"]
        assert parts["file"]["sha256"] == hashlib.sha256(content).hexdigest()
        assert parts["purpose"]["sha256"] == hashlib.sha256(b"assistants").hexdigest()
    assert "http/1.1 100 continue" in _head(street, "upload-large")
    assert "(rule `extension-not-listed`)" in _answer(street, "refused-upload")["error"]["message"]
    listed = {each["id"] for each in _answer(street, "list-files")["data"]}
    assert listed == {_answer(street, step)["id"] for step in UPLOADS}


async def _saw_assistants(street: Street) -> None:
    streamed = (street.folder / "streamed-run.body").read_text()
    assert "event: thread.run.step.delta\n" in streamed
    assert "event: thread.run.completed\n" in streamed
    assert _answer(street, "polled-run")["status"] == "completed"
    kinds = {step["type"] for step in _answer(street, "steps")["data"]}
    assert kinds == {"tool_calls", "message_creation"}
    roles = [message["role"] for message in _answer(street, "messages")["data"]]
    assert roles == ["assistant", "assistant", "user"]
    picture = _answer(street, "messages")["data"][0]["content"][0]["image_file"]["file_id"]
    kept = await street.azure.get(
        f"/openai/files/{picture}/content?api-version={VERSION}", headers={"api-key": AZURE_KEY}
    )
    assert kept.content == (street.folder / "download.body").read_bytes() != b""
    error = _answer(street, "session-cap")["error"]
    assert error["code"] == "insufficient_quota"
    assert "`one-a-day`" in error["message"]
    assert "x-should-retry: false" in _head(street, "session-cap")
    for step in ("delete-thread", "delete-assistant", "delete-file"):
        assert _answer(street, step)["deleted"] is True


def _saw_chat(street: Street) -> None:
    steps = ("chat", "chat-compressed", "chat-http-1-0", "chat-chunked")
    texts = [_answer(street, step)["choices"][0]["message"]["content"] for step in steps]
    texts += [_words(street, step) for step in ("chat-streamed", "chat-streamed-http-1-0")]
    assert len(texts) == 6
    assert set(texts) == {texts[0]} != {""}
    assert "transfer-encoding" in _head(street, "chat-streamed")
    # HTTP/1.0 knows no chunks: such a reply ends where the connection does.
    assert "transfer-encoding" not in _head(street, "chat-streamed-http-1-0")
    assert len(_answer(street, "embeddings")["data"][0]["embedding"]) == 1536
    assert _answer(street, "response")["status"] == "completed"
