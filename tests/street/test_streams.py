"""Streams: their bytes pass as they came, and no reader, slow or gone, costs anybody a token.

What a caller receives is compared byte for byte, so these tests speak HTTP by hand where a client
library would hide when and how the bytes came.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.core.model import Confidence
from gateway.stores.readonly import open_reader
from tests.hostile_server import Caller, serve
from tests.street.conftest import Opener
from tests.street.evidence import estimates, tokens_by_model
from tests.street.living import (
    AUTO,
    AZURE_KEY,
    DEADLINE_S,
    INTERPRETER,
    VERSION,
    Street,
    eventually,
)
from tests.street.test_memory import Served, serving

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

CHAT = "/deployments/gpt-4o/chat/completions"
# More than the kernel takes in for a reader who reads nothing.
MANY_WORDS = 12_000
LAST_CHUNK = b"0\r\n\r\n"
WITH_USAGE = {"stream_options": {"include_usage": True}}


# A caller who holds the wire in his own hands


@dataclass
class Wire:
    """One request on a connection of its own, and what was read of its answer so far."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    seen: bytearray = field(default_factory=bytearray)

    async def until(self, mark: bytes) -> None:
        """Read byte by byte until `mark` was seen, and not a byte further."""
        async with asyncio.timeout(DEADLINE_S):
            while not self.seen.endswith(mark):
                byte = await self.reader.read(1)
                assert byte, "the answer ended before"
                self.seen += byte

    async def body(self) -> bytes:
        """Read to the end of the answer and return its body without the chunks' sizes."""
        if not self.seen:
            await self.until(b"\r\n\r\n")
        assert self.seen.startswith(b"HTTP/1.1 200 "), self.seen
        body = bytearray()
        while size := int(await self.reader.readline(), 16):
            body += (await self.reader.readexactly(size + 2))[:-2]
        assert await self.reader.readline() == b"\r\n"
        return bytes(body)

    def leave(self) -> None:
        """Go away without a word."""
        self.writer.transport.abort()


