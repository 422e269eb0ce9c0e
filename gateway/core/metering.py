"""Listening to what Azure says about its own work.

A run can be heard of in a stream, in the answer to a poll, in a list of steps, in a list of runs; a
response in a stream, in its answer, when it is fetched later. What is billed does not depend on
that. So the meters do not know operations: they know *documents*. Whatever passes as JSON, alone,
in a list or in a stream, is held against one table by its ``object`` (or, in a Responses stream,
its ``type``), and what it says is noted. Ids are taken from fixed places of such documents only,
never from text. Some answers carry documents that the caller wrote himself (the input of a
response, say): so every operation states which kinds are Azure's own words in its answers, and no
others are listened to.

A meter looks and never alters, and it never fails: what it cannot read it does not note, and the
settlement reads the object later.

Where the interpreter shows. A tool step is created with an empty list of tool calls; its first
*delta* says that the tool is the interpreter, and the completed step repeats it. The delta has
neither thread nor time, so the ear remembers the steps it saw begin. Outputs may be empty; the
call counts.

Source: recorded streams of Assistants v2 and Responses, October 2025 to March 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import jiter

from gateway.core.model import SECOND, Micros, ObjectKind, ScopeKind, Usage
from gateway.core.sse import EventTap
from gateway.core.usage import read_usage

_DOCUMENT_BYTES_MAX = 32 * 1024 * 1024
# Seconds since the epoch, in the year 4147: what lies after it is no time, such as milliseconds.
_TIME_MAX = 1 << 36
_RUN_ENDS = frozenset({"completed", "failed", "incomplete", "cancelled", "expired"})
_RESPONSE_ENDS = frozenset({"completed", "failed", "incomplete", "cancelled"})
# No set: what stands in its place in a document need not be hashable.
_INTERPRETERS = ("code_interpreter",)
# Items that are named again later: reasoning is passed back, a call can be taken out of its
# conversation.
_NAMED_ITEMS = ("reasoning", "code_interpreter_call")

Document = Mapping[str, object]

RUN_WORK = frozenset(
    {
        "thread",
        "thread.run",
        "thread.run.step",
        "thread.run.step.delta",
        "thread.message",
        "thread.message.delta",
    }
)
CHAT_WORK = frozenset({"chat.completion", "chat.completion.chunk"})
EVERYTHING = (
    RUN_WORK
    | CHAT_WORK
    | {"response", "container", "conversation", "assistant", "file", "vector_store", "embeddings"}
)


@dataclass(slots=True)
class HeardRun:
    """What was heard of one run; the last word counts."""

    id: str
    thread: str
    created_at: Micros
    status: str = ""
    model: str | None = None
    usage: Usage | None = None
    may_call: bool = False
    began_here: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will be billed for it."""
        return self.status in _RUN_ENDS


