"""An upstream with plenty more: it says what it is asked for without end, or falls silent."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass, field
from typing import Any

from tests.hostile_server import Caller
from tests.street.living import START_S

SEND_BUFFER_BYTES = 64 * 1024
FILE = {"object": "file", "id": "assistant-1", "created_at": START_S, "purpose": "assistants"}
ASSISTANT = {"object": "assistant", "id": "asst_1", "created_at": START_S, "model": "gpt-4o"}
_EVENT = {
    "object": "chat.completion.chunk",
    "id": "chatcmpl-1",
    "choices": [{"index": 0, "delta": {"content": "more " * 2000}}],
}
EVENT = b"data: " + json.dumps(_EVENT).encode() + b"\n\n"
PIECE = b"0123456789abcdef" * 4096


@dataclass
class Jet:
    """One endless answer: how much of it was given, and whether its reader has hung up."""

    writer: asyncio.StreamWriter
    given_bytes: int = 0
    has_ended: bool = False

    @property
    def taken_bytes(self) -> int:
        """How much the kernel took of it."""
        return self.given_bytes - self.writer.transport.get_write_buffer_size()


@dataclass
class Fountain:
    """Answers what makes an object at once; anything else is begun and never ended.

    `silent` is None, "before-head" or "after-head". `hung_up` is set once the other end of an
    endless answer has closed.
    """

    silent: str | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    jets: list[Jet] = field(default_factory=list)

    @property
    def given_bytes(self) -> int:
        """How much was given in all, taken or not."""
        return sum(jet.given_bytes for jet in self.jets)

    async def comes_to_rest(self) -> None:
        """Return once nothing could be given for a while; a slow machine only looks early."""
        still, last = 0, -1
        while still < 15:
            still = still + 1 if self.given_bytes == last else 0
            last = self.given_bytes
            await asyncio.sleep(0.02)

    async def play(self, caller: Caller) -> None:
        """Answer the requests on one connection."""
        # A buffer that is set does not grow, so that what is given is soon what was taken.
        connection = caller.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        while True:
            target = (await caller.request()).partition(b" HTTP/1.1")[0]
            if target.startswith(b"POST /openai/files?"):
                await _answer(caller, FILE)
            elif target.startswith(b"POST /openai/assistants?"):
                await _answer(caller, ASSISTANT)
            else:
                await self._endless(caller, is_stream=b"/chat/completions" in target)

    async def _endless(self, caller: Caller, *, is_stream: bool) -> None:
        jet = Jet(caller.writer)
        self.jets.append(jet)
        self.asked.set()
        try:
            if self.silent != "before-head":
                await caller.send(_STREAM_HEAD + _FIRST if is_stream else _HEAD)
            if self.silent is not None:
                await caller.rest()
                return
            piece = _framed(EVENT * 5) if is_stream else PIECE
            while True:
                jet.given_bytes += len(piece)
                await caller.send(piece)
        finally:
            jet.has_ended = True
            self.hung_up.set()


def _framed(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: %d\r\n\r\n"
_HEAD %= 1 << 40
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_FIRST = _framed(EVENT)


async def _answer(caller: Caller, document: dict[str, Any]) -> None:
    body = json.dumps(document).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    await caller.send(head % len(body) + body)
