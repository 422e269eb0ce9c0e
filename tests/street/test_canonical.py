"""One reading or none: what could be read in two ways is refused in Azure's shape, never a 500."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from tests.street.living import VERSION, Street

pytestmark = pytest.mark.anyio

CHAT = f"/openai/deployments/gpt-4o/chat/completions?api-version={VERSION}"
HELLO = b'{"messages": [{"role": "user", "content": "hello"}]}'
JSON = {"content-type": "application/json"}


def _is_azure_shaped(body: bytes) -> bool:
    error = json.loads(body)["error"]
    return set(error) == {"message", "type", "param", "code"} and bool(error["message"])


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages": [], "messages": []}',
        b'{"a": {"b": 1, "b": 2}}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": 99999999999999999999999999}',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": 1} {"b": 2}',
        b'{"a": 1,}',
        b"{'a': 1}",
        b"[]",
        b"null",
        b"",
        b" ",
        b'{"a":' * 500 + b"1" + b"}" * 500,
        b'{"a":' + b"[" * 100_000,
        b'{"file_id": "\\ud800"}',
        b'{"file_id": {"a": 1}}',
        b'{"file_ids": [1]}',
        b'{"metadata": "\\u0000"}\x00',
    ],
)
async def test_a_body_that_two_parsers_could_read_differently_is_refused(
    street: Street, body: bytes
) -> None:
    mark = await street.mark()
    for path in (CHAT, f"/openai/threads/runs?api-version={VERSION}", "/openai/v1/responses"):
        answer = await street.blue.post(path, content=body, headers=JSON)
        assert answer.status_code == 400, (path, answer.text)
        assert _is_azure_shaped(answer.content)

    assert await street.journal(mark) == []


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip", "x"])
async def test_a_compressed_body_is_refused(street: Street, encoding: str) -> None:
    mark = await street.mark()
    headers = {**JSON, "content-encoding": encoding}
    answers = [
        await street.blue.post(CHAT, content=HELLO, headers=headers),
        await street.blue.post(
            f"/openai/files?api-version={VERSION}",
            data={"purpose": "assistants"},
            files={"file": ("a.csv", b"a,b\n", "text/csv")},
            headers={"content-encoding": encoding},
        ),
    ]

    assert [answer.status_code for answer in answers] == [415, 415]
    assert all(_is_azure_shaped(answer.content) for answer in answers)
    assert await street.journal(mark) == []


async def test_one_credential_twice_is_fine_and_two_are_not(street: Street) -> None:
    blue, red = street.keys["blue"], street.keys["red"]
    same = await street.blue.post(CHAT, content=HELLO, headers={"authorization": f"Bearer {blue}"})
    other = await street.blue.post(CHAT, content=HELLO, headers={"authorization": f"Bearer {red}"})
    only_bearer = await street.azure.get(
        f"{street.url}/gateway/v1/me", headers={"authorization": f"bearer {red}"}
    )

    assert same.status_code == 200
    assert other.status_code == 401
    assert _is_azure_shaped(other.content)
    assert only_bearer.json()["team"] == "red"


@pytest.mark.parametrize(
    "query", ["debug=1", "api-version=a&api-version=b", "x", "a=%zz", "=1", "%00=1"]
)
async def test_a_query_that_is_not_listed_is_refused(street: Street, query: str) -> None:
    status, body = await _raw(street, f"POST {CHAT}&{query}", HELLO)

    assert status == 400
    assert _is_azure_shaped(body)


async def _raw(street: Street, start: str, body: bytes = b"") -> tuple[int, bytes]:
    """Send a request line as it stands; return status and body of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", street.gateway.data_port)
    head = (
        f"{start} HTTP/1.1\r\nhost: gateway\r\napi-key: {street.keys['blue']}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        "connection: close\r\n\r\n"
    )
    writer.write(head.encode("latin-1") + body)
    answer = await asyncio.wait_for(reader.read(-1), 20)
    writer.close()
    await writer.wait_closed()
    top, _, rest = answer.partition(b"\r\n\r\n")
    return int(top.split(b" ")[1]), rest


