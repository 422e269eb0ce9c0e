"""The way back to the caller: one reply, begun once, and not waited for without end.

A caller may leave, or stop reading, while Azure still speaks. What he began is billed all the
same, and what it came to stands at the end of the reply; so the rest is read without him where it
tells that, and up to a limit. Where it tells nothing, Azure is hung up on at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.types import Receive, Send

from gateway.core.errors import Refused
from gateway.exchange import Headers
from gateway.intake import CallerGone
from gateway.tasks import Tasks

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


@dataclass(frozen=True, slots=True)
class Patience:
    """How much of a reply is read, and for how long, after its caller has left."""

    bytes_max: int
    seconds: float


NO_PATIENCE = Patience(0, 0)


class Answer:
    """What the caller is told. `status` is 0 until it has begun.

    `is_gone` once he has left (noticed while `attended`) or did not take his bytes within
    `stall_s`. Then everything said to him is dropped, so that the exchange can go on without him.
    """

    def __init__(self, send: Send, request_id: str, *, stall_s: float) -> None:
        self._send = send
        self.request_id = request_id
        self._stall_s = stall_s
        self.status = 0
        self.is_gone = False
        self._patience = NO_PATIENCE
        self._unheard_bytes = 0
        self._until: asyncio.Timeout | None = None

    @asynccontextmanager
    async def attended(
        self, receive: Receive, tasks: Tasks, patience: Patience
    ) -> AsyncIterator[None]:
        """Notice when the caller leaves; what is done within ends at the latest `patience` later.

        Enter it once his request was read to its end.

        Raises:
            CallerGone: it was ended.
        """
        self._patience = patience
        until = asyncio.timeout(None)
        try:
            async with until:
                self._until = until
                watch = tasks.start(self._watch(receive))
                try:
                    yield
                finally:
                    self._until = None
                    watch.cancel()
        except TimeoutError:
            if until.expired():
                raise CallerGone from None
            raise

    def count_unheard(self, size_bytes: int) -> None:
        """Count a piece of the reply, if it came in after the caller had left.

        Raises:
            CallerGone: nothing more is to be read without him.
        """
        if self.is_gone:
            self._unheard_bytes += size_bytes
            if self._unheard_bytes > self._patience.bytes_max:
                raise CallerGone

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
            self._lose()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._lose()

    def _lose(self) -> None:
        self.is_gone = True
        if self._until is not None and not self._until.expired():
            self._until.reschedule(asyncio.get_running_loop().time() + self._patience.seconds)
