"""Faults on demand: what a client sees of each, and what was done and billed all the same."""

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from gateway.simulator import LiveSimulator, SimulatorConfig, create_simulator
from tests.simulator.resource import KEY, Resource

CHAT = "/openai/v1/chat/completions"
ASKED: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "hi [[sim words=5]]"}],
}


def lay(azure: Resource, fault: dict[str, Any], **more: Any) -> None:
    body = {"match": {"method": "POST", "path": "/openai/v1/*"}, **more, "fault": fault}
    answer = azure.http.post("/simulator/faults", json=body)
    assert answer.status_code == 200, answer.text


def talk(azure: Resource, *, streamed: bool = False) -> bytes:
    """Ask over a bare socket and return everything until the connection ends."""
    return b"".join(pieces(azure, streamed=streamed))


def pieces(azure: Resource, *, streamed: bool = False) -> Iterator[bytes]:
    content = azure.http.build_request("POST", CHAT, json={**ASKED, "stream": streamed}).content
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: azure\r\napi-key: {KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    address = httpx.URL(azure.url)
    with socket.create_connection((address.host, address.port or 0), timeout=20) as connection:
        connection.sendall(head.encode() + content)
        while piece := connection.recv(65_536):
            yield piece


def calls_billed(azure: Resource) -> int:
    return sum(row["calls"] for row in azure.invoice()["tokens"])


def last_entry(azure: Resource) -> Any:
    return azure.journal()[-1]


def test_a_status_comes_before_the_work_unless_it_is_told_to_come_after(azure: Resource) -> None:
    lay(azure, {"kind": "status", "status": 429, "retry_after": 7, "retry_after_ms": 6500})
    refused = azure.http.post(CHAT, json=ASKED)
    assert refused.status_code == 429
    assert (refused.headers["retry-after"], refused.headers["retry-after-ms"]) == ("7", "6500")
    assert (last_entry(azure)["fault"], last_entry(azure)["worked"]) == ("status", False)
    assert calls_billed(azure) == 0
    lay(azure, {"kind": "status", "status": 503, "work": True})
    assert azure.http.post(CHAT, json=ASKED).status_code == 503
    assert last_entry(azure)["worked"] is True
    assert calls_billed(azure) == 1
    assert azure.http.post(CHAT, json=ASKED).status_code == 200
    assert (last_entry(azure)["fault"], last_entry(azure)["worked"]) == (None, True)


def test_an_ambush_lets_some_pass_and_catches_as_many_as_told(azure: Resource) -> None:
    lay(azure, {"kind": "status", "status": 500}, skip=1, times=2)
    statuses = [azure.http.post(CHAT, json=ASKED).status_code for _ in range(4)]
    assert statuses == [200, 500, 500, 200]
    lay(azure, {"kind": "status"}, match={"path": "/openai/v1/files/*"})
    assert azure.v1("GET", "/files").status_code == 200
    assert azure.v1("GET", "/files/x").status_code == 500


def test_a_reset_life_has_no_ambushes(azure: Resource) -> None:
    lay(azure, {"kind": "status"}, times=9)
    azure.http.post("/simulator/reset")
    assert azure.http.post(CHAT, json=ASKED).status_code == 200


def test_a_fault_needs_no_text_in_the_body(azure: Resource) -> None:
    lay(azure, {"kind": "status", "status": 502, "work": True})
    files = {"file": ("rows.csv", b"1", "text/csv")}
    answer = azure.http.post("/openai/v1/files", files=files, data={"purpose": "assistants"})
    assert answer.status_code == 502
    assert len(azure.v1("GET", "/files").json()["data"]) == 1


def test_an_answer_that_is_closed_before_its_head_may_have_been_worked_for(
    azure: Resource,
) -> None:
    for work in (True, False):
        lay(azure, {"kind": "close", "work": work})
        assert talk(azure) == b""
        assert last_entry(azure)["worked"] is work
    assert calls_billed(azure) == 1


def test_a_connection_is_reset_after_so_many_bytes_of_body(azure: Resource) -> None:
    lay(azure, {"kind": "reset", "after_bytes": 20})
    seen: list[bytes] = []
    with pytest.raises(ConnectionResetError):
        seen.extend(pieces(azure))
    assert len(b"".join(seen).partition(b"\r\n\r\n")[2]) == 20
    lay(azure, {"kind": "reset", "after_bytes": 20})
    with pytest.raises(httpx.ReadError):
        azure.http.post(CHAT, json=ASKED)
    assert calls_billed(azure) == 2


def test_a_stream_is_cut_after_so_many_events(azure: Resource) -> None:
    lay(azure, {"kind": "cut", "after_events": 3})
    answer = talk(azure, streamed=True)
    assert answer.count(b"\ndata: ") == 3
    assert b"[DONE]" not in answer
    assert not answer.endswith(b"0\r\n\r\n")
    assert calls_billed(azure) == 1


def test_an_early_hint_comes_before_the_real_head(azure: Resource) -> None:
    lay(azure, {"kind": "informational"})
    seen = b""
    for piece in pieces(azure):
        seen += piece
        if seen.endswith(b"}"):
            break
    assert seen.startswith(b"HTTP/1.1 103 Early Hints\r\n")
    assert b"\r\n\r\nHTTP/1.1 200 OK\r\n" in seen


@pytest.mark.parametrize(
    ("framing", "error"),
    [
        ("length_too_long", "peer closed connection"),
        ("chunk_garbage", "illegal chunk header"),
    ],
)
def test_a_client_finds_out_that_the_framing_is_wrong(
    azure: Resource, framing: str, error: str
) -> None:
    lay(azure, {"kind": "framing", "framing": framing})
    with pytest.raises(httpx.RemoteProtocolError, match=error):
        azure.http.post(CHAT, json=ASKED)
    assert (last_entry(azure)["fault"], last_entry(azure)["worked"]) == ("framing", True)


def test_a_length_that_is_too_short_cuts_the_body_for_who_believes_it(azure: Resource) -> None:
    lay(azure, {"kind": "framing", "framing": "length_too_short"})
    head, _, body = talk(azure).partition(b"\r\n\r\n")
    (length,) = [line for line in head.split(b"\r\n") if line.startswith(b"content-length: ")]
    assert int(length.split()[1]) == len(body) - 10


def test_an_answer_may_have_both_a_length_and_chunks(azure: Resource) -> None:
    lay(azure, {"kind": "framing", "framing": "length_and_chunked"})
    head, _, body = talk(azure).partition(b"\r\n\r\n")
    assert b"content-length: " in head
    assert b"transfer-encoding: chunked" in head
    assert body.endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("framing", ["length_too_long", "chunk_garbage", "length_and_chunked"])
def test_a_stream_can_be_framed_wrongly_too(azure: Resource, framing: str) -> None:
    lay(azure, {"kind": "framing", "framing": framing})
    answer = talk(azure, streamed=True)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"[DONE]" in answer


def test_bytes_after_a_body_are_there_for_the_connections_next_user(azure: Resource) -> None:
    lay(azure, {"kind": "extra"})
    seen = b""
    for piece in pieces(azure):
        seen += piece
        if seen.endswith(b"planted"):
            break
    head, _, rest = seen.partition(b"\r\n\r\n")
    (length,) = [line for line in head.split(b"\r\n") if line.startswith(b"content-length: ")]
    assert rest[int(length.split()[1]) :].startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_redirect_leads_elsewhere_without_the_work(azure: Resource) -> None:
    lay(azure, {"kind": "redirect", "location": "http://elsewhere.invalid/openai"})
    answer = azure.http.post(CHAT, json=ASKED)
    assert answer.status_code == 307
    assert answer.headers["location"] == "http://elsewhere.invalid/openai"
    assert calls_billed(azure) == 0


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_may_be_compressed_though_nobody_asked(azure: Resource, streamed: bool) -> None:
    lay(azure, {"kind": "gzip"})
    body = {**ASKED, "stream": streamed}
    headers = {"accept-encoding": "identity"}
    with azure.http.stream("POST", CHAT, json=body, headers=headers) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        content = gzip.decompress(b"".join(answer.iter_raw()))
    assert content.endswith(b"data: [DONE]\n\n" if streamed else b"}")


def test_a_header_may_be_huge(azure: Resource) -> None:
    lay(azure, {"kind": "huge_header"})
    head = b""
    for piece in pieces(azure):
        head += piece
        if b"\r\n\r\n" in head:
            break
    assert len(head) > 128 * 1024
    lay(azure, {"kind": "huge_header"})
    with pytest.raises(httpx.RemoteProtocolError):
        azure.http.post(CHAT, json=ASKED)


@pytest.mark.parametrize("before_head", [False, True])
def test_an_answer_stalls_until_it_is_released(azure: Resource, before_head: bool) -> None:
    lay(azure, {"kind": "stall", "before_head": before_head})
    answers: list[httpx.Response] = []
    with httpx.Client(base_url=azure.url, headers={"api-key": KEY}, timeout=20) as client:
        asking = threading.Thread(target=lambda: answers.append(client.post(CHAT, json=ASKED)))
        asking.start()
        while azure.http.post("/simulator/release").json()["released"] == 0:
            assert asking.is_alive()
        asking.join(20)
    assert [answer.status_code for answer in answers] == [200]
    assert calls_billed(azure) == 1


def test_who_waits_too_short_sees_a_timeout_and_pays_all_the_same(azure: Resource) -> None:
    lay(azure, {"kind": "stall"})
    url = f"{azure.url}/openai/v1/"
    with (
        OpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=0.2) as client,
        pytest.raises(openai.APITimeoutError),
    ):
        client.chat.completions.create(**ASKED)
    assert calls_billed(azure) == 1


