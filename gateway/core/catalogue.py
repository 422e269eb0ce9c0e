"""The catalogue: every operation that exists here, a row each. What has no row is refused.

Source: Azure OpenAI inference and authoring specifications, 2024-05-01-preview to
2025-04-01-preview, and the v1 specification of February 2026; for projects, Azure AI Foundry
Agents, data plane v1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gateway.core.errors import Code, Refusal
from gateway.core.metering import CHAT_WORK, RUN_WORK
from gateway.core.model import ObjectKind, Surface
from gateway.core.operations import ROOTS, Bills, Body, Operation, Reply
from gateway.core.unmetered import FILE_SEARCH

_PAGING = frozenset({"limit", "order", "after", "before"})
_STEP_QUERY = frozenset({"include[]"})
_INCLUDE = frozenset({"include", "include[]"})
_STREAM_QUERY = frozenset({"stream", "starting_after", "include_obfuscation"})
_ASSISTANT, _FILE = frozenset({"assistant"}), frozenset({"file"})
_RUN, _STEP = frozenset({"thread.run"}), frozenset({"thread.run.step"})
_MESSAGE, _RESPONSE = frozenset({"thread.message"}), frozenset({"response"})


class _Surface:
    """Makes the rows of one surface."""

    def __init__(self, surface: Surface) -> None:
        self.surface = surface

    def row(self, name: str, method: str, path: str) -> Operation:
        return Operation(name, method, ROOTS[self.surface] + path, self.surface)

    def get(self, name: str, path: str) -> Operation:
        return self.row(name, "GET", path)

    def post(self, name: str, path: str, body: Body = Body.JSON) -> Operation:
        return replace(self.row(name, "POST", path), body=body)

    def delete(self, name: str, path: str, kind: ObjectKind | None = None) -> Operation:
        return replace(self.row(name, "DELETE", path), deletes=kind)

    def streams(self, name: str, path: str, bills: Bills) -> Operation:
        return replace(self.post(name, path), reply=Reply.STREAM, bills=bills)


def _inference(on: _Surface) -> Iterator[Operation]:
    """Return the rows of chat and embeddings; the dated ones name the deployment in the path."""
    base = "/deployments/{deployment}" if on.surface is Surface.DATED else ""
    chat = on.streams("chat.completions", f"{base}/chat/completions", Bills.CHAT)
    yield replace(chat, hears=CHAT_WORK)
    embeddings = on.post("embeddings", f"{base}/embeddings")
    yield replace(embeddings, bills=Bills.EMBEDDINGS, hears=frozenset({"embeddings"}))


def _assistants(on: _Surface) -> Iterator[Operation]:
    kind, one = ObjectKind.ASSISTANT, "/assistants/{assistant}"
    create = on.post("assistants.create", "/assistants")
    yield replace(create, creates=kind, hears=_ASSISTANT)
    yield replace(on.get("assistants.list", "/assistants"), query=_PAGING, lists=kind)
    yield on.get("assistants.get", one)
    yield on.post("assistants.modify", one)
    yield on.delete("assistants.delete", one, kind)


def _threads(on: _Surface) -> Iterator[Operation]:
    kind, one = ObjectKind.THREAD, "/threads/{thread}"
    create = on.post("threads.create", "/threads", Body.OPTIONAL_JSON)
    yield replace(create, creates=kind, hears=frozenset({"thread"}))
    if on.surface is Surface.FOUNDRY:
        yield replace(on.get("threads.list", "/threads"), query=_PAGING, lists=kind)
    # A thread's vector store may be made by an attachment, and shows here for the first time.
    yield replace(on.get("threads.get", one), hears=frozenset({"thread"}))
    yield replace(on.post("threads.modify", one), hears=frozenset({"thread"}))
    yield on.delete("threads.delete", one, kind)


def _messages(on: _Surface) -> Iterator[Operation]:
    many = "/threads/{thread}/messages"
    one = f"{many}/{{message}}"
    listing = replace(on.get("messages.list", many), query=_PAGING | {"run_id"})
    heard = (
        on.post("messages.create", many),
        listing,
        on.get("messages.get", one),
        on.post("messages.modify", one),
    )
    yield from (replace(row, hears=_MESSAGE) for row in heard)
    if on.surface is not Surface.FOUNDRY:
        yield on.delete("messages.delete", one)


def _runs(on: _Surface) -> Iterator[Operation]:
    runs, run = "/threads/{thread}/runs", "/threads/{thread}/runs/{run}"
    at_once = on.streams("threads.create_and_run", "/threads/runs", Bills.RUN)
    yield replace(at_once, creates=ObjectKind.THREAD, hears=RUN_WORK)
    create = on.streams("runs.create", runs, Bills.RUN)
    yield replace(create, query=_STEP_QUERY, repeatable=_STEP_QUERY, hears=RUN_WORK)
    yield replace(on.get("runs.list", runs), query=_PAGING, hears=_RUN)
    yield replace(on.get("runs.get", run), hears=_RUN)
    yield replace(on.post("runs.modify", run), hears=_RUN)
    yield replace(on.post("runs.cancel", f"{run}/cancel", Body.OPTIONAL_JSON), hears=_RUN)
    go_on = on.streams("runs.submit_tool_outputs", f"{run}/submit_tool_outputs", Bills.NOTHING)
    yield replace(go_on, hears=RUN_WORK)


def _steps(on: _Surface) -> Iterator[Operation]:
    steps = "/threads/{thread}/runs/{run}/steps"
    rows = (
        replace(on.get("steps.list", steps), query=_PAGING | _STEP_QUERY),
        replace(on.get("steps.get", f"{steps}/{{step}}"), query=_STEP_QUERY),
    )
    yield from (replace(row, repeatable=_STEP_QUERY, hears=_STEP) for row in rows)


def _files(on: _Surface) -> Iterator[Operation]:
    kind, one = ObjectKind.FILE, "/files/{file}"
    create = on.post("files.create", "/files", Body.UPLOAD)
    yield replace(create, creates=kind, hears=_FILE)
    yield replace(on.get("files.list", "/files"), query=_PAGING | {"purpose"}, lists=kind)
    yield on.get("files.get", one)
    yield replace(on.get("files.content", f"{one}/content"), reply=Reply.BYTES)
    yield on.delete("files.delete", one, kind)


def _responses(on: _Surface) -> Iterator[Operation]:
    kind, one = ObjectKind.RESPONSE, "/responses/{response}"
    create = on.streams("responses.create", "/responses", Bills.RESPONSE)
    yield replace(create, creates=kind, hears=_RESPONSE)
    get = replace(on.get("responses.get", one), hears=_RESPONSE, reply=Reply.STREAM)
    yield replace(get, query=_INCLUDE | _STREAM_QUERY, repeatable=_INCLUDE)
    yield on.delete("responses.delete", one, kind)
    cancel = on.post("responses.cancel", f"{one}/cancel", Body.OPTIONAL_JSON)
    yield replace(cancel, hears=_RESPONSE)
    # The items of an input are the caller's own words: nothing in this answer is heard.
    items = on.get("responses.input_items", f"{one}/input_items")
    yield replace(items, query=_PAGING | _INCLUDE, repeatable=_INCLUDE)


def _containers(on: _Surface) -> Iterator[Operation]:
    kind, one = ObjectKind.CONTAINER, "/containers/{container}"
    file = f"{one}/files/{{container_file}}"
    create = on.post("containers.create", "/containers")
    heard = frozenset({"container"})
    yield replace(create, bills=Bills.CONTAINER, creates=kind, hears=heard)
    listing = replace(on.get("containers.list", "/containers"), query=_PAGING | {"name"})
    yield replace(listing, lists=kind)
    yield on.get("containers.get", one)
    yield on.delete("containers.delete", one, kind)
    # A file that is put in prolongs the container's life and opens no session.
    yield on.post("containers.files.create", f"{one}/files", Body.CONTAINER_FILE)
    yield replace(on.get("containers.files.list", f"{one}/files"), query=_PAGING)
    yield on.get("containers.files.get", file)
    yield replace(on.get("containers.files.content", f"{file}/content"), reply=Reply.BYTES)
    yield on.delete("containers.files.delete", file)


def _conversations(on: _Surface) -> Iterator[Operation]:
    kind, one = ObjectKind.CONVERSATION, "/conversations/{conversation}"
    items = f"{one}/items"
    create = on.post("conversations.create", "/conversations", Body.OPTIONAL_JSON)
    yield replace(create, creates=kind, hears=frozenset({"conversation"}))
    yield on.get("conversations.get", one)
    yield on.post("conversations.modify", one)
    yield on.delete("conversations.delete", one, kind)
    # Items may be the caller's own words: nothing in these answers is heard.
    put = on.post("conversations.items.create", items)
    yield replace(put, query=_INCLUDE, repeatable=_INCLUDE)
    listing = on.get("conversations.items.list", items)
    yield replace(listing, query=_PAGING | _INCLUDE, repeatable=_INCLUDE)
    get = on.get("conversations.items.get", f"{items}/{{item}}")
    yield replace(get, query=_INCLUDE, repeatable=_INCLUDE)
    yield on.delete("conversations.items.delete", f"{items}/{{item}}", ObjectKind.ITEM)


def _vector_stores(on: _Surface) -> Iterator[Operation]:
    """Return the rows of vector stores; what makes one grow or is charged by itself says so."""
    kind, one = ObjectKind.VECTOR_STORE, "/vector_stores/{vector_store}"
    files, batches = f"{one}/files", f"{one}/file_batches"
    create = on.post("vector_stores.create", "/vector_stores", Body.OPTIONAL_JSON)
    yield replace(create, creates=kind, hears=frozenset({"vector_store"}), feature=FILE_SEARCH)
    yield replace(on.get("vector_stores.list", "/vector_stores"), query=_PAGING, lists=kind)
    yield on.get("vector_stores.get", one)
    yield replace(on.post("vector_stores.modify", one), feature=FILE_SEARCH)
    yield on.delete("vector_stores.delete", one, kind)
    yield replace(on.post("vector_stores.files.create", files), feature=FILE_SEARCH)
    listed = _PAGING | {"filter"}
    yield replace(on.get("vector_stores.files.list", files), query=listed)
    yield on.get("vector_stores.files.get", f"{files}/{{file}}")
    yield on.delete("vector_stores.files.delete", f"{files}/{{file}}")
    yield replace(on.post("vector_stores.file_batches.create", batches), feature=FILE_SEARCH)
    batch = f"{batches}/{{file_batch}}"
    yield on.get("vector_stores.file_batches.get", batch)
    cancel = f"{batch}/cancel"
    yield on.post("vector_stores.file_batches.cancel", cancel, Body.OPTIONAL_JSON)
    yield replace(on.get("vector_stores.file_batches.files", f"{batch}/files"), query=listed)
    if on.surface is not Surface.FOUNDRY:
        yield on.post("vector_stores.files.modify", f"{files}/{{file}}")
        yield on.get("vector_stores.files.content", f"{files}/{{file}}/content")
        yield replace(on.post("vector_stores.search", f"{one}/search"), feature=FILE_SEARCH)


def _models(on: _Surface) -> Iterator[Operation]:
    """Return the rows of models: what Azure would say is about the whole resource, so we answer."""
    yield replace(on.get("models.list", "/models"), is_ours=True)
    yield replace(on.get("models.get", "/models/{model}"), is_ours=True)


def _rows() -> Iterator[Operation]:
    dated, v1, project = (_Surface(surface) for surface in Surface)
    for on in (dated, v1, project):
        if on is not project:
            yield from _inference(on)
            yield from _responses(on)
            yield from _models(on)
        yield from _files(on)
        yield from _vector_stores(on)
        if on is not v1:
            yield from _assistants(on)
            yield from _threads(on)
            yield from _messages(on)
            yield from _runs(on)
            yield from _steps(on)
    yield from _containers(v1)
    yield from _conversations(v1)


CATALOGUE: tuple[Operation, ...] = tuple(_rows())

_IN_PROJECTS = frozenset(row.name for row in CATALOGUE if row.surface is Surface.FOUNDRY)
_FAMILIES = frozenset(name.partition(".")[0] for name in _IN_PROJECTS)


def is_carried(operation: Operation) -> bool:
    """Return whether a project can answer a dated operation: it has the same objects.

    Raises:
        Refusal: it is about objects that projects have, but projects do not have the operation.
    """
    if operation.surface is not Surface.DATED or operation.name.partition(".")[0] not in _FAMILIES:
        return False
    if operation.name not in _IN_PROJECTS:
        raise Refusal(
            Code.UNKNOWN_OPERATION,
            f"dated calls are carried to a Foundry project here, and projects have no "
            f"`{operation.name}` (rule `not-in-projects`)",
            param="path",
            rule="not-in-projects",
        )
    return True