@asynccontextmanager
async def _asking(port: int, key: str, path: str, body: Any) -> AsyncIterator[Wire]:
    """Send a request whose answer is taken in only as it is read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=8192)
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: gateway\r\napi-key: {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    writer.write(head.encode() + content)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def _chat(words: int, **more: Any) -> dict[str, Any]:
    text = f"[[sim words={words} tokens=70/20/{words}]]"
    return {"messages": [{"role": "user", "content": text}], "stream": True, **more}


async def _work(street: Street, kind: str, words: int) -> tuple[str, dict[str, Any]]:
    """Return path and body of a streamed chat, run or response."""
    text = f"[[sim calls=1 words={words}]]"
    match kind:
        case "chat":
            return f"/openai{CHAT}?api-version={VERSION}", _chat(words, **WITH_USAGE)
        case "run":
            assistant, thread = await street.assistant(), await street.thread(text)
            path = f"/openai/threads/{thread}/runs?api-version={VERSION}"
            return path, {"assistant_id": assistant, "stream": True}
        case _:
            body = {"model": "gpt-4o", "input": text, "tools": [AUTO], "stream": True}
            return "/openai/v1/responses", body


def _on(street: Street, path: str, body: Any) -> Any:
    return _asking(street.gateway.data_port, street.keys["blue"], path, body)


# Slow readers


async def test_a_reader_who_pauses_keeps_nobody_waiting_and_gets_every_byte(
    street: Street,
) -> None:
    path = f"/openai{CHAT}?api-version={VERSION}"
    async with _on(street, path, _chat(MANY_WORDS, **WITH_USAGE)) as slow:
        await slow.until(b"\r\n\r\n")
        for _ in range(5):
            answer = await street.dated("POST", CHAT, _chat(3))
            assert answer.text.endswith("data: [DONE]\n\n")
        assert (await street.gateway.house.store.unsettled())[0] == 1
        events = (await slow.body()).split(b"\n\n")

    assert len(events) == MANY_WORDS + 6
    assert events[-2:] == [b"data: [DONE]", b""]
    await street.agree()


async def test_a_reader_who_stops_is_given_up_and_metered_to_the_token(street: Street) -> None:
    house = street.gateway.house
    house.limits = replace(house.limits, stall_s=0.1)
    path = f"/openai{CHAT}?api-version={VERSION}"
    async with _on(street, path, _chat(MANY_WORDS)) as stopped:
        await stopped.until(b"\r\n\r\n")
        invoice = await street.agree()
        assert invoice["tokens"][0]["output_tokens"] == MANY_WORDS

        rest = await stopped.reader.read()
        assert rest
        assert not rest.endswith(LAST_CHUNK)


# Callers who leave

MOMENTS = {
    "within-an-event": {"chat": b'"content":"', "run": b'"value":"', "response": b'"delta":"'},
    "after-the-usage": {
        "chat": b'"usage":{',
        "run": b"event: thread.run.completed\n",
        "response": b"event: response.completed\n",
    },
}


@pytest.mark.parametrize("kind", ["chat", "run", "response"])
@pytest.mark.parametrize("moment", MOMENTS)
async def test_whoever_leaves_at_whatever_moment_is_metered_to_the_token(
    street: Street, kind: str, moment: str
) -> None:
    path, body = await _work(street, kind, 300)
    async with _on(street, path, body) as caller:
        await caller.until(MOMENTS[moment][kind])
        caller.leave()
        invoice = await street.agree()

    assert invoice["tokens"][0]["output_tokens"] == 300
    assert invoice["session_count"] == (kind != "chat")


@pytest.mark.parametrize("kind", ["chat", "run", "response"])
async def test_whoever_leaves_before_the_first_byte_is_metered_to_the_token(
    street: Street, kind: str
) -> None:
    path, body = await _work(street, kind, 20)
    fault = {"kind": "stall", "before_head": True}
    match = {"method": "POST", "path": path.partition("?")[0]}
    laid = await street.azure.post("/simulator/faults", json={"match": match, "fault": fault})
    assert laid.status_code == 200, laid.text
    async with _on(street, path, body) as caller:
        await eventually(street.has_charged_tokens)
        caller.leave()
        await eventually(partial(_is_alone, street))
        await street.azure.post("/simulator/release")
        invoice = await street.agree()

    assert invoice["tokens"][0]["output_tokens"] == 20
    assert invoice["session_count"] == (kind != "chat")


async def _is_alone(street: Street) -> bool:
    """Return whether no connection to the data plane is open but the idle ones of our clients."""
    listed = await asyncio.to_thread(Path("/proc/net/tcp").read_text, encoding="ascii")
    port, established = f":{street.gateway.data_port:04X}", "01"
    rows = [row.split() for row in listed.splitlines()[1:]]
    open_ones = [row for row in rows if row[1].endswith(port) and row[3] == established]
    return len(open_ones) <= len(street.clients)


# Order and bytes


async def _directly(street: Street, *requests: tuple[str, Any]) -> bytes:
    """Set Azure back to where it began and ask it without a gateway; return the last answer.

    `{0}`, `{1}` in a path or body stand for the ids of what the requests before made.
    """
    await street.azure.post("/simulator/reset")
    made: list[str] = []
    answer = httpx.Response(500)
    for path, body in requests:
        content = json.dumps(body)
        for number, name in enumerate(made):
            path = path.replace(f"{{{number}}}", name)
            content = content.replace(f"{{{number}}}", name)
        headers = {"api-key": AZURE_KEY, "content-type": "application/json"}
        answer = await street.azure.post(path, content=content, headers=headers)
        assert answer.is_success, answer.text
        if not body.get("stream"):
            made.append(answer.json()["id"])
    return answer.content


@pytest.mark.parametrize("hidden", [True, False], ids=["usage-hidden", "usage-asked-for"])
async def test_a_chat_stream_is_azures_byte_for_byte_but_for_a_usage_nobody_asked_for(
    street: Street, hidden: bool
) -> None:
    path, body = "/openai/v1/chat/completions", {**_chat(40), "model": "gpt-4o"}
    async with _on(street, path, body if hidden else {**body, **WITH_USAGE}) as caller:
        passed = await caller.body()
    await street.agree()
    direct = await _directly(street, (path, {**body, **WITH_USAGE}))
    events = direct.split(b"\n\n")
    (usage,) = [event for event in events if b'"usage":{' in event]
    if hidden:
        events.remove(usage)

    assert passed == b"\n\n".join(events)


async def test_a_run_stream_is_azures_byte_for_byte(street: Street) -> None:
    path, body = await _work(street, "run", 40)
    async with _on(street, path, body) as caller:
        passed = await caller.body()
    await street.agree()
    query = f"?api-version={VERSION}"
    said = {"messages": [{"role": "user", "content": "[[sim calls=1 words=40]]"}]}
    direct = await _directly(
        street,
        (f"/openai/assistants{query}", {"model": "gpt-4o", "tools": [INTERPRETER]}),
        (f"/openai/threads{query}", said),
        (f"/openai/threads/{{1}}/runs{query}", {"assistant_id": "{0}", "stream": True}),
    )

    assert passed == direct


async def test_a_response_stream_is_azures_byte_for_byte(street: Street) -> None:
    path, body = await _work(street, "response", 40)
    async with _on(street, path, body) as caller:
        passed = await caller.body()
    await street.agree()

    assert passed == await _directly(street, (path, body))


# Azure, framing its events as it likes


@dataclass
class Player:
    """An upstream that sends, chunk by chunk, what a test puts into a request's queue.

    An empty piece ends the stream.
    """

    asked: asyncio.Queue[asyncio.Queue[bytes]] = field(default_factory=asyncio.Queue)

    async def play(self, caller: Caller) -> None:
        """Answer every request on one connection with a stream."""
        while True:
            await caller.request()
            pieces: asyncio.Queue[bytes] = asyncio.Queue()
            self.asked.put_nowait(pieces)
            await caller.send(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                b"transfer-encoding: chunked\r\n\r\n"
            )
            while piece := await pieces.get():
                await caller.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            await caller.send(LAST_CHUNK)


def _event(payload: dict[str, Any] | str, end: str = "\n") -> bytes:
    said = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
    return f"data: {said}{end}{end}".encode()


def _words(*words: str) -> list[dict[str, Any]]:
    chunk = {"object": "chat.completion.chunk", "id": "chatcmpl-1", "model": "gpt-4o"}
    return [{**chunk, "choices": [{"index": 0, "delta": {"content": word}}]} for word in words]


TOLD = {
    "object": "chat.completion.chunk",
    "id": "chatcmpl-1",
    "model": "gpt-4o",
    "choices": [],
    "usage": {
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 2},
    },
}
METERED = {"input_tokens": 7, "cached_input_tokens": 2, "output_tokens": 3}


def _told(end: str) -> list[bytes]:
    """Return a stream's events before the usage, the usage, and what follows it."""
    before = [_event(word, end) for word in _words("zwölf", " 三", " 🎲\\r\\n")]
    comments = [
        f": still here{end}{end}".encode(),
        f"id: 7{end}event: e{end}data:{end}{end}".encode(),
    ]
    return [*comments, *before, _event(TOLD, end), _event("[DONE]", end)]