@dataclass(slots=True)
class HeardResponse:
    """What was heard of one response. `containers` are those an interpreter call named."""

    id: str
    created_at: Micros
    status: str = ""
    model: str | None = None
    usage: Usage | None = None
    containers: dict[str, str] = field(default_factory=dict)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will be billed for it."""
        return self.status in _RESPONSE_ENDS


@dataclass(frozen=True, slots=True)
class HeardCall:
    """A call of the interpreter: in which scope, by which step or item, and when (Azure's time)."""

    kind: ScopeKind
    scope: str
    key: str
    at: Micros
    run: str | None = None
    response: str | None = None


@dataclass(slots=True)
class Ear:
    """Everything one exchange said. Feed it documents; read its fields at the end."""

    runs: dict[str, HeardRun] = field(default_factory=dict)
    responses: dict[str, HeardResponse] = field(default_factory=dict)
    calls: dict[tuple[str, str], HeardCall] = field(default_factory=dict)
    objects: dict[tuple[ObjectKind, str], None] = field(default_factory=dict)
    containers: dict[str, Micros] = field(default_factory=dict)
    usage: Usage | None = None
    error_code: str | None = None
    _steps: dict[str, Document] = field(default_factory=dict)
    _response: str | None = None
    hears: frozenset[str] = EVERYTHING

    def hear(self, document: object) -> None:
        """Note what a document says; what is not understood, or not to be heard, is passed over."""
        if not isinstance(document, Mapping):
            return
        kind = document.get("object")
        if not (kind is None or kind == "list" or (isinstance(kind, str) and kind in self.hears)):
            return
        match kind:
            case "list":
                self._list(document)
            case "thread.run":
                self._run(document)
            case "thread.run.step":
                self._step(document)
            case "thread.run.step.delta":
                self._step_delta(document)
            case "thread.message":
                self._content(document.get("content"))
            case "thread.message.delta":
                delta = document.get("delta")
                self._content(delta.get("content") if isinstance(delta, Mapping) else None)
            case "response":
                self._respond(document)
            case "chat.completion" | "chat.completion.chunk":
                self._chat(document)
            case "container":
                self._container(document)
            case "assistant" | "thread" | "file" | "conversation" | "vector_store":
                if document.get("deleted") is not True:
                    self._object(ObjectKind(kind), document.get("id"))
                    self._stores(document.get("tool_resources"))
            case None:
                self._response_event(document)
                self._error(document.get("error"))

    def _list(self, document: Document) -> None:
        if "usage" in document and "embeddings" in self.hears:
            self._chat(document)
        data = document.get("data")
        for item in data if isinstance(data, list) else ():
            self.hear(item)

    def _chat(self, document: Document) -> None:
        usage = read_usage(document.get("usage"))
        if usage is not None:
            self.usage = usage

    def _object(self, kind: ObjectKind, name: object) -> None:
        if isinstance(name, str) and name:
            self.objects[kind, name] = None

    def _stores(self, resources: object) -> None:
        """Note the vector stores that Azure made for an assistant or a thread."""
        search = resources.get("file_search") if isinstance(resources, Mapping) else None
        names = search.get("vector_store_ids") if isinstance(search, Mapping) else None
        for name in names if isinstance(names, list) else ():
            self._object(ObjectKind.VECTOR_STORE, name)

    def _run(self, document: Document) -> None:
        name, thread = document.get("id"), document.get("thread_id")
        created = _time(document.get("created_at"))
        if not isinstance(name, str) or not isinstance(thread, str) or created is None:
            return
        self._object(ObjectKind.THREAD, thread)
        self._object(ObjectKind.RUN, name)
        status = document.get("status")
        run = self.runs.get(name)
        if run is None:
            run = self.runs[name] = HeardRun(name, thread, created)
            # A run that goes on after tool outputs is queued again, but it has started before.
            run.began_here = status == "queued" and document.get("started_at") is None
        run.status = status if isinstance(status, str) else run.status
        run.model = _text(document.get("model")) or run.model
        run.usage = read_usage(document.get("usage")) or run.usage
        run.may_call = run.may_call or names_interpreter(document.get("tools"))

    def _step(self, document: Document) -> None:
        name = document.get("id")
        if isinstance(name, str):
            self._steps[name] = document
            self._tool_calls(name, document.get("step_details"))

    def _step_delta(self, document: Document) -> None:
        name, delta = document.get("id"), document.get("delta")
        if isinstance(name, str) and isinstance(delta, Mapping):
            self._tool_calls(name, delta.get("step_details"))

    def _tool_calls(self, step: str, details: object) -> None:
        if not isinstance(details, Mapping):
            return
        tool_calls = details.get("tool_calls")
        for call in tool_calls if isinstance(tool_calls, list) else ():
            if isinstance(call, Mapping) and call.get("type") in _INTERPRETERS:
                self._interpreter_step(step)
                self._outputs(call.get("code_interpreter"))

    def _interpreter_step(self, step: str) -> None:
        begun = self._steps.get(step)
        if begun is None:
            return
        thread, at = begun.get("thread_id"), _time(begun.get("created_at"))
        if isinstance(thread, str) and at is not None:
            run = _text(begun.get("run_id"))
            self.calls.setdefault(
                (thread, step), HeardCall(ScopeKind.THREAD, thread, step, at, run=run)
            )

    def _outputs(self, interpreter: object) -> None:
        outputs = interpreter.get("outputs") if isinstance(interpreter, Mapping) else None
        for output in outputs if isinstance(outputs, list) else ():
            image = output.get("image") if isinstance(output, Mapping) else None
            if isinstance(image, Mapping):
                self._object(ObjectKind.FILE, image.get("file_id"))

    def _content(self, content: object) -> None:
        for part in content if isinstance(content, list) else ():
            if not isinstance(part, Mapping):
                continue
            image, text = part.get("image_file"), part.get("text")
            if isinstance(image, Mapping):
                self._object(ObjectKind.FILE, image.get("file_id"))
            notes = text.get("annotations") if isinstance(text, Mapping) else None
            for note in notes if isinstance(notes, list) else ():
                path = note.get("file_path") if isinstance(note, Mapping) else None
                if isinstance(path, Mapping):
                    self._object(ObjectKind.FILE, path.get("file_id"))

    def _container(self, document: Document) -> None:
        name, created = document.get("id"), _time(document.get("created_at"))
        self._object(ObjectKind.CONTAINER, name)
        if isinstance(name, str) and created is not None:
            self.containers[name] = created

    def _respond(self, document: Document) -> None:
        name, created = document.get("id"), _time(document.get("created_at"))
        if not isinstance(name, str) or created is None:
            return
        self._object(ObjectKind.RESPONSE, name)
        self._response = name
        response = self.responses.setdefault(name, HeardResponse(name, created))
        response.status = _text(document.get("status")) or response.status
        response.model = _text(document.get("model")) or response.model
        response.usage = read_usage(document.get("usage")) or response.usage
        output = document.get("output")
        for item in output if isinstance(output, list) else ():
            self._item(item)

    def _response_event(self, document: Document) -> None:
        kind = document.get("type")
        if "response" in self.hears and isinstance(kind, str) and kind.startswith("response."):
            self.hear(document.get("response"))
            self._item(document.get("item"))

    def _error(self, error: object) -> None:
        if isinstance(error, Mapping):
            self.error_code = _text(error.get("code"))

    def _item(self, item: object) -> None:
        if not isinstance(item, Mapping):
            return
        if item.get("type") in _NAMED_ITEMS:
            self._object(ObjectKind.ITEM, item.get("id"))
        if item.get("type") != "code_interpreter_call":
            return
        name, container = item.get("id"), item.get("container_id")
        response = self.responses.get(self._response or "")
        if response is None or not isinstance(name, str) or not isinstance(container, str):
            return
        response.containers[container] = name
        self._object(ObjectKind.CONTAINER, container)
        self.calls.setdefault(
            (container, name),
            HeardCall(
                ScopeKind.CONTAINER, container, name, response.created_at, response=response.id
            ),
        )


def names_interpreter(tools: object) -> bool:
    """Return whether a list of tools can call the code interpreter."""
    return any(
        isinstance(tool, Mapping) and tool.get("type") in _INTERPRETERS
        for tool in (tools if isinstance(tools, list) else ())
    )


class Meter:
    """Feeds an ear with the bytes of one reply.

    `ended` turns true when the reply has said all that is billed; `whole` stays false if some of it
    could not be read, so that the object must be read back.
    """

    def __init__(self, *, is_stream: bool, hears: frozenset[str] = EVERYTHING) -> None:
        self.ear = Ear(hears=hears)
        self.ended = False
        self.whole = True
        self._tap = EventTap() if is_stream else None
        self._body: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> None:
        """Look at a piece of the reply."""
        if self._tap is None:
            self._size += len(chunk)
            if self._size <= _DOCUMENT_BYTES_MAX:
                self._body.append(chunk)
            return
        for event in self._tap.feed(chunk):
            self._event(event.data)
        self.whole = self.whole and not self._tap.overflowed

    def finish(self) -> None:
        """The reply came to its end."""
        if self._tap is None and self._size <= _DOCUMENT_BYTES_MAX:
            self._document(b"".join(self._body))
            self.ended = True
        elif self._tap is None:
            self.whole = False
        self._body.clear()

    def _event(self, data: bytes) -> None:
        if data == b"[DONE]":
            self.ended = True
            return
        self._document(data)
        self.ended = (
            self.ended
            or any(run.has_ended for run in self.ear.runs.values())
            or any(response.has_ended for response in self.ear.responses.values())
        )

    def _document(self, data: bytes) -> None:
        try:
            self.ear.hear(jiter.from_json(data))
        except ValueError:
            self.whole = False


def _time(value: object) -> Micros | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _TIME_MAX:
        return None
    return int(value) * SECOND


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
