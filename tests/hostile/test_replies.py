"""Replies of a hostile Azure on their way to the caller: counted at its socket, paid for once."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import httpx
import pytest

from tests.hostile.wall import CHAT_TARGET, HELLO
from tests.hostile_server import Caller, serve
from tests.street.evidence import estimates, total
from tests.street.living import living

pytestmark = pytest.mark.anyio

USAGE = {"prompt_tokens": 1000, "completion_tokens": 1000, "total_tokens": 2000}
DOCUMENT = json.dumps({"object": "chat.completion", "model": "gpt-4o", "usage": USAGE}).encode()
PACKED = gzip.compress(DOCUMENT, mtime=0)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
JSON = {"content-type": "application/json"}


async def asked(
    folder: Path, reply: bytes, *, closes: bool = False
) -> tuple[httpx.Response, int, list[str | None], int]:
    """Ask once; return the answer, how often Azure was asked, the estimates and what was posted."""

    async def play(caller: Caller) -> None:
        await caller.request()
        await caller.send(reply)
        if closes:
            caller.close()
        await caller.rest()

    async with (
        serve(play) as azure,
        living(folder, endpoint=azure.url, settle_timeout_s=1) as street,
    ):
        answer = await street.blue.post(CHAT_TARGET.decode(), content=HELLO, headers=JSON)
        lines = await street.ledger()
        return answer, len(azure.requests), list(estimates(lines).values()), total(lines)


async def test_a_compressed_reply_passes_as_it_is_and_is_estimated_not_free(
    tmp_path: Path,
) -> None:
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(PACKED)
    answer, times, guessed, posted = await asked(tmp_path, head + PACKED)

    assert (answer.status_code, answer.headers["content-encoding"]) == (200, "gzip")
    assert answer.content == DOCUMENT
    assert times == 1
    assert len(guessed) > 0
    assert posted > 0


async def test_headers_of_a_hostile_reply_do_not_pass(tmp_path: Path) -> None:
    planted = b"Set-Cookie: a=b\r\nServer: evil\r\nX-Request-Id: evil\r\nLocation: http://evil\r\n"
    head = HEAD + planted + b"Content-Length: %d\r\n\r\n" % len(DOCUMENT)
    answer, times, guessed, _ = await asked(tmp_path, head + DOCUMENT)

    assert answer.status_code == 200
    assert "evil" not in str(answer.headers)
    assert "set-cookie" not in answer.headers
    assert (times, guessed) == (1, [])


@pytest.mark.parametrize(
    "reply", [b"", b"garbage\r\n\r\n", HEAD[:20], HEAD + b"Content-Length: -1\r\n\r\n"]
)
async def test_no_usable_head_is_an_outcome_nobody_knows_and_is_not_tried_again(
    tmp_path: Path, reply: bytes
) -> None:
    answer, times, _, _ = await asked(tmp_path, reply, closes=True)

    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "upstream_outcome_unknown"
    assert answer.headers["x-should-retry"] == "false"
    assert times == 1
