"""One exchange: the request as it was received, and the reply as a value.

Handlers are plain functions from a call to a reply. Whatever they change and bill is therefore
done before the first byte is sent, and a client that goes away changes nothing.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import orjson

from gateway.simulator.errors import Fault, backend
from gateway.simulator.forms import Part, read_form
from gateway.simulator.shapes import check_shapes

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Received:
    """A request before anyone judged it: `target` is the raw path and query, headers in order."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    scheme: str = "http"

    @property
    def path(self) -> str:
        """The raw path, still percent-encoded."""
        return self.target.partition("?")[0]

    def header(self, name: str) -> str | None:
        """Return the first header of that name, lower case, or None."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def content_type(self) -> str:
        """The Content-Type, empty if there was none."""
        return self.header("content-type") or ""

    @property
    def body_sha256(self) -> str:
        """The digest of the body."""
        return hashlib.sha256(self.body).hexdigest()


@dataclass(frozen=True, slots=True)
class Call:
    """A request that passed the front door, with the names its path and query carried."""

    received: Received
    surface: str
    version: str
    names: Mapping[str, str]
    query: Mapping[str, str]

    @property
    def is_v1(self) -> bool:
        """Whether the request came by `/openai/v1`."""
        return self.surface == "v1"

    def address_of(self, path: str) -> str:
        """Return the absolute address of a `path` below the root, as `Location` shows it."""
        host = self.received.header("host") or "localhost"
        return f"{self.received.scheme}://{host}{path}?api-version={quote(self.version)}"

    def json(self) -> Json:
        """Return the body, which must be a JSON object; an empty body is an empty object.

        Its known properties have the types they must have, however deep they stand.

        Raises:
            Fault: 400, it is something else, or a property of it is.
        """
        if not self.received.body:
            return {}
        try:
            content = orjson.loads(self.received.body)
        except orjson.JSONDecodeError:
            raise backend("We could not parse the JSON body of your request.") from None
        if not isinstance(content, dict):
            raise backend("We expected the JSON body of your request to be an object.")
        check_shapes(content)
        return content

    def form(self) -> dict[str, Part]:
        """Return the parts of a multipart body by name.

        Raises:
            Fault: 400, it is malformed.
        """
        parts = read_form(self.received.content_type, self.received.body)
        return {part.name: part for part in parts}


@dataclass(slots=True)
class EventLog:
    """Server-sent events of one stream, filled by the work, read by the connection."""

    frames: list[bytes] = field(default_factory=list)
    closed: bool = False

    def event(self, name: str, content: Json) -> None:
        """Append a named event."""
        head = b"event: " + name.encode()
        self.frames.append(head + b"\ndata: " + orjson.dumps(content) + b"\n\n")

    def unnamed(self, content: Json) -> None:
        """Append an event that has data only, as Azure's chat streams do."""
        self.frames.append(b"data: " + orjson.dumps(content) + b"\n\n")

    def close(self, last: bytes = b"") -> None:
        """End the stream, with `last` as its final bytes."""
        if last:
            self.frames.append(last)
        self.closed = True


@dataclass(frozen=True, slots=True)
class Reply:
    """What is sent back; a body that is an `EventLog` is streamed as it grows.

    `worked` says whether the operation was carried out, whatever the status says; a reader that
    has seen them may ask for a stream without its first `skipped` events.
    """

    body: bytes | EventLog
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    cut: int | None = None
    skipped: int = 0
    worked: bool = True
    directive: str | None = None


def json_reply(
    content: Json, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Reply:
    """Return a JSON answer; `content` is copied at once, so that later changes do not show."""
    return Reply(orjson.dumps(content), status=status, headers=headers or {})


def stream_reply(log: EventLog) -> Reply:
    """Return a stream of server-sent events."""
    return Reply(log, content_type="text/event-stream; charset=utf-8")


def fault_reply(fault: Fault) -> Reply:
    """Return a refusal."""
    answer = json_reply(fault.body, status=fault.status, headers=fault.headers)
    return replace(answer, worked=False)
