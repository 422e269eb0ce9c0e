"""The front door: receives a request whole, journals it, judges key and version, answers.

Everything a request does is done by a plain function before anything is sent. A connection that
is cut, by a directive or by the client, therefore changes neither the state nor the invoice.
"""

from dataclasses import replace
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from gateway.simulator.errors import Fault, directed, unauthorized
from gateway.simulator.exchange import Call, Received, Reply, fault_reply
from gateway.simulator.mishaps import Kind, Mishap
from gateway.simulator.operations import match
from gateway.simulator.sending import Sending
from gateway.simulator.state import Simulator
from gateway.simulator.surfaces import read_surface
from gateway.simulator.wire import wire_of


class FrontDoor:
    """The ASGI application of the data plane."""

    def __init__(self, sim: Simulator) -> None:
        self._sim = sim

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = await _receive_whole(scope, receive)
        if received is None:
            return
        is_right = self._has_key(received)
        entry = self._sim.journal.enter(received, is_right=is_right)
        mishap = self._sim.ambushes.take(received)
        reply = Reply(b"", worked=False)
        if mishap is None or mishap.work:
            reply = self._answer(received, is_right=is_right)
        if mishap is not None:
            reply = _beset(reply, mishap)
        entry["fault"] = mishap.kind.value if mishap is not None else reply.directive
        entry["worked"] = reply.worked
        self._sim.announce_news()
        await Sending(self._sim, received, send, wire_of(scope, receive)).send(reply, mishap)

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
        versions = self._sim.config.api_versions
        surface = read_surface(versions, received.path, query.get("api-version"))
        operation, names = match(received.method, surface.path, surface.name)
        if operation.gate is not None and surface.name == "dated":
            operation.gate(surface.version)
        names = {**surface.names, **names}
        call = Call(received, surface.name, surface.version, names, query)
        return operation.handler(self._sim, call)

    def _has_key(self, received: Received) -> bool:
        config = self._sim.config
        bearer = received.header("authorization")
        bearers = (f"Bearer {config.api_key}", f"Bearer {config.entra_token}")
        return received.header("api-key") == config.api_key or bearer in bearers


def _beset(reply: Reply, mishap: Mishap) -> Reply:
    """Return the mishap's own reply if it has one, or the one whose sending will go wrong."""
    match mishap.kind:
        case Kind.STATUS:
            waits = {"retry-after": mishap.retry_after, "retry-after-ms": mishap.retry_after_ms}
            said = {name: str(wait) for name, wait in waits.items() if wait is not None}
            answer = fault_reply(directed(mishap.status))
            headers = {**answer.headers, **said}
            return replace(answer, headers=headers, worked=reply.worked)
        case Kind.REDIRECT:
            headers = {"location": mishap.location}
            return Reply(b"", status=307, headers=headers, worked=reply.worked)
        case _ if not mishap.work:
            return fault_reply(directed(500))
        case _:
            return reply


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
    scheme: str = scope["scheme"]
    body = b"".join(chunks)
    return Received(scope["method"], target.decode("latin-1"), headers, body, scheme)