FRAMINGS = {
    "lf": _told("\n"),
    "crlf": _told("\r\n"),
    "cr": _told("\r"),
    "byte-order-mark": [b"\xef\xbb\xbf" + _told("\n")[0], *_told("\n")[1:]],
    "each-its-own": [_told(end)[n] for n, end in enumerate(["\n", "\r\n", "\r"] * 2 + ["\r\n"])],
}
CUTTINGS: dict[str, Callable[[bytes], Sequence[bytes]]] = {
    "one-packet": lambda stream: [stream],
    "three-bytes": lambda stream: [stream[at : at + 3] for at in range(0, len(stream), 3)],
    "byte-by-byte": lambda stream: [bytes([byte]) for byte in stream],
}


@pytest.mark.parametrize("hidden", [True, False], ids=["usage-hidden", "usage-asked-for"])
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_odd_framing_passes_as_it_came_and_is_metered(
    open_street: Opener, framing: str, hidden: bool
) -> None:
    events, player = FRAMINGS[framing], Player()
    passed = [event for event in events if not (hidden and b'"usage"' in event)]
    body = _chat(1) if hidden else _chat(1, **WITH_USAGE)
    async with serve(player.play) as azure, open_street(endpoint=azure.url) as street:
        for cut in CUTTINGS.values():
            async with _on(street, f"/openai{CHAT}?api-version={VERSION}", body) as caller:
                pieces = await player.asked.get()
                for piece in [*cut(b"".join(events)), b""]:
                    pieces.put_nowait(piece)
                assert await caller.body() == b"".join(passed)
        lines = await street.ledger()

    assert estimates(lines) == {}
    expected = {meter: count * len(CUTTINGS) for meter, count in METERED.items()}
    assert tokens_by_model(lines) == {"gpt-4o": expected}


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_an_event_reaches_the_caller_before_the_next_one_is_made(
    open_street: Opener, framing: str
) -> None:
    player = Player()
    async with serve(player.play) as azure, open_street(endpoint=azure.url) as street:
        async with _on(street, f"/openai{CHAT}?api-version={VERSION}", _chat(1)) as caller:
            pieces = await player.asked.get()
            await caller.until(b"\r\n\r\n")
            for event in FRAMINGS[framing]:
                pieces.put_nowait(event)
                if b'"usage"' not in event:
                    await caller.until(event + b"\r\n")
            pieces.put_nowait(b"")
        assert await street.is_settled()
        lines = await street.ledger()

    assert tokens_by_model(lines) == {"gpt-4o": METERED}


