"""Tokens and containers: chat, embeddings, Responses, and callers who leave before the end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.street.evidence import estimates, invoiced_sessions, sessions_by_scope, total
from tests.street.living import AUTO, VERSION, Street, eventually

pytestmark = pytest.mark.anyio

# The SDK warns of the Assistants API's end, which is what many programs still call.
SPEAKS_OF_ASSISTANTS = pytest.mark.filterwarnings("ignore::DeprecationWarning")

CHAT = "/deployments/gpt-4o/chat/completions"


def _chat(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def _response(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "input": text, "tools": [AUTO], **more}


async def test_plain_streamed_and_embedded_tokens_are_billed_with_the_cached_ones_apart(
    street: Street,
) -> None:
    await street.made(CHAT, _chat("[[sim tokens=1000/400/50]]"))
    await street.dated("POST", CHAT, _chat("[[sim tokens=30/30/1]]", stream=True))
    await street.v1("POST", "/chat/completions", {"model": "gpt-4.1", **_chat("hello", n=2)})
    await street.made("/deployments/text-embedding-3-small/embeddings", {"input": ["a b", "c"]})
    await street.made(
        "/embeddings", {"model": "text-embedding-3-large", "input": "a"}, surface="v1"
    )

    invoice = await street.agree()

    chat = invoice["tokens"][1]
    assert chat["model"] == "gpt-4o"
    assert (chat["input_tokens"], chat["cached_input_tokens"], chat["output_tokens"]) == (
        600,
        430,
        51,
    )
    assert chat["nano_usd"] == 600 * 2500 + 430 * 1250 + 51 * 10_000


async def test_a_streaming_client_that_did_not_ask_for_usage_does_not_see_it(
    street: Street,
) -> None:
    silent = await street.dated("POST", CHAT, _chat("hello", stream=True))
    asking = _chat("hello", stream=True, stream_options={"include_usage": True})
    told = await street.dated("POST", CHAT, asking)

    assert '"usage":{' not in silent.text
    assert '"usage":{' in told.text
    await street.agree()


async def test_a_caller_who_leaves_in_the_middle_is_metered_to_the_token(street: Street) -> None:
    body = _chat("[[sim words=2000 tokens=70/0/2000]]", stream=True)
    async with street.blue.stream(
        "POST", f"/openai{CHAT}?api-version={VERSION}", json=body
    ) as answer:
        async for _ in answer.aiter_bytes(64):
            break

    invoice = await street.agree()

    assert invoice["tokens"][0]["output_tokens"] == 2000


async def test_a_caller_who_leaves_a_run_in_the_middle_is_metered_to_the_token(
    street: Street,
) -> None:
    assistant, thread = await street.assistant(), await street.thread()
    await street.say(thread, "[[sim calls=1 words=1500]]")
    async with street.blue.stream(
        "POST",
        f"/openai/threads/{thread}/runs?api-version={VERSION}",
        json={"assistant_id": assistant, "stream": True},
    ) as answer:
        async for _ in answer.aiter_bytes(64):
            break

    assert (await street.agree())["session_count"] == 1


async def test_a_caller_who_leaves_before_the_first_byte_is_metered_all_the_same(
    street: Street,
) -> None:
    body = json.dumps(_chat("[[sim delay_s=0.3 tokens=11/0/3]]")).encode()
    head = (
        f"POST /openai{CHAT}?api-version={VERSION} HTTP/1.1\r\nhost: gateway\r\n"
        f"api-key: {street.keys['blue']}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    _, writer = await asyncio.open_connection("127.0.0.1", street.gateway.data_port)
    writer.write(head.encode() + body)
    await eventually(street.has_charged_tokens)
    writer.close()
    await writer.wait_closed()

    assert (await street.agree())["tokens"][0]["input_tokens"] == 11


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_failure_after_the_work_is_never_taken_for_free(
    street: Street, status: int
) -> None:
    answer = await street.dated("POST", CHAT, _chat(f"[[sim status={status} after=1]]"))
    assert answer.status_code == status
    await street.settled()

    lines = await street.ledger()
    assert set(estimates(lines).values()) == {f"status_{status}"}
    assert total(lines) >= (await street.invoice())["total_nano_usd"]
    assert await street.reserved() == {}


async def test_a_rate_limit_of_azures_costs_nothing_and_reaches_the_caller(street: Street) -> None:
    answer = await street.dated("POST", CHAT, _chat("[[sim status=429]]"))

    assert answer.status_code == 429
    assert (await street.agree())["total_nano_usd"] == 0


async def test_a_chat_stream_cut_short_is_an_estimate_and_says_so(street: Street) -> None:
    body = _chat("[[sim cut=3]]", stream=True)
    with pytest.raises(httpx.RemoteProtocolError):
        await street.dated("POST", CHAT, body)
    await street.settled()

    lines = await street.ledger()
    assert set(estimates(lines).values()) == {"usage_not_readable"}
    assert total(lines) >= (await street.invoice())["total_nano_usd"]


@pytest.mark.parametrize("surface", ["dated", "v1"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_response_that_shows_its_container_is_one_session_there(
    street: Street, stream: bool, surface: str
) -> None:
    body = _response("[[sim calls=2 outputs=logs tokens=90/20/8]]", stream=stream)
    if surface == "v1":
        answer = await street.v1("POST", "/responses", body)
    else:
        answer = await street.blue.post(
            "/openai/responses?api-version=2025-04-01-preview", json=body
        )
    assert answer.status_code == 200, answer.text

    invoice = await street.agree()

    assert invoice["session_count"] == 1
    assert invoice["tokens"][0]["cached_input_tokens"] == 20


async def test_a_response_stream_cut_short_is_read_back(street: Street) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await street.v1("POST", "/responses", _response("[[sim calls=1 cut=2]]", stream=True))

    assert (await street.agree())["session_count"] == 1


async def test_a_response_in_the_background_is_settled_though_nobody_asks(street: Street) -> None:
    body = _response("[[sim calls=1 tokens=40/0/4]]", background=True)
    queued = await street.made("/responses", body, surface="v1")
    assert queued["status"] == "queued"

    invoice = await street.agree()

    assert invoice["session_count"] == 1
    assert invoice["tokens"][0]["output_tokens"] == 4


async def test_an_automatic_container_that_was_never_shown_is_an_estimate(street: Street) -> None:
    made = await street.made("/responses", _response("[[sim calls=0]]"), surface="v1")
    await street.settled()

    lines, invoice = await street.ledger(), await street.invoice()
    assert set(estimates(lines).values()) == {"automatic container, not shown"}
    assert sessions_by_scope(lines) == {("response", made["id"]): 1}
    assert total(lines) == invoice["total_nano_usd"]
    assert await street.reserved() == {}


async def test_a_container_of_ones_own_is_one_session_however_often_it_is_used(
    street: Street,
) -> None:
    made = await street.made("/containers", {"name": "work"}, surface="v1")
    for _ in range(2):
        tools = [{"type": "code_interpreter", "container": made["id"]}]
        body = _response("[[sim calls=1]]", tools=tools)
        assert (await street.v1("POST", "/responses", body)).status_code == 200

    assert (await street.agree())["session_count"] == 1


async def test_a_container_that_idled_away_and_one_that_did_not(street: Street) -> None:
    made = await street.made("/containers", {"name": "work"}, surface="v1")
    tools = [{"type": "code_interpreter", "container": made["id"]}]
    await street.until(1199)
    assert (
        await street.v1("POST", "/responses", _response("[[sim calls=1]]", tools=tools))
    ).is_success
    await street.until(2399)
    body = _response(
        "[[sim calls=1]]", tools=[{"type": "code_interpreter", "container": made["id"]}]
    )
    answer = await street.v1("POST", "/responses", body)
    assert answer.status_code == 404

    await street.settled()
    lines, invoice = await street.ledger(), await street.invoice()
    assert sessions_by_scope(lines) == invoiced_sessions(invoice)
    assert await street.reserved() == {}


async def test_a_container_that_was_only_read_meanwhile_has_its_one_session_still(
    street: Street,
) -> None:
    made = await street.made("/containers", {"name": "work"}, surface="v1")
    await street.until(900)
    assert (await street.v1("GET", f"/containers/{made['id']}")).is_success
    await street.until(1800)
    tools = [{"type": "code_interpreter", "container": made["id"]}]
    body = _response("[[sim calls=1]]", tools=tools)
    assert (await street.v1("POST", "/responses", body)).is_success

    assert (await street.agree())["session_count"] == 1


@SPEAKS_OF_ASSISTANTS
async def test_the_sdk_sees_its_program_through_and_the_bill_agrees(street: Street) -> None:
    sdk = street.sdk(version="2024-05-01-preview")
    file = await sdk.files.create(file=("speech.py", b"print('hello')\n"), purpose="assistants")
    assistant = await sdk.beta.assistants.create(
        model="gpt-4o-mini",
        tools=[{"type": "code_interpreter"}],
        tool_resources={"code_interpreter": {"file_ids": [file.id]}},
    )
    thread = await sdk.beta.threads.create()
    await sdk.beta.threads.messages.create(thread.id, role="user", content="Please plot a sine")
    async with sdk.beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id) as run:
        await run.until_done()
    messages = await sdk.beta.threads.messages.list(thread.id)
    pictures = [
        part.image_file.file_id
        for message in messages.data
        for part in message.content
        if part.type == "image_file"
    ]
    picture = await sdk.files.content(pictures[0])
    assert picture.read().startswith(b"\x89PNG")
    response = await street.sdk_v1().responses.create(
        model="gpt-4o",
        input="draw a picture",
        tools=[{"type": "code_interpreter", "container": {"type": "auto"}}],
    )
    assert response.output

    assert (await street.agree())["session_count"] == 2


async def test_a_poll_of_anothers_making_changes_no_bill(street: Street) -> None:
    """The same news may come by stream, by poll and by settlement; it is billed once."""
    body = _response("[[sim calls=1]]", stream=True)
    streamed = await street.v1("POST", "/responses", body)
    events = [line[6:] for line in streamed.text.splitlines() if line.startswith("data: {")]
    name = json.loads(events[-1])["response"]["id"]
    before = await street.agree()
    for _ in range(3):
        assert (await street.v1("GET", f"/responses/{name}")).status_code == 200

    assert await street.agree() == before
