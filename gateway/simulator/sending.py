"""Sends one reply, with Azure's headers, at the pace, to the point and in the way asked for."""

import asyncio
import zlib
from collections.abc import AsyncIterator

from starlette.types import Send

from gateway.simulator.exchange import EventLog, Received, Reply
from gateway.simulator.mishaps import Framing, Kind, Mishap
from gateway.simulator.quota import REQUESTS_PER_PERIOD, TOKENS_PER_PERIOD
from gateway.simulator.state import Simulator
from gateway.simulator.wire import Wire, head_of

REGION = "Sweden Central"
LENGTH_ERROR_BYTES = 10
_INFORMATION = [(b"link", b"</simulator>; rel=preconnect")]
_GZIP = 31
Headers = list[tuple[bytes, bytes]]


class Sending:
    """One reply on its way; `wire` is None where replies cannot be sent wrongly."""

    def __init__(
        self, sim: Simulator, received: Received, send: Send, wire: Wire | None = None
    ) -> None:
        self._sim = sim
        self._received = received
        self._send = send
        self._wire = wire

    async def send(self, reply: Reply, mishap: Mishap | None = None) -> None:
        """Send the reply; one that is to be cut is left without its end."""
        delay_s = reply.delay_s + (mishap.delay_s if mishap else 0)
        if delay_s:
            await asyncio.sleep(delay_s)
        if mishap is None:
            await self._send_whole(reply)
        elif self._wire is None:
            raise RuntimeError("faults of the connection need a `LiveSimulator`")
        else:
            await self._send_wrongly(reply, mishap, self._wire)

    async def _send_wrongly(self, reply: Reply, mishap: Mishap, wire: Wire) -> None:
        match mishap.kind:
            case Kind.STATUS | Kind.REDIRECT | Kind.DELAY | Kind.CUT:
                await self._send_whole(reply, cut=self._cut_of(reply, mishap))
            case Kind.STALL:
                await self._stall(reply, before_head=mishap.before_head)
            case Kind.CLOSE:
                await wire.close()
            case Kind.RESET:
                await self._reset(reply, wire, after_bytes=mishap.after_bytes)
            case Kind.INFORMATIONAL:
                wire.write(head_of(mishap.status, _INFORMATION))
                await self._send_whole(reply)
            case Kind.GZIP:
                await self._send_whole(reply, packer=zlib.compressobj(wbits=_GZIP))
            case Kind.HUGE_HEADER:
                await self._send_whole(reply, extra={"x-huge": "h" * mishap.header_bytes})
            case Kind.FRAMING:
                wire.write(await self._framed_wrongly(reply, mishap.framing))
                await wire.close()
            case Kind.EXTRA:
                body = await self._whole_body(reply)
                wire.write(self._raw_head(reply, len(body)) + body + mishap.text.encode())
                # The connection stays open: a client that uses it again finds those bytes.
                await wire.wait_for_end()

    def _cut_of(self, reply: Reply, mishap: Mishap) -> int | None:
        return mishap.after_events if mishap.kind is Kind.CUT else reply.cut

    async def _send_whole(
        self,
        reply: Reply,
        *,
        cut: int | None = None,
        extra: dict[str, str] | None = None,
        packer: "zlib._Compress | None" = None,
    ) -> None:
        cut = reply.cut if cut is None else cut
        packed = {"content-encoding": "gzip"} if packer is not None else {}
        more = {**(extra or {}), **packed}
        if isinstance(reply.body, EventLog):
            await self._stream(reply, reply.body, cut=cut, extra=more, packer=packer)
            return
        body = reply.body
        if packer is not None:
            body = packer.compress(body) + packer.flush()
        await self._start(reply, {"content-length": str(len(body)), **more})
        if cut is not None:
            await self._body(body[: len(body) // 2], more=True)
            return
        await self._body(body, more=False)

    async def _stream(
        self,
        reply: Reply,
        log: EventLog,
        *,
        cut: int | None,
        extra: dict[str, str],
        packer: "zlib._Compress | None",
    ) -> None:
        await self._start(reply, {"x-accel-buffering": "no", **extra})
        if cut == 0:
            return
        sent = 0
        async for frame in self._frames(log, reply.skipped):
            if sent and self._sim.config.chunk_delay_s:
                await asyncio.sleep(self._sim.config.chunk_delay_s)
            if packer is not None:
                frame = packer.compress(frame) + packer.flush(zlib.Z_SYNC_FLUSH)
            await self._body(frame, more=True)
            sent += 1
            if sent == cut:
                return
        await self._body(packer.flush() if packer is not None else b"", more=False)

    async def _stall(self, reply: Reply, *, before_head: bool) -> None:
        if before_head:
            await self._sim.wait_for_release()
            await self._send_whole(reply)
            return
        body = await self._whole_body(reply)
        await self._start(reply, {"content-length": str(len(body))})
        await self._sim.wait_for_release()
        await self._body(body, more=False)

    async def _reset(self, reply: Reply, wire: Wire, *, after_bytes: int) -> None:
        body = await self._whole_body(reply)
        wire.write(self._raw_head(reply, len(body)) + body[:after_bytes])
        await wire.reset()

    async def _framed_wrongly(self, reply: Reply, framing: Framing) -> bytes:
        body = await self._whole_body(reply)
        chunked = [(b"transfer-encoding", b"chunked")]
        half = len(body) // 2
        match framing:
            case Framing.LENGTH_TOO_LONG:
                return self._raw_head(reply, len(body) + LENGTH_ERROR_BYTES) + body
            case Framing.LENGTH_TOO_SHORT:
                return self._raw_head(reply, max(0, len(body) - LENGTH_ERROR_BYTES)) + body
            case Framing.CHUNK_GARBAGE:
                head = head_of(reply.status, [*self._headers(reply), *chunked])
                first = b"%x\r\n%b\r\n" % (half, body[:half]) if half else b""
                return head + first + b"zz\r\n" + body[half:] + b"\r\n0\r\n\r\n"
            case Framing.LENGTH_AND_CHUNKED:
                length = (b"content-length", str(len(body)).encode())
                head = head_of(reply.status, [*self._headers(reply), length, *chunked])
                return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)

    async def _whole_body(self, reply: Reply) -> bytes:
        if isinstance(reply.body, bytes):
            return reply.body
        return b"".join([frame async for frame in self._frames(reply.body, reply.skipped)])

    async def _frames(self, log: EventLog, position: int) -> AsyncIterator[bytes]:
        while True:
            while position < len(log.frames):
                yield log.frames[position]
                position += 1
            if log.closed:
                return
            await self._sim.wait_for_news()
            self._sim.observe()

    def _raw_head(self, reply: Reply, length: int) -> bytes:
        headers = [*self._headers(reply), (b"content-length", str(length).encode())]
        return head_of(reply.status, headers)

    def _headers(self, reply: Reply, extra: dict[str, str] | None = None) -> Headers:
        own = {"content-type": reply.content_type, **self._azure_headers(reply.status)}
        pairs = {**own, **(extra or {}), **reply.headers}
        return [
            (name.encode(), value.encode("latin-1", "replace")) for name, value in pairs.items()
        ]

    async def _start(self, reply: Reply, extra: dict[str, str]) -> None:
        headers = self._headers(reply, extra)
        message = {"type": "http.response.start", "status": reply.status, "headers": headers}
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
            "x-ratelimit-limit-requests": str(REQUESTS_PER_PERIOD),
            "x-ratelimit-limit-tokens": str(TOKENS_PER_PERIOD),
            "x-ratelimit-remaining-requests": str(REQUESTS_PER_PERIOD - 1),
            "x-ratelimit-remaining-tokens": str(TOKENS_PER_PERIOD - 1000),
        }
