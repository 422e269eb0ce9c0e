"""The defects gateways were broken by, one test for each class, with what went wrong elsewhere."""

from __future__ import annotations

import asyncio
import json
import logging

import httpx
import pytest

from gateway.core.callers import digest
from gateway.core.canonical import parse_object
from gateway.core.errors import Refusal
from gateway.core.multipart import FormReader
from tests.hostile.wall import (
    CHAT_TARGET,
    CLEAN_CHAT,
    CLEAN_FILE,
    FILE,
    HELLO,
    JSON_LINE,
    KEY,
    KEY_LINE,
    RED_FILE,
    RED_KEY,
    Vector,
    Wall,
    post,
    request,
)
from tests.street.living import INTERPRETER, VERSION, living, session_cap, session_caps

pytestmark = pytest.mark.anyio

QUERY = b"?api-version=" + VERSION.encode()
LENGTH = b"Content-Length: %d" % len(HELLO)


def showing(*lines: bytes) -> bytes:
    """Return a clean request that shows `lines` in the place of a key."""
    return request(CHAT_TARGET, *lines, JSON_LINE, LENGTH, method=b"POST", body=HELLO)


async def refused(wall: Wall, sent: bytes, *, clean: bytes = CLEAN_CHAT) -> None:
    await wall.withstands(Vector("", sent), clean=clean)


async def test_a_key_is_looked_up_by_its_digest_and_never_written_into_a_statement(
    wall: Wall,
) -> None:
    """CVE-2026-42208: the key was joined into SQL in the error path of its verification."""
    tricks = (
        b"gw-' OR 1=1 --",
        b"gw-%",
        b"gw-_'; DROP TABLE keys; --",
        b"' UNION SELECT 1 --",
        b"\xff",
    )
    for trick in tricks:
        await refused(wall, showing(b"api-key: " + trick))
        await refused(wall, showing(b"Authorization: Bearer " + trick))
    assert len(await wall.street.gateway.house.store.keys()) == 2


async def test_the_host_decides_nothing(wall: Wall) -> None:
    """CVE-2026-48710, CVE-2026-49468: authorization read a URL that was rebuilt from Host."""
    target = b"/openai/files/" + RED_FILE + QUERY
    own = b"gateway/openai/files/" + FILE
    for host in (own + b"?", own + b"#", own, b"a@gateway", b"gateway?"):
        await refused(wall, request(target, KEY_LINE, host=b"Host: " + host), clean=CLEAN_FILE)
    for host in (b"other.example", b"openai"):
        await refused(wall, request(target, KEY_LINE, host=b"Host: " + host), clean=CLEAN_FILE)


@pytest.mark.parametrize("cut", [1, 3, 12, 16, 20, 39])
async def test_a_key_that_begins_like_a_known_one_is_not_known(wall: Wall, cut: int) -> None:
    """CVE-2026-35030: the cache of verified keys was keyed on their first 20 characters."""
    await wall.clean_row(CLEAN_CHAT)  # The real key was seen and could be remembered.
    await refused(wall, showing(b"api-key: " + wall.names[KEY][:-cut] + b"a" * cut + b"a"))
    await refused(wall, showing(b"api-key: " + wall.names[KEY][:-cut]))
    await refused(wall, showing(b"api-key: " + wall.names[KEY] + b"a" * cut))


async def test_what_is_kept_of_a_key_is_no_key(wall: Wall) -> None:
    """GHSA-69x8-hrgq-fjj8: the stored hash was accepted in the place of the secret."""
    (kept, _) = await wall.street.gateway.house.store.keys()
    pepper = (wall.street.folder / "ledger.db.pepper").read_bytes().strip()
    assert kept.digest in {digest(wall.names[name].decode(), pepper) for name in (KEY, RED_KEY)}
    for shown in (kept.digest.hex(), kept.public, f"gw-{kept.public}-", f"gw-{kept.digest.hex()}"):
        await refused(wall, showing(b"api-key: " + shown.encode()))


async def test_a_caller_cannot_choose_where_his_request_goes(wall: Wall) -> None:
    """CVE-2024-6587, CVE-2025-66405: a field or header named the upstream, which got our key."""
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}".encode()
        names = (b"X-Portkey-Custom-Host", b"X-Azure-Endpoint", b"api-base", b"X-Forwarded-Host")
        for name in names:
            await wall.withstands(Vector("", post(name + b": " + url), 1), clean=CLEAN_CHAT)
        for field in (b"api_base", b"base_url", b"azure_endpoint", b"custom_host", b"user_config"):
            body = HELLO[:-1] + b',"' + field + b'":"' + url + b'"}'
            await wall.say(post(body=body))
        await wall.say(request(url + b"/openai/files" + QUERY, KEY_LINE))
    assert heard == []


