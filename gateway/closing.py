"""A reply to HTTP/1.0: where its length is not known, it ends where the connection does.

uvicorn would chunk it, and HTTP/1.0 knows no chunks. A reply that breaks off must not look like a
whole one, though, and with nothing but the connection's end to tell, an orderly end would lie: such
a connection is reset.

Source: RFC 9112, sections 6.1 (no Transfer-Encoding to HTTP/1.0) and 6.3 (lengths of messages).
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from uvicorn.protocols.http import httptools_impl as uvicorn_http

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send
    from uvicorn._types import ASGISendEvent

# On, and no time: closing drops what is unsent and resets the connection (socket(7)).
_RESET = struct.pack("ii", 1, 0)


class ClosingCycle(uvicorn_http.RequestResponseCycle):
    """One request and its answer; the answer to HTTP/1.0 is framed by its end."""

    is_framed_by_end = False

    async def run_asgi(self, app: ASGIApp) -> None:  # type: ignore[override]
        """Run the app; if it leaves such an answer without an end, have the connection reset."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            finally:
                if self.is_framed_by_end and not self.response_complete:
                    self._close_by_reset()

        await super().run_asgi(watched)  # type: ignore[arg-type]

    async def send(self, message: ASGISendEvent) -> None:
        """Send a piece of the answer."""
        if message["type"] == "http.response.start":
            named = {name.lower() for name, _ in message.get("headers", ())}
            is_old = self.scope["http_version"] == "1.0"
            self.is_framed_by_end = is_old and b"content-length" not in named
            if self.is_framed_by_end:
                self.chunked_encoding = False
        elif message["type"] == "http.response.body" and self.is_framed_by_end:
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)

    def _close_by_reset(self) -> None:
        connection = self.transport.get_extra_info("socket")
        if connection is not None and connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
