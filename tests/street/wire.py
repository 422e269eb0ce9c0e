"""A caller who holds the wire in his own hands, where a client library would hide what happens."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.street.living import AUTO, DEADLINE_S, VERSION, Street

CHAT = "/deployments/gpt-4o/chat/completions"
CHAT_PATH = f"/openai{CHAT}?api-version={VERSION}"
WITH_USAGE = {"stream_options": {"include_usage": True}}
LAST_CHUNK = b"0\r\n\r\n"
# A buffer that is set does not grow: what the kernel takes in stays far from the whole.
WINDOW_BYTES = 8192


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

    async def chunk(self) -> bytes:
        """Read the next chunk of a chunked body; the last one is empty."""
        size = int(await self.reader.readline(), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def body(self) -> bytes:
        """Read to the end of the answer and return its body without the chunks' sizes."""
        if not self.seen:
            await self.until(b"\r\n\r\n")
        assert self.seen.startswith(b"HTTP/1.1 200 "), self.seen
        body = bytearray()
        while chunk := await self.chunk():
            body += chunk
        return bytes(body)

    async def read(self, size_bytes: int) -> None:
        """Read so many bytes, whatever they are."""
        async with asyncio.timeout(DEADLINE_S):
            await self.reader.readexactly(size_bytes)

    def leave(self) -> None:
        """Go away without a word."""
        self.writer.transport.abort()


@asynccontextmanager
async def asking(port: int, key: str, path: str, body: Any = None) -> AsyncIterator[Wire]:
    """Send a request whose answer is taken in only as it is read; without a body it is a GET."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=WINDOW_BYTES)
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nhost: gateway\r\n"
    head += f"api-key: {key}\r\n"
    if body is not None:
        head += f"content-type: application/json\r\ncontent-length: {len(content)}\r\n"
    head += "\r\n"
    writer.write(head.encode() + content)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def chat(words: int, **more: Any) -> dict[str, Any]:
    """Return the body of a streamed chat of so many words; `more` are further fields."""
    text = f"[[sim words={words} tokens=70/20/{words}]]"
    return {"messages": [{"role": "user", "content": text}], "stream": True, **more}


async def work(street: Street, kind: str, words: int) -> tuple[str, dict[str, Any]]:
    """Return path and body of a streamed chat, run or response."""
    text = f"[[sim calls=1 words={words}]]"
    match kind:
        case "chat":
            return CHAT_PATH, chat(words, **WITH_USAGE)
        case "run":
            assistant, thread = await street.assistant(), await street.thread(text)
            path = f"/openai/threads/{thread}/runs?api-version={VERSION}"
            return path, {"assistant_id": assistant, "stream": True}
        case _:
            body = {"model": "gpt-4o", "input": text, "tools": [AUTO], "stream": True}
            return "/openai/v1/responses", body


def on(street: Street, path: str, body: Any = None) -> AbstractAsyncContextManager[Wire]:
    """Send a request to a street as team blue."""
    return asking(street.gateway.data_port, street.keys["blue"], path, body)
