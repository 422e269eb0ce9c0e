"""Streams: order and bytes are Azure's, whatever they look like and however they are cut.

What a caller receives is compared byte for byte, so these tests speak HTTP by hand where a client
library would hide when and how the bytes came.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from gateway.core.model import Confidence
from gateway.stores.readonly import open_reader
from tests.hostile_server import Caller, serve
from tests.street.conftest import Opener
from tests.street.events import cut, made_up
from tests.street.evidence import estimates, tokens_by_model
from tests.street.living import AZURE_KEY, INTERPRETER, VERSION, Street, eventually
from tests.street.served import Served, serving
from tests.street.wire import CHAT_PATH, LAST_CHUNK, WITH_USAGE, Wire, asking, chat, on, work

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]


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
    path, body = "/openai/v1/chat/completions", {**chat(40), "model": "gpt-4o"}
    async with on(street, path, body if hidden else {**body, **WITH_USAGE}) as caller:
        passed = await caller.body()
    await street.agree()
    direct = await _directly(street, (path, {**body, **WITH_USAGE}))
    events = direct.split(b"\n\n")
    (usage,) = [event for event in events if b'"usage":{' in event]
    if hidden:
        events.remove(usage)

    assert passed == b"\n\n".join(events)


async def test_a_run_stream_is_azures_byte_for_byte(street: Street) -> None:
    path, body = await work(street, "run", 40)
    async with on(street, path, body) as caller:
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
    path, body = await work(street, "response", 40)
    async with on(street, path, body) as caller:
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
    body = chat(1) if hidden else chat(1, **WITH_USAGE)
    async with serve(player.play) as azure, open_street(endpoint=azure.url) as street:
        for cutting in CUTTINGS.values():
            async with on(street, CHAT_PATH, body) as caller:
                pieces = await player.asked.get()
                for piece in [*cutting(b"".join(events)), b""]:
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
        async with on(street, CHAT_PATH, chat(1)) as caller:
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


@pytest.mark.parametrize("hidden", [True, False], ids=["usage-hidden", "usage-asked-for"])
async def test_made_up_streams_pass_byte_for_byte_but_for_a_usage_nobody_asked_for(
    open_street: Opener, hidden: bool
) -> None:
    random, player = Random(7), Player()
    streams = [made_up(random) for _ in range(8)]
    body = chat(1) if hidden else chat(1, **WITH_USAGE)
    async with serve(player.play) as azure, open_street(endpoint=azure.url) as street:
        for stream in streams:
            async with on(street, CHAT_PATH, body) as caller:
                pieces = await player.asked.get()
                for piece in [*cut(random, stream.whole), b""]:
                    pieces.put_nowait(piece)
                assert await caller.body() == (stream.hidden if hidden else stream.whole)
        await street.settled()
        lines = await street.ledger()

    assert estimates(lines) == {}
    expected = {"input_tokens": 9 * len(streams), "output_tokens": 3 * len(streams)}
    assert tokens_by_model(lines) == {"gpt-4o": expected}


# The end of the gateway


def _booked(served: Served) -> tuple[int, list[Any]]:
    with open_reader(served.folder / "ledger.db") as reader:
        return reader.unsettled()[0], list(reader.ledger())


async def _is_refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:  # Refused, or reset while it still waited to be accepted.
        return True
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return False


def _at(served: Served) -> AbstractAsyncContextManager[Wire]:
    return asking(served.port, served.key, CHAT_PATH, chat(1, **WITH_USAGE))


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
