"""The way back to the caller: one reply, begun once, and not waited for without end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from starlette.types import Send

from gateway.core.errors import Refused
from gateway.exchange import Headers

# What of Azure's reply headers a caller gets. The rest names our resource, or sets cookies.
_PASSED = frozenset(
    {
        b"apim-request-id",
        b"azureml-model-session",
        b"cache-control",
        b"content-disposition",
        b"content-encoding",
        b"content-type",
        b"retry-after",
        b"retry-after-ms",
        b"x-ms-client-request-id",
        b"x-ms-rai-invoked",
        b"x-ms-region",
        b"x-should-retry",
    }
)
_PASSED_PREFIXES = (b"x-ratelimit-", b"openai-")


def passed_headers(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the reply headers that go on to the caller."""
    return [
        (name, value)
        for name, value in headers
        if name in _PASSED or name.startswith(_PASSED_PREFIXES)
    ]


class Answer:
    """What the caller is told. `status` is 0 until it has begun.

    A caller who does not take his bytes within `stall_s` is given up: `is_gone`. Then everything
    said to him is dropped, so that the rest of the exchange goes on to be metered.
    """

    def __init__(self, send: Send, request_id: str, *, stall_s: float) -> None:
        self._send = send
        self.request_id = request_id
        self._stall_s = stall_s
        self.status = 0
        self.is_gone = False

    async def begin(self, status: int, headers: Headers) -> None:
        """Send the head."""
        self.status = status
        await self._tell(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"x-request-id", self.request_id.encode()), *headers],
            }
        )

    async def chunk(self, body: bytes) -> None:
        """Send a piece of the body; an empty one is no piece."""
        if body:
            await self._tell({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self, body: bytes = b"") -> None:
        """Send the last piece, and with it the last byte."""
        await self._tell({"type": "http.response.body", "body": body, "more_body": False})

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole reply."""
        length = (b"content-length", b"%d" % len(body))
        await self.begin(status, [*headers, length])
        await self.end(body)

    async def refuse(self, refused: Refused) -> None:
        """Send a refusal."""
        await self.whole(refused.code.status, refused.reply_headers(), refused.body())

    async def _tell(self, message: dict[str, object]) -> None:
        if self.is_gone:
            return
        try:
            async with asyncio.timeout(self._stall_s):
                await self._send(message)
        except TimeoutError:
            self.is_gone = True