@pytest.mark.parametrize(
    "path",
    ["/v1/proxy/openai/files/", "/proxy/", "/openai/deployments/gpt-4o/files/", "/v1/files/"],
)
async def test_an_old_way_to_an_operation_has_no_way_around_its_check(
    wall: Wall, path: str
) -> None:
    """Portkey-AI/gateway#1718: the fix stood before each route, and an old one had none."""
    for method in (b"GET", b"POST", b"DELETE", b"PUT"):
        sent = request(path.encode() + RED_FILE + QUERY, KEY_LINE, method=method)
        await refused(wall, sent, clean=CLEAN_FILE)


@pytest.mark.parametrize("name", [b"x-api-key", b"X-Goog-Api-Key", b"Ocp-Apim-Subscription-Key"])
async def test_a_key_counts_in_two_places_and_nowhere_else(wall: Wall, name: bytes) -> None:
    """GHSA-57q6-fvp4-pqmm: a restriction was not applied when the key came in `x-api-key`."""
    await refused(wall, showing(name + b": " + KEY))
    await refused(wall, showing(b"api-key: wrong", name + b": " + KEY))
    await wall.withstands(Vector("", post(name + b": " + RED_KEY), 1), clean=CLEAN_CHAT)


@pytest.mark.parametrize("below", ["", "/content"])
@pytest.mark.parametrize("method", [b"GET", b"DELETE"])
async def test_what_lies_below_an_object_has_its_owner(
    wall: Wall, below: str, method: bytes
) -> None:
    """CVE-2026-30886, BerriAI/litellm#35530: a sub-resource and raw ids had no owner check."""
    target = b"/openai/files/" + RED_FILE + below.encode() + QUERY
    await refused(wall, request(target, KEY_LINE, method=method), clean=CLEAN_FILE)


async def test_a_list_names_nothing_of_another_team_not_even_at_its_ends(wall: Wall) -> None:
    """BerriAI/litellm#36087: `data` was filtered, but `first_id` and `last_id` told the rest."""
    street = wall.street
    for team in ("red", "blue", "red"):
        await street.advance(1)
        await street.upload(team=team)
    listed = await street.dated("GET", "/files?limit=1&order=asc")
    page = listed.json()

    theirs = {row["id"] for row in (await street.dated("GET", "/files", team="red")).json()["data"]}
    assert len(theirs) == 3
    assert not any(each in listed.text for each in theirs)
    assert page.get("first_id", page["data"][0]["id"]) == page["data"][0]["id"]
    assert (await street.dated("GET", f"/files?after={min(theirs)}")).status_code == 404


async def test_an_id_is_a_name_and_no_pattern(wall: Wall) -> None:
    """CVE-2026-25591: a caller's `%` was a wildcard of SQL in a look-up."""
    for pattern in (b"%25", b"file-%25", b"file_______________", b"_" * 29, b"*"):
        await refused(
            wall, request(b"/openai/files/" + pattern + QUERY, KEY_LINE), clean=CLEAN_FILE
        )


async def test_requests_at_once_at_the_edge_of_a_cap_do_not_get_past_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """BerriAI/litellm#34732, new-api#6609: the balance was read first and reduced afterwards."""
    caps = session_caps(session_cap("edge", "team", 2, period="day"))
    async with living(tmp_path_factory.mktemp("edge"), policies=caps) as street:
        assistant = await street.assistant(tools=[INTERPRETER])
        threads = [await street.thread("[[sim calls=1]]") for _ in range(6)]
        body = {"assistant_id": assistant}
        starts = [street.dated("POST", f"/threads/{each}/runs", body) for each in threads]
        answers = await asyncio.gather(*starts)

        assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429, 429, 429]
        assert (await street.agree())["session_count"] == 2


async def test_a_caller_who_hangs_up_has_still_used_what_he_used(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """BerriAI/litellm#14457: a client's leaving ended the reading of the reply, and its usage."""
    async with living(tmp_path_factory.mktemp("gone")) as street:
        text = "[[sim words=3000]]"
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], "stream": True}
        async with street.blue.stream("POST", "/openai/v1/chat/completions", json=body) as answer:
            async for _ in answer.aiter_raw():
                break
        invoice = await street.agree()
        assert invoice["total_nano_usd"] > 0


async def test_the_log_holds_neither_a_key_nor_a_prompt(
    wall: Wall, caplog: pytest.LogCaptureFixture
) -> None:
    """BerriAI/litellm, March 2026: whole requests with their Authorization went into the log."""
    caplog.set_level(logging.DEBUG)
    marker = b"marker-of-a-prompt"
    await wall.say(post(b"Cookie: " + marker, body=HELLO.replace(b"hello", marker)))
    await wall.say(post(body=b'{"messages":"' + marker))
    await wall.say(showing(b"api-key: " + marker))
    text = caplog.text + await wall.street.metrics()

    assert marker.decode() not in text
    assert wall.names[KEY].decode() not in text


