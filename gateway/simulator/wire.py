"""The connection itself, for answers that no well-behaved server would give.

uvicorn frames what an application sends and refuses to frame it wrongly. `OpenProtocol` is
uvicorn's own protocol that hands its transport on with each request; whoever writes to it has to
keep uvicorn from answering, by waiting until the connection has ended.
"""

import asyncio
import socket
import struct
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from starlette.types import Receive, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

EXTENSION = "simulator.wire"
_NO_LINGER = struct.pack("ii", 1, 0)


class OpenProtocol(HttpToolsProtocol):
    """uvicorn's protocol, its transport within the reach of the application."""

    def on_message_begin(self) -> None:
        """Begin a request as uvicorn does and show it the transport."""
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: {"transport": self.transport}}

    def shutdown(self) -> None:
        """End the connection as uvicorn does, or at once where TLS would wait for the client."""
        # uvicorn types it as always there; before the first request it is None.
        cycle: RequestResponseCycle | None = self.cycle
        is_idle = cycle is None or cycle.response_complete
        if self.scheme == "https" and is_idle:
            self.transport.abort()
            return
        super().shutdown()


class Wire:
    """The connection a request came by."""

    def __init__(self, transport: asyncio.Transport, receive: Receive) -> None:
        self._transport = transport
        self._receive = receive

    def write(self, content: bytes) -> None:
        """Send bytes as they are."""
        self._transport.write(content)

    async def close(self) -> None:
        """End the connection after what was written, and return when it has ended."""
        self._transport.close()
        await self.wait_for_end()

    async def reset(self) -> None:
        """End the connection with a reset instead of a goodbye."""
        connection: socket.socket = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.abort()
        await self.wait_for_end()

    async def wait_for_end(self) -> None:
        """Return when the connection has ended, on either side."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


def wire_of(scope: Scope, receive: Receive) -> Wire | None:
    """Return the request's connection, or None where no `OpenProtocol` serves."""
    found: dict[str, Any] | None = (scope.get("extensions") or {}).get(EXTENSION)
    return None if found is None else Wire(found["transport"], receive)


def head_of(status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return the head of an answer as it goes over the wire."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"", b""])
