"""A fast stand-in for Azure: fixed replies from one `asyncio.Protocol`, in a process of its own.

It checks nothing and remembers nothing, so that as little as possible of what is measured is its
own. `python -m bench.upstream` prints its port and serves until its standard input is closed, so
that it never outlives the measurement.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import uvloop

from bench.wire import (
    CHUNK_EVERY_S,
    assistant_reply,
    chat_reply,
    stream_chunk,
    stream_end,
    stream_head,
    wanted_chunks,
)

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHAT_REPLY = chat_reply()
_ASSISTANT_REPLY = assistant_reply()
_ASSISTANT_ASKED = (b"GET /openai/assistants/", b"POST /openai/assistants?")
_STREAM_HEAD = stream_head()
_STREAM_END = stream_end()


class _Azure(asyncio.Protocol):
    """One connection. Requests have a content length; every candidate sends one."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._held = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes, though they do the same.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._held += data
        head_ends = self._held.find(b"\r\n\r\n")
        if head_ends < 0:
            return
        found = _LENGTH.search(self._held, 0, head_ends)
        ends = head_ends + 4 + (int(found[1]) if found else 0)
        if len(self._held) < ends:
            return
        request, self._held = self._held[:ends], self._held[ends:]
        self._answer(request)

    def _answer(self, request: bytes) -> None:
        if request.startswith(_ASSISTANT_ASKED):
            self._write(_ASSISTANT_REPLY)
            return
        chunks = wanted_chunks(request)
        if chunks is None:
            self._write(_CHAT_REPLY)
            return
        self._write(_STREAM_HEAD)
        self._stream(chunks, self._loop.time())

    def _stream(self, chunks_left: int, due: float) -> None:
        if chunks_left == 0:
            self._write(_STREAM_END)
            return
        self._write(stream_chunk())
        due += CHUNK_EVERY_S
        self._timer = self._loop.call_at(due, self._stream, chunks_left - 1, due)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


async def _serve() -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    server = await loop.create_server(_Azure, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop.add_reader(sys.stdin.fileno(), stop.set)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
