"""What a caller reads about a request, while it runs, at its end and afterwards; and a shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

import httpx
import pytest

from gateway.simulator import SimulatorConfig
from gateway.stores.readonly import open_reader
from tests.street.conftest import Opener
from tests.street.evidence import estimates, kept_bytes, tokens_by_model
from tests.street.living import (
    AUTO,
    AZURE_KEY,
    START_S,
    VERSION,
    Street,
    living,
    session_cap,
    session_caps,
)

pytestmark = pytest.mark.anyio

CHAT = f"/openai/deployments/gpt-4o/chat/completions?api-version={VERSION}"
SLOW = {
    "messages": [{"role": "user", "content": "[[sim words=60 tokens=9/0/60]]"}],
    "stream": True,
}


async def test_every_answer_has_an_id_of_ours_and_no_two_the_same(street: Street) -> None:
    answers = [
        await street.blue.post(CHAT, json={"messages": [{"role": "user", "content": "hello"}]}),
        await street.blue.get("/openai/nothing"),
        await street.azure.get(f"{street.url}/openai/files"),
        await street.blue.get(f"/openai/files?api-version={VERSION}"),
        await street.upload(b"MZ", "a.exe"),
    ]

    names = [answer.headers.get_list("x-request-id") for answer in answers]
    assert all(len(each) == 1 and each[0].startswith("gw-") for each in names)
    assert len({each[0] for each in names}) == len(names)


async def test_the_desk_says_what_a_request_cost_to_the_last_digit(street: Street) -> None:
    body = {"messages": [{"role": "user", "content": "[[sim tokens=1000/400/50]]"}]}
    made = await street.blue.post(CHAT, json=body)
    told = (await street.blue.get(f"/gateway/v1/requests/{made.headers['x-request-id']}")).json()

    assert told["state"] == "settled"
    assert told["operation"] == "chat.completions"
    assert told["usd"] == "0.0025"
    assert {line["meter"]: line["quantity"] for line in told["lines"]} == {
        "input_tokens": 600,
        "cached_input_tokens": 400,
        "output_tokens": 50,
    }


async def test_the_desk_follows_a_run_from_its_start_to_its_bill(street: Street) -> None:
    assistant, thread = await street.assistant(), await street.thread("[[sim calls=1]]")
    made = await street.dated("POST", f"/threads/{thread}/runs", {"assistant_id": assistant})
    path = f"/gateway/v1/requests/{made.headers['x-request-id']}"
    under_way = (await street.blue.get(path)).json()
    await street.agree()
    done = (await street.blue.get(path)).json()

    assert made.headers["x-gateway-session"] == "reserved"
    assert (under_way["state"], under_way["run"]) == ("awaiting", made.json()["id"])
    assert under_way["lines"] == []
    assert done["state"] == "settled"
    meters = {line["meter"]: line["quantity"] for line in done["lines"]}
    assert meters["code_interpreter_session"] == 1


async def test_a_team_sees_what_it_used_what_is_held_and_its_caps(open_street: Opener) -> None:
    caps = session_caps(session_cap("blue-day", "team", 5, period="day"))
    async with open_street(policies=caps) as street:
        assistant = await street.assistant()
        await street.call(await street.thread(), assistant)
        await street.start(await street.thread("[[sim calls=1]]"), assistant)
        blue = (await street.blue.get("/gateway/v1/me")).json()
        red = (await street.red.get("/gateway/v1/me")).json()

        assert blue["team"] == "blue"
        assert blue["used"]["day"]["sessions"] == {"used": 1, "reserved": 1}
        assert red["used"]["day"]["sessions"] == {"used": 0, "reserved": 0}
        assert [(cap["rule"], cap["ceiling"]) for cap in blue["caps"]] == [("blue-day", 5)]
        await street.agree()


async def test_azures_rate_limit_headers_pass_and_its_names_do_not(street: Street) -> None:
    answer = await street.blue.post(CHAT, json={"messages": [{"role": "user", "content": "a"}]})

    assert answer.headers["x-ratelimit-remaining-requests"] == "999"
    assert answer.headers["x-ms-region"] == "Sweden Central"
    assert answer.headers["apim-request-id"]
    assert "x-ms-middleware-request-id" not in answer.headers
    assert "server" not in answer.headers


async def test_a_session_that_is_open_is_told_so(street: Street) -> None:
    assistant, thread = await street.assistant(), await street.thread("[[sim calls=1]]")
    body = {"assistant_id": assistant, "stream": True}
    seen = [
        (await street.dated("POST", f"/threads/{thread}/runs", body)).headers["x-gateway-session"]
        for _ in range(2)
    ]

    assert seen == ["reserved", "open"]


async def test_the_last_byte_of_a_stream_leaves_after_its_cost_is_on_disk(street: Street) -> None:
    body = {**SLOW, "messages": [{"role": "user", "content": "[[sim tokens=9/0/6]]"}]}
    async with street.blue.stream("POST", CHAT, json=body) as answer:
        text = ""
        async for chunk in answer.aiter_text():
            text += chunk
            if "[DONE]" in text:
                with open_reader(street.database) as reader:
                    lines = list(reader.ledger())
                break

    assert tokens_by_model(lines) == {"gpt-4o": {"input_tokens": 9, "output_tokens": 6}}


async def test_a_stream_under_way_at_a_shutdown_is_finished_and_booked(tmp_path: Path) -> None:
    config = SimulatorConfig(wall_clock=False, run_s=10, start_s=START_S, chunk_delay_s=0.01)
    async with contextlib.AsyncExitStack() as outer:
        began = asyncio.Event()

        async def read(url: str, key: str) -> str:
            seen = ""
            client = await outer.enter_async_context(httpx.AsyncClient(timeout=30))
            async with client.stream(
                "POST", f"{url}{CHAT}", json=SLOW, headers={"api-key": key}
            ) as answer:
                async for chunk in answer.aiter_text():
                    seen += chunk
                    began.set()
            return seen

        async with asyncio.TaskGroup() as group, living(tmp_path, config=config) as street:
            reading = group.create_task(read(street.url, street.keys["blue"]))
            await began.wait()
            assert not reading.done()
        text = reading.result()

    assert text.rstrip().endswith("data: [DONE]")
    with open_reader(tmp_path / "ledger.db") as reader:
        lines = list(reader.ledger())
        assert reader.unsettled() == (0, None)
    assert estimates(lines) == {}
    assert tokens_by_model(lines) == {"gpt-4o": {"input_tokens": 9, "output_tokens": 60}}


async def test_nothing_secret_is_kept_told_or_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prompt, content, name = "PROMPT-9f31c07e", "CONTENT-77aa02bd", "NAME-5c1d9e"
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    async with living(tmp_path) as street:
        keys = list(street.keys.values())
        assistant = await street.assistant(instructions=prompt)
        thread = await street.thread(f"{prompt} [[sim calls=1]]")
        answers = [
            await street.blue.post(CHAT, json={"messages": [{"role": "user", "content": prompt}]}),
            await street.blue.post(
                CHAT,
                json={"messages": [{"role": "user", "content": f"{prompt} [[sim status=500]]"}]},
            ),
            await street.blue.post(CHAT, content=f'{{"{prompt}": 1, "{prompt}": 2}}'.encode()),
            await street.blue.post(CHAT, content=f'{{"{prompt}'.encode()),
            await street.upload(f"{content}\n".encode(), f"{name}.csv"),
            await street.upload(b"MZ" + content.encode(), f"{name}.csv"),
            await street.upload(content.encode(), f"{name}.exe"),
            await street.dated("POST", f"/threads/{thread}/runs", {"assistant_id": assistant}),
            await street.dated("GET", f"/files/{keys[0]}"),
            await street.azure.get(
                f"{street.url}/openai/files", headers={"api-key": keys[0] + "x"}
            ),
            await street.azure.get(f"{street.url}/openai/files?api-key={keys[0]}"),
            await street.v1(
                "POST", "/responses", {"model": "gpt-4o", "input": prompt, "tools": [AUTO]}
            ),
        ]
        told += [answer.text for answer in answers if answer.is_error]
        told += [str(answer.headers) for answer in answers]
        await street.settled()
        told.append(await street.metrics())
        told += [(await street.blue.get("/gateway/v1/me")).text]
        kept = kept_bytes(tmp_path)
    kept += kept_bytes(tmp_path)

    # The simulated Azure answers with prompts nowhere; what these clients log is their own.
    logged = [
        record.getMessage() + str(record.exc_info)
        for record in caplog.records
        if record.name.partition(".")[0] == "gateway"
    ]
    assert answers[0].is_success
    for secret in (prompt, content, AZURE_KEY, *keys):
        assert not [text for text in (*told, *logged) if secret in text]
        assert secret.encode() not in kept
    assert name.encode() not in kept