# The end of the gateway


def _booked(served: Served) -> tuple[int, list[Any]]:
    with open_reader(served.folder / "ledger.db") as reader:
        return reader.unsettled()[0], list(reader.ledger())


async def _is_refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return False


def _at(served: Served) -> Any:
    return _asking(
        served.port, served.key, f"/openai{CHAT}?api-version={VERSION}", _chat(1, **WITH_USAGE)
    )


async def test_a_gateway_told_to_end_lets_streams_finish_and_books_them(tmp_path: Path) -> None:
    player, events = Player(), _told("\n")
    async with serve(player.play) as azure, serving(tmp_path, azure.url) as served:
        async with _at(served) as one, _at(served) as two, _at(served) as gone:
            callers = [one, two, gone]
            streams = [await player.asked.get() for _ in callers]
            for stream in streams:
                stream.put_nowait(events[0])
            for caller in callers:
                await caller.until(events[0])
            gone.leave()
            served.process.send_signal(signal.SIGTERM)
            await eventually(partial(_is_refused, served.port))
            assert served.process.returncode is None
            for stream in streams:
                for event in [*events[1:], b""]:
                    stream.put_nowait(event)
            for caller in (one, two):
                await caller.reader.readline()
                rest = b"".join(events[1:])
                body = await caller.body()
                assert body == rest
            assert await asyncio.wait_for(served.process.wait(), 60) == 0
        unsettled, lines = _booked(served)

    assert unsettled == 0
    assert estimates(lines) == {}
    assert tokens_by_model(lines) == {"gpt-4o": {name: 3 * n for name, n in METERED.items()}}


async def test_a_stream_that_outlasts_the_drain_is_cut_and_booked_as_an_estimate(
    tmp_path: Path,
) -> None:
    player, events = Player(), _told("\n")
    async with serve(player.play) as azure, serving(tmp_path, azure.url, drain_s=0.2) as served:
        async with _at(served) as caller:
            stream = await player.asked.get()
            stream.put_nowait(events[0])
            await caller.until(events[0])
            served.process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(served.process.wait(), 60) == 0
            with suppress(ConnectionError):
                assert not (await caller.reader.read()).endswith(LAST_CHUNK)
        unsettled, lines = _booked(served)

    assert unsettled == 0
    assert {row.posting.charge.confidence for row in lines} == {Confidence.ESTIMATED}
