"""The front door: receives a request whole, journals it, judges key and version, answers.

Everything a request does is done by a plain function before anything is sent. A connection that
is cut, by a directive or by the client, therefore changes neither the state nor the invoice.
"""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from gateway.simulator.errors import Fault, resource_not_found, unauthorized
from gateway.simulator.exchange import Call, EventLog, Received, Reply, fault_reply
from gateway.simulator.operations import match
from gateway.simulator.state import Simulator

REGION = "Sweden Central"
_V1 = "/openai/v1/"
_DATED = "/openai/"


class FrontDoor:
    """The ASGI application of the data plane."""

    def __init__(self, sim: Simulator) -> None:
        self._sim = sim

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = await _receive_whole(scope, receive)
        if received is None:
            return
        is_right = self._has_key(received)
        self._sim.journal.enter(received, is_right=is_right)
        reply = self._answer(received, is_right=is_right)
        self._sim.announce_news()
        await _Sending(self._sim, received, send).send(reply)

    def _answer(self, received: Received, *, is_right: bool) -> Reply:
        self._sim.observe()
        try:
            if not is_right:
                raise unauthorized()
            return self._handle(received)
        except Fault as fault:
            return fault_reply(fault)

    def _handle(self, received: Received) -> Reply:
        query = dict(parse_qsl(received.target.partition("?")[2], keep_blank_values=True))
        surface, root = ("v1", _V1) if received.path.startswith(_V1) else ("dated", _DATED)
        if not received.path.startswith(root):
            raise resource_not_found()
        versions = self._sim.config.api_versions
        check = versions.check_v1 if surface == "v1" else versions.check_dated
        version = check(query.get("api-version"))
        operation, names = match(received.method, received.path.removeprefix(root), surface)
        if operation.gate is not None and surface == "dated":
            operation.gate(version)
        return operation.handler(self._sim, Call(received, surface, version, names, query))

    def _has_key(self, received: Received) -> bool:
        key = self._sim.config.api_key
        bearer = received.header("authorization")
        return received.header("api-key") == key or bearer == f"Bearer {key}"


class _Sending:
    """Sends one reply, with Azure's headers, at the pace and to the point that was asked for."""

    def __init__(self, sim: Simulator, received: Received, send: Send) -> None:
        self._sim = sim
        self._received = received
        self._send = send

    async def send(self, reply: Reply) -> None:
        """Send the reply; one that is to be cut is left without its end."""
        if reply.delay_s:
            await asyncio.sleep(reply.delay_s)
        if isinstance(reply.body, EventLog):
            await self._stream(reply, reply.body)
            return
        size = {"content-length": str(len(reply.body))}
        await self._start(reply, size)
        if reply.cut is not None:
            half = reply.body[: len(reply.body) // 2]
            await self._body(half, more=True)
            return
        await self._body(reply.body, more=False)

    async def _stream(self, reply: Reply, log: EventLog) -> None:
        await self._start(reply, {"x-accel-buffering": "no"})
        if reply.cut == 0:
            return
        sent = 0
        async for frame in self._frames(log):
            if sent and self._sim.config.chunk_delay_s:
                await asyncio.sleep(self._sim.config.chunk_delay_s)
            await self._body(frame, more=True)
            sent += 1
            if sent == reply.cut:
                return
        await self._body(b"", more=False)

    async def _frames(self, log: EventLog) -> AsyncIterator[bytes]:
        position = 0
        while True:
            while position < len(log.frames):
                yield log.frames[position]
                position += 1
            if log.closed:
                return
            await self._sim.wait_for_news()
            self._sim.observe()

    async def _start(self, reply: Reply, extra: dict[str, str]) -> None:
        headers = {"content-type": reply.content_type, **self._azure_headers(reply.status)}
        pairs = {**headers, **extra, **reply.headers}
        raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in pairs.items()]
        message = {"type": "http.response.start", "status": reply.status, "headers": raw}
        await self._send(message)

    async def _body(self, content: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": content, "more_body": more})

    def _azure_headers(self, status: int) -> dict[str, str]:
        request_id = self._sim.ids.request()
        headers = {
            "apim-request-id": request_id,
            "x-ms-region": REGION,
            "strict-transport-security": "max-age=31536000; includeSubDomains; preload",
            "x-content-type-options": "nosniff",
        }
        if status == 404:
            return headers
        client = self._received.header("x-ms-client-request-id")
        return {
            **headers,
            **({"x-ms-client-request-id": client} if client else {}),
            "x-request-id": self._sim.ids.request(),
            "x-ms-middleware-request-id": request_id,
            "x-ms-rai-invoked": "true",
            "x-ratelimit-limit-requests": "1000",
            "x-ratelimit-limit-tokens": "1000000",
            "x-ratelimit-remaining-requests": "999",
            "x-ratelimit-remaining-tokens": "999000",
        }


async def _receive_whole(scope: Scope, receive: Receive) -> Received | None:
    """Return the request with its body, or None if the client left before its end."""
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    query: bytes = scope["query_string"]
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    target = path + (b"?" + query if query else b"")
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs]
    return Received(scope["method"], target.decode("latin-1"), headers, b"".join(chunks))
