"""A server on loopback that speaks in raw bytes, counts what it hears and misbehaves on cue."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

READ_BYTES = 64 * 1024


@dataclass(slots=True)
class Caller:
    """One accepted connection, from the server's end."""

    server: HostileServer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def head(self) -> bytes:
        """Read one request head, count it, and return its bytes with the empty line."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.server.requests.append(head)
        return head

    async def request(self) -> bytes:
        """Read one whole request, count it, and return its bytes as they came."""
        head = await self.head()
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        if b"content-length" in fields:
            body = await self.reader.readexactly(int(fields[b"content-length"]))
        elif fields.get(b"transfer-encoding") == b"chunked":
            body = await self.reader.readuntil(b"0\r\n\r\n")
        else:
            body = b""
        self.server.requests[-1] = head + body
        return head + body

    async def send(self, data: bytes) -> None:
        """Write ``data`` at once."""
        self.writer.write(data)
        await self.writer.drain()

    async def rest(self) -> bytes:
        """Return what still comes until the other end closes, by FIN or by reset."""
        seen = bytearray()
        try:
            while part := await self.reader.read(READ_BYTES):
                seen += part
        except ConnectionError:
            pass
        return bytes(seen)

    def close(self) -> None:
        """Close with a FIN."""
        self.writer.close()

    def reset(self) -> None:
        """Close with a reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Play = Callable[[Caller], Awaitable[None]]


@dataclass(slots=True)
class HostileServer:
    """What the server has seen: every request's bytes, and how many connections."""

    play: Play
    port: int = 0
    scheme: str = "http"
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    faults: list[Exception] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Return scheme, host and port."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Play one connection; what goes wrong in the play is raised where the server ends."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        try:
            await self.play(Caller(self, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The client went away; whether it should have is the test's to say.
        except (AssertionError, LookupError, TypeError, ValueError) as fault:
            self.faults.append(fault)
        finally:
            self.tasks.discard(task)
            writer.close()


@asynccontextmanager
async def serve(play: Play, tls: ssl.SSLContext | None = None) -> AsyncIterator[HostileServer]:
    """Yield a server that plays ``play`` on every connection, and end it with all of them."""
    server = HostileServer(play, scheme="https" if tls else "http")
    listening = await asyncio.start_server(server.accept, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        tasks = list(server.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listening.wait_closed()
    if server.faults:
        raise server.faults[0]