def test_a_delay_comes_before_the_head(azure: Resource) -> None:
    lay(azure, {"kind": "delay", "delay_s": 0.05})
    began = time.monotonic()
    assert azure.http.post(CHAT, json=ASKED).status_code == 200
    assert time.monotonic() - began >= 0.05
    assert last_entry(azure)["fault"] == "delay"


def test_a_directive_is_noted_as_a_fault_too(azure: Resource) -> None:
    azure.v1("POST", "/responses", {"model": "gpt-4o", "input": "[[sim status=500]]"})
    assert (last_entry(azure)["fault"], last_entry(azure)["worked"]) == ("status", False)
    azure.v1("POST", "/responses", {"model": "gpt-4o", "input": "[[sim status=500 after=1]]"})
    assert (last_entry(azure)["fault"], last_entry(azure)["worked"]) == ("status", True)


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"fault": {}},
        {"fault": {"kind": "fire"}},
        {"fault": {"kind": "status", "status": 200}},
        {"fault": {"kind": "status", "after_bytes": 1}},
        {"fault": {"kind": "redirect"}},
        {"fault": {"kind": "redirect", "location": 5}},
        {"fault": {"kind": "informational", "status": 101}},
        {"fault": {"kind": "framing", "framing": "odd"}},
        {"fault": {"kind": "stall", "before_head": 1}},
        {"fault": {"kind": "delay", "delay_s": -1}},
        {"fault": {"kind": "reset", "after_bytes": True}},
        {"fault": {"kind": "close"}, "times": 0},
        {"fault": {"kind": "close"}, "match": {"header": "x"}},
        {"fault": {"kind": "close"}, "match": {"path": 5}},
        {"fault": {"kind": "close"}, "often": 1},
    ],
)
def test_what_is_no_fault_is_refused_at_once(azure: Resource, body: Any) -> None:
    answer = azure.http.post("/simulator/faults", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert azure.http.post(CHAT, json=ASKED).status_code == 200


def test_stalled_answers_do_not_keep_the_simulator_from_ending() -> None:
    with LiveSimulator(SimulatorConfig()) as live, Resource(live.url) as azure:
        lay(azure, {"kind": "stall", "before_head": True})
        with pytest.raises(httpx.ReadTimeout):
            azure.http.post(CHAT, json=ASKED, timeout=0.1)
    # That this line is reached is the proof; an answer that still waited would hold the end back.
    assert live.port


@pytest.mark.anyio
async def test_a_fault_of_the_connection_needs_a_connection() -> None:
    app = create_simulator()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://azure") as client:
        await client.post("/simulator/faults", json={"fault": {"kind": "close"}})
        with pytest.raises(RuntimeError, match="LiveSimulator"):
            await client.get("/openai/v1/files", headers={"api-key": KEY})
