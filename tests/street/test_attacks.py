"""The same bytes, the same money, the same id, by another route."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway.core.callers import KeyRing
from tests.street.conftest import Opener
from tests.street.evidence import estimates, total
from tests.street.living import AUTO, INTERPRETER, VERSION, Street, session_cap, session_caps

pytestmark = pytest.mark.anyio

CHAT = "/deployments/gpt-4o/chat/completions"


@pytest.mark.parametrize("stream", [1, "true", [], {}])
async def test_a_stream_asked_for_in_another_spelling_is_refused(
    street: Street, stream: Any
) -> None:
    mark = await street.mark()
    body = {"messages": [{"role": "user", "content": "hello"}], "stream": stream}
    answer = await street.dated("POST", CHAT, body)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "stream"
    assert await street.journal(mark) == []


async def test_an_item_named_by_id_alone_is_refused_like_any_item_reference(
    street: Street,
) -> None:
    mark = await street.mark()
    for item in ({"id": "msg_of_somebody"}, {"type": None, "id": "msg_of_somebody"}):
        body = {"model": "gpt-4o", "input": [item]}
        answer = await street.v1("POST", "/responses", body)
        assert answer.status_code == 403
        assert "`item-reference`" in answer.json()["error"]["message"]

    assert await street.journal(mark) == []


async def test_a_run_is_sent_with_the_tools_and_the_model_it_was_judged_by(street: Street) -> None:
    without = await street.assistant(tools=[], model="gpt-4o-mini")
    mark = await street.mark()
    await street.start(await street.thread(), without)

    sent = [row["json"] for row in await street.journal(mark) if row["target"].count("/runs")]
    assert sent[0]["tools"] == []
    assert sent[0]["model"] == "gpt-4o-mini"
    await street.agree()


async def test_a_tool_on_the_run_is_judged_whatever_the_assistant_has(open_street: Opener) -> None:
    caps = session_caps(session_cap("none", "team", 0, period="day"))
    async with open_street(policies=caps) as street:
        plain = await street.assistant(tools=[])
        thread = await street.thread("[[sim calls=1]]")
        body = {"assistant_id": plain, "tools": [INTERPRETER]}
        assert (await street.dated("POST", f"/threads/{thread}/runs", body)).status_code == 429
        changed = await street.dated("POST", f"/assistants/{plain}", {"tools": [INTERPRETER]})
        assert changed.status_code == 200
        body = {"assistant_id": plain}
        assert (await street.dated("POST", f"/threads/{thread}/runs", body)).status_code == 429

        assert (await street.agree())["session_count"] == 0


@pytest.mark.parametrize("tool", ["shell", "mcp", "web_search_preview", "computer_use", "bing"])
@pytest.mark.parametrize("path", ["/assistants", "/responses", "/threads/runs"])
async def test_a_tool_nobody_listed_is_refused_wherever_it_stands(
    street: Street, tool: str, path: str
) -> None:
    body: dict[str, Any] = {"model": "gpt-4o", "tools": [{"type": tool}]}
    if path == "/threads/runs":
        body["assistant_id"] = await street.assistant()
    if path == "/responses":
        body["input"] = "hello"
    mark = await street.mark()
    answer = await (street.v1 if path == "/responses" else street.dated)("POST", path, body)

    assert answer.status_code == 403
    assert "`tool-not-listed`" in answer.json()["error"]["message"]
    assert not [row for row in await street.journal(mark) if row["method"] == "POST"]


@pytest.mark.parametrize(
    "body",
    [
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_data": "TVqQ"}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://x"}]}]},
        {
            "input": [
                {
                    "role": "user",
                    "content": [{"type": "input_image", "image_url": "data:text/html;base64,AA=="}],
                }
            ]
        },
        {
            "input": [
                {
                    "role": "user",
                    "content": [{"type": "input_image", "image_url": "https://evil.example/x.png"}],
                }
            ]
        },
        {"input": "x", "tools": [{**AUTO, "container": {"type": "auto", "memory_limit": "64g"}}]},
        {
            "input": "x",
            "tools": [{**AUTO, "container": {"type": "auto", "network_policy": {"type": "open"}}}],
        },
    ],
)
async def test_bytes_and_hosts_do_not_come_in_by_way_of_a_response(
    street: Street, body: dict[str, Any]
) -> None:
    mark = await street.mark()
    answer = await street.v1("POST", "/responses", {"model": "gpt-4o", **body})

    assert answer.status_code in (403, 415), answer.text
    assert await street.journal(mark) == []


async def test_a_number_too_long_to_read_is_a_bad_request(street: Street) -> None:
    answer = await street.dated("GET", "/files?limit=" + "9" * 5000)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "limit"


async def test_a_thread_deleted_while_it_runs_still_pays_and_cannot_be_used_on(
    street: Street,
) -> None:
    assistant, thread = await street.assistant(), await street.thread("[[sim calls=1 run_s=60]]")
    run = await street.start(thread, assistant)
    first, second = await asyncio.gather(
        street.dated("DELETE", f"/threads/{thread}"), street.dated("DELETE", f"/threads/{thread}")
    )
    assert {first.status_code, second.status_code} <= {200, 404}
    for method, path in (("GET", run), ("GET", f"{run}/steps"), ("POST", f"{run}/cancel")):
        assert (await street.dated(method, path)).status_code == 404

    assert (await street.agree())["session_count"] == 1


async def test_ids_a_model_or_a_caller_writes_into_text_make_nobody_an_owner(
    street: Street,
) -> None:
    secret = (await street.upload()).json()["id"]
    text = f"sandbox:/mnt/data/{secret} file_id: {secret}"
    thread = await street.thread(text, team="red")
    body = {"role": "user", "content": text, "metadata": {"file_id": secret}}
    await street.made(f"/threads/{thread}/messages", body, team="red")
    listed = await street.dated("GET", f"/threads/{thread}/messages", team="red")
    assert secret in listed.text

    answer = await street.dated("GET", f"/files/{secret}/content", team="red")
    assert answer.status_code == 404
    assert (await street.dated("GET", f"/files/{secret}")).status_code == 200


async def test_a_key_in_the_query_or_a_cookie_opens_nothing(street: Street) -> None:
    key = street.keys["blue"]
    path = f"/openai/files?api-version={VERSION}"
    answers = [
        await street.azure.get(f"{street.url}{path}&api-key={key}"),
        await street.azure.get(f"{street.url}{path}", headers={"cookie": f"api-key={key}"}),
        await street.azure.get(f"{street.url}{path}", headers={"authorization": f"Basic {key}"}),
        await street.azure.get(f"{street.url}{path}", headers={"ocp-apim-subscription-key": key}),
    ]

    assert [answer.status_code for answer in answers] == [401] * 4


async def test_the_callers_key_and_cookies_never_reach_azure(street: Street) -> None:
    mark = await street.mark()
    await street.blue.post(
        f"/openai{CHAT}?api-version={VERSION}",
        json={"messages": [{"role": "user", "content": "hello"}]},
        headers={"cookie": "a=b", "x-forwarded-for": "10.0.0.1", "openai-organization": "org"},
    )

    (row,) = await street.journal(mark)
    names = {name for name, _ in row["headers"]}
    assert not names & {"cookie", "authorization", "x-forwarded-for", "openai-organization"}
    assert street.keys["blue"] not in str(row)
    assert ["api-key", "present"] in row["headers"]


@pytest.mark.parametrize(
    "path",
    [
        "/openai/deployments/gpt-4o/completions",
        "/openai/deployments/gpt-4o/images/generations",
        "/openai/deployments/gpt-4o/audio/transcriptions",
        "/openai/conversations",
        "/openai/uploads",
        "/openai/v1/batches",
        "/openai/v1/fine_tuning/jobs",
        "/openai/containers/cntr_1/files",
        "/api/projects/books/responses",
        "/api/projects/books/agents",
        "/openai/files/import",
        "/simulator/reset",
    ],
)
async def test_what_is_not_in_the_catalogue_goes_nowhere(street: Street, path: str) -> None:
    mark = await street.mark()
    answer = await street.blue.post(f"{path}?api-version={VERSION}", json={})

    assert answer.status_code in (404, 405)
    assert answer.json()["error"]["code"] in ("unknown_operation", "method_not_allowed")
    assert await street.journal(mark) == []


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/chat/completions", "max_output_tokens"),
        ("/chat/completions", "max_prompt_tokens"),
        ("/responses", "max_tokens"),
        ("/responses", "max_prompt_tokens"),
    ],
)
async def test_a_limit_that_azure_would_not_look_at_does_not_make_a_request_cheap(
    open_street: Opener, path: str, name: str
) -> None:
    budget = '[[budget]]\nrule = "b"\nsubject = "team"\nperiod = "day"\nusd = "0.001"\n'
    async with open_street(policies={"budgets.toml": budget}) as street:
        text = "[[sim tokens=1000/0/2000]]"
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], name: 1}
        if path == "/responses":
            body = {"model": "gpt-4o", "input": text, name: 1}
        answer = await street.v1("POST", path, body)

        assert answer.status_code in (400, 429)
        assert (await street.agree())["total_nano_usd"] == 0


@pytest.mark.parametrize("path", ["/chat/completions", "/responses"])
async def test_a_dearer_service_tier_is_refused_because_it_has_no_price(
    street: Street, path: str
) -> None:
    said = {"messages": [{"role": "user", "content": "a"}], "input": "a"}
    seen = []
    for tier in ("priority", "default", "auto", None):
        body = {"model": "gpt-4o", **said, "service_tier": tier}
        body.pop("input" if path == "/chat/completions" else "messages")
        seen.append((await street.v1("POST", path, body)).status_code)

    assert seen == [403, 200, 200, 200]


async def test_two_cursors_in_any_order_are_never_a_fault(street: Street) -> None:
    ids = []
    for number in range(4):
        ids.append((await street.upload(name=f"t{number}.csv")).json()["id"])
        await street.advance(1)
    crossed = await street.dated("GET", f"/files?after={ids[0]}&before={ids[3]}")
    between = await street.dated("GET", f"/files?after={ids[3]}&before={ids[0]}")
    same = await street.dated("GET", f"/files?after={ids[1]}&before={ids[1]}")

    assert crossed.json()["data"] == []
    assert [row["id"] for row in between.json()["data"]] == [ids[2], ids[1]]
    assert same.json()["data"] == []


async def test_a_page_is_not_empty_because_its_newest_are_of_another_purpose(
    street: Street,
) -> None:
    wanted = (await street.upload(b'{"a": 1}\n', "b.jsonl", media_type="", purpose="batch")).json()
    for number in range(5):
        await street.advance(1)
        await street.upload(name=f"t{number}.csv")

    page = (await street.dated("GET", "/files?purpose=batch&limit=2")).json()
    assert [row["id"] for row in page["data"]] == [wanted["id"]]
    assert page["has_more"] is False
    others = (await street.dated("GET", "/files?purpose=assistants&limit=2")).json()
    assert (len(others["data"]), others["has_more"]) == (2, True)


async def test_a_background_response_deleted_at_once_is_paid_for(street: Street) -> None:
    body = {"model": "gpt-4o", "input": "[[sim calls=1]]", "tools": [AUTO], "background": True}
    made = await street.made("/responses", body, surface="v1")
    assert (await street.v1("DELETE", f"/responses/{made['id']}")).status_code == 200
    assert (await street.v1("GET", f"/responses/{made['id']}")).status_code == 404

    assert (await street.agree())["session_count"] == 1
    assert [row["method"] for row in await street.journal()].count("DELETE") == 1


async def test_a_response_that_is_not_stored_and_was_cut_is_an_estimate_and_never_free(
    street: Street,
) -> None:
    body = {"model": "gpt-4o", "input": "[[sim calls=1 cut=2]]", "tools": [AUTO], "store": False}
    with pytest.raises(httpx.RemoteProtocolError):
        await street.v1("POST", "/responses", {**body, "stream": True})
    await street.settled()

    lines = await street.ledger()
    assert set(estimates(lines).values()) == {"response_gone"}
    assert total(lines) >= (await street.invoice())["total_nano_usd"]
    assert await street.reserved() == {}


async def test_a_body_over_the_limit_is_refused_also_without_a_length(street: Street) -> None:
    mark = await street.mark()
    body = b'{"messages": [{"role": "user", "content": "' + b"a" * 1_100_000 + b'"}]}'

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    headers = {"content-type": "application/json"}
    target = f"/openai{CHAT}?api-version={VERSION}"
    for content in (body, pieces()):
        answer = await street.blue.post(target, content=content, headers=headers)
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "request_too_large"

    assert await street.journal(mark) == []


async def test_a_revoked_key_is_out_at_once(street: Street) -> None:
    store = street.gateway.house.store
    (blue,) = [record for record in await store.keys() if record.team == "blue"]
    await store.revoke_key(blue.public, street.clock.at)
    pepper = (street.folder / "ledger.db.pepper").read_bytes().strip()
    street.gateway.house.ring = KeyRing(await store.keys(), pepper)

    assert (await street.dated("GET", "/files")).status_code == 401
    assert (await street.dated("GET", "/files", team="red")).status_code == 200


async def test_a_container_used_on_and_on_is_billed_by_the_hour(street: Street) -> None:
    made = await street.made("/containers", {"name": "x"}, surface="v1")
    tools = [{"type": "code_interpreter", "container": made["id"]}]
    body = {"model": "gpt-4o", "input": "[[sim calls=1]]", "tools": tools}
    for minute in range(15, 140, 15):
        await street.until(minute * 60)
        assert (await street.v1("POST", "/responses", body)).status_code == 200

    assert (await street.agree())["session_count"] == 3