TARGETS = [
    "/openai/files/../files",
    "/openai/./files",
    "/openai//files",
    "//openai//files",
    "///openai/files",
    "/openai/files/",
    "/openai/files%2fx",
    "/openai/%66iles",
    "/openai/files;x=1",
    "/openai\\files",
    "/openai/files/..%2f..%2fadmin",
    "/openai/files/%00",
    "/openai/threads/thread_1%2Fruns",
    "/openai/threads/a/../b",
    "/OPENAI/files",
    "/openai/files/a%20b",
    "/openai/files#frag",
    "http://other.example/openai/files",
    "*",
    "/",
    "/gateway/v1/../../openai/files",
    "/gateway/v1/requests/..",
    "/gateway//v1/me",
    "/openai/v1/../files",
    "/openai/files/" + "a" * 129,
    "/openai/deployments/..gpt/chat/completions",
    "/metrics",
    "/health/live",
]


@pytest.mark.parametrize("target", TARGETS)
async def test_a_target_that_is_not_canonical_leads_nowhere(street: Street, target: str) -> None:
    mark = await street.mark()
    status, body = await _raw(street, f"GET {target}")

    assert status in (400, 404, 405), body
    assert _is_azure_shaped(body)
    assert await street.journal(mark) == []


async def test_an_endpoint_pasted_with_its_slash_works(street: Street) -> None:
    status, _ = await _raw(street, f"POST /{CHAT}", HELLO)

    assert status == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH", "HEAD", "OPTIONS", "DELETE", "GET"])
async def test_a_method_the_operation_does_not_have_is_405(street: Street, method: str) -> None:
    answer = await street.blue.request(method, CHAT)

    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


PATHS = [
    ("POST", CHAT),
    ("POST", f"/openai/assistants?api-version={VERSION}"),
    ("POST", "/openai/assistants?api-version=2024-02-15-preview"),
    ("POST", f"/openai/threads?api-version={VERSION}"),
    ("POST", f"/openai/threads/runs?api-version={VERSION}"),
    ("POST", "/openai/threads/runs?api-version=2024-02-15-preview"),
    ("POST", "/openai/v1/responses"),
    ("POST", "/openai/v1/containers"),
    ("POST", "/openai/v1/embeddings"),
    ("POST", "/openai/v1/chat/completions"),
]

FIELDS = [
    "messages",
    "model",
    "input",
    "tools",
    "stream",
    "stream_options",
    "n",
    "max_tokens",
    "metadata",
    "tool_resources",
    "file_ids",
    "assistant_id",
    "thread",
    "container",
    "attachments",
    "content",
    "code_interpreter",
    "type",
    "prompt",
    "conversation",
    "previous_response_id",
    "image_url",
    "url",
    "additional_messages",
    "vector_stores",
    "instructions",
    "role",
    "name",
    "include",
    "tool_choice",
    "max_completion_tokens",
    "include_usage",
    "expires_after",
    "memory_limit",
    "network_policy",
    "service_tier",
    "file_search",
    "data",
    "text",
    "value",
]
NUMBERS = [0, 1, -1, 2**31, 2**63 - 1, 1.5]
TEXTS = ["", "a", "auto", "gpt-4o", "code_interpreter", "file_search", "user", "\x00", "\u2028"]
ODD: list[Any] = [
    "data:image/png;base64,AAAA",
    "https://[bad",
    "é" * 300,
    None,
    True,
    False,
    [],
    {},
]
VALUES: list[Any] = [*NUMBERS, *TEXTS, *ODD]


def _anything(dice: random.Random, depth: int) -> Any:
    kind = dice.random()
    if depth and kind < 0.35:
        fields = dice.sample(FIELDS, dice.randint(0, 5))
        return {name: _anything(dice, depth - 1) for name in fields}
    if depth and kind < 0.55:
        return [_anything(dice, depth - 1) for _ in range(dice.randint(0, 3))]
    return dice.choice(VALUES)


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize("seed", range(4))
async def test_no_body_makes_the_gateway_fail(
    street: Street, method: str, path: str, seed: int
) -> None:
    dice = random.Random(f"{path}/{seed}")
    assistant = await street.assistant()
    for _ in range(25):
        body = {name: _anything(dice, 4) for name in dice.sample(FIELDS, dice.randint(0, 7))}
        if dice.random() < 0.6:
            body["model"] = "gpt-4o"
        if dice.random() < 0.6:
            body["assistant_id"] = assistant
        answer = await street.blue.request(method, path, json=body)
        # What the simulated Azure cannot read is its own fault, and has its header.
        ours = "apim-request-id" not in answer.headers
        assert not (ours and answer.status_code in (500, 503)), (body, answer.text)
    await street.settled()
    assert await street.reserved() == {}