async def test_a_segment_of_dots_and_a_semicolon_is_not_normalised(wall: Wall) -> None:
    """CVE-2026-73551: `/user/..;foo=bar/admin` was one path to the filter, another behind it."""
    for dots in (b"..;foo=bar", b"..;", b".;/..", b"..%3bfoo=bar", b";/.."):
        target = b"/openai/files/" + RED_FILE + b"/" + dots + b"/" + FILE + QUERY
        await refused(wall, request(target, KEY_LINE), clean=CLEAN_FILE)


def test_the_head_of_a_part_is_read_in_one_pass() -> None:
    """CVE-2026-28356: a Content-Disposition of many quotes took exponential time to read."""
    for bad in (b'"' + b"\\" * 3_000, b'"' + b'\\"' * 1_800, b"a;" * 1_900, b'"";' * 1_200):
        head = b'--B\r\nContent-Disposition: form-data; name="file"; filename=' + bad
        with pytest.raises(Refusal):
            list(FormReader("B").feed(head + b"\r\n\r\nx\r\n--B--\r\n" + b" " * 200))


def test_a_form_is_bounded_in_the_whole_and_not_only_part_by_part() -> None:
    """CVE-2026-42561, CVE-2025-69228: many small parts or headers cost without a limit."""
    parts = b"".join(
        b'--B\r\nContent-Disposition: form-data; name="f%d"\r\n\r\n\r\n' % n for n in range(1000)
    )
    with pytest.raises(Refusal, match="more than `16` parts"):
        list(FormReader("B").feed(parts))
    headers = b"--B\r\n" + b"".join(b"X-%d: a\r\n" % number for number in range(1000))
    with pytest.raises(Refusal, match="more than `3` headers"):
        list(FormReader("B").feed(headers))


def test_a_text_without_an_end_is_looked_at_once() -> None:
    """CVE-2025-69229 and its kind: work that grows with the square of what is sent.

    Each quote of the body would begin a search to its end, hours of one core's time in all.
    """
    with pytest.raises(Refusal, match="objects and lists"):
        parse_object(b"[" * 100_001 + b'"' + b'\\"' * 4_000_000)


async def test_trailers_never_become_headers(wall: Wall) -> None:
    """CVE-2026-22815: trailers were kept without a limit, and joined to the headers."""
    body = b"%x\r\n%b\r\n0\r\n" % (len(HELLO), HELLO)
    for trailer in (KEY_LINE, b"X-A: b\r\n" * 500, b"X-A: " + b"b" * 60_000):
        lines = (b"api-key: wrong", JSON_LINE, b"Transfer-Encoding: chunked")
        sent = request(CHAT_TARGET, *lines, method=b"POST", body=body + trailer + b"\r\n\r\n")
        await refused(wall, sent)
        await refused(wall, sent.replace(b"api-key: wrong", KEY_LINE))


async def test_a_chunk_ends_where_it_says(wall: Wall) -> None:
    """CVE-2025-43859: any two bytes were taken for the line end behind a chunk."""
    for end in (b"xx", b"\n\n", b"\r\r", b"\r", b"0\r", b"  "):
        body = b"%x\r\n%b%b0\r\n\r\n" % (len(HELLO), HELLO, end)
        sent = request(
            CHAT_TARGET,
            KEY_LINE,
            JSON_LINE,
            b"Transfer-Encoding: chunked",
            method=b"POST",
            body=body,
        )
        await refused(wall, sent)


async def test_a_file_name_is_no_path(wall: Wall) -> None:
    """CVE-2026-24486: a form's file name was joined to a folder and could leave it."""
    for name in (
        "../a.csv",
        "..\\a.csv",
        "/etc/a.csv",
        "a/../b.csv",
        "%2e%2e%2fa.csv",
        "..%5ca.csv",
    ):
        answer = await wall.street.upload(name=name)
        assert answer.status_code == 400
        assert json.loads(answer.content)["error"]["code"] == "malformed_upload"
    spool = wall.street.folder / "spool"
    assert [each.name for each in spool.iterdir() if each.suffix == ".csv"] == []


async def test_a_redirect_of_the_upstream_takes_our_key_nowhere(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Server-side request forgery by way of an answer: the next host would be shown our key."""
    asked: list[str] = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.read(100)).decode("latin-1"))
        writer.close()

    async with await asyncio.start_server(elsewhere, "127.0.0.1", 0) as server:
        location = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/openai/files"
        moved = f"HTTP/1.1 307 Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"

        async def azure(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(moved.encode())
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(azure, "127.0.0.1", 0) as upstream:
            endpoint = f"http://127.0.0.1:{upstream.sockets[0].getsockname()[1]}"
            async with living(tmp_path_factory.mktemp("moved"), endpoint=endpoint) as street:
                answer: httpx.Response = await street.blue.post(
                    CHAT_TARGET.decode(),
                    content=HELLO,
                    headers={"content-type": "application/json"},
                )
    assert answer.status_code == 502
    assert "location" not in answer.headers
    assert asked == []
