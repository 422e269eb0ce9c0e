"""Ownership: which objects a request names, so that each can be held against its owner.

On a shared Azure resource an id is a key: whoever knows it can read and use the object. So every id
that a caller can put into a request is found here, in the path, in the query and in the body, and
the street asks the registry about each. Foreign, unknown and deleted are one answer.

In a body an id is recognised by the *name of its field*, wherever it stands, not by what it looks
like: Azure's ids have several prefixes, and a body may hold texts that look like ids. Subtrees that
are free for callers to fill (metadata, attributes, JSON schemas, function parameters) are not
searched; no operation takes an id from there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.core.canonical import has_nested
from gateway.core.errors import Code, Refusal
from gateway.core.model import ObjectKind
from gateway.core.operations import OWNED_PLACEHOLDERS, Match

_FIELDS: Mapping[str, ObjectKind] = {
    "file_id": ObjectKind.FILE,
    "file_ids": ObjectKind.FILE,
    "input_file_id": ObjectKind.FILE,
    "training_file": ObjectKind.FILE,
    "validation_file": ObjectKind.FILE,
    "assistant_id": ObjectKind.ASSISTANT,
    "thread_id": ObjectKind.THREAD,
    "vector_store_id": ObjectKind.VECTOR_STORE,
    "vector_store_ids": ObjectKind.VECTOR_STORE,
    "previous_response_id": ObjectKind.RESPONSE,
    "response_id": ObjectKind.RESPONSE,
    "container_id": ObjectKind.CONTAINER,
    "container": ObjectKind.CONTAINER,
    "conversation": ObjectKind.CONVERSATION,
    "conversation_id": ObjectKind.CONVERSATION,
    "prompt": ObjectKind.PROMPT,
}
_FREE = frozenset({"metadata", "parameters", "schema", "arguments", "logit_bias", "attributes"})
# Foundry's way to name data by an address in the workspace, past the registry and the upload check.
_UNREGISTERED = frozenset({"data_source", "data_sources"})
# Every field of Azure's is lower case. Some servers match names without regard to case, so that
# `Tools` would be honoured by them and overlooked here.
_NAME = re.compile(r"[a-z0-9_.$-]{1,128}")
_CONTAINER_FILE = re.compile(r"cfile_[A-Za-z0-9]{1,120}")
_CITATION = "container_file_citation"
_DEPTH_MAX = 64
_ID_CHARS_MAX = 256


@dataclass(frozen=True, slots=True)
class Reference:
    """An object a request names, and where."""

    kind: ObjectKind
    id: str
    param: str


def references(
    match: Match, query: tuple[tuple[str, str], ...], body: Mapping[str, object] | None
) -> list[Reference]:
    """Return every object that path, query and body name, each once, in that order.

    Raises:
        Refusal: a field that holds ids holds something else.
    """
    found: dict[tuple[ObjectKind, str], Reference] = {}
    for reference in (*_in_path(match), *_in_query(match, query), *_in_body(match, body)):
        found.setdefault((reference.kind, reference.id), reference)
    return list(found.values())


def _in_path(match: Match) -> Iterator[Reference]:
    for name, value in match.values.items():
        kind = OWNED_PLACEHOLDERS.get(name)
        if kind is not None:
            yield Reference(kind, value, name)


def _in_query(match: Match, query: tuple[tuple[str, str], ...]) -> Iterator[Reference]:
    """A cursor of a list over the whole resource names an object; one inside a thread does not."""
    kind = match.operation.lists
    if kind is not None:
        for key, value in query:
            if key in ("after", "before"):
                yield Reference(kind, value, key)


def _in_body(match: Match, body: Mapping[str, object] | None) -> Iterator[Reference]:
    if body is not None:
        # Embedded texts of a completion call are `prompt` strings, not ids.
        yield from _walk(body, "", 0)


def _walk(node: object, where: str, depth: int) -> Iterator[Reference]:
    if depth > _DEPTH_MAX:
        raise Refusal(Code.INVALID_JSON, f"the body is nested deeper than {_DEPTH_MAX} levels")
    if isinstance(node, Mapping):
        yield from _reasoning(node, where)
        for key, value in node.items():
            if key in _FREE:
                continue
            if _NAME.fullmatch(key) is None:
                raise _not_a_name(where)
            path = f"{where}.{key}" if where else str(key)
            if key in _UNREGISTERED and value:
                raise _unregistered(path)
            kind = None if _is_inside(node, key, value) else _FIELDS.get(key)
            if kind is None:
                yield from _walk(value, path, depth + 1)
            else:
                yield from _named(kind, value, path, depth + 1)
    elif isinstance(node, list) and has_nested(node):
        for index, value in enumerate(node):
            yield from _walk(value, f"{where}[{index}]", depth + 1)


def _is_inside(node: Mapping[str, object], key: str, value: object) -> bool:
    """Return whether a file is one inside the container named beside it, whose owner answers."""
    container = node.get("container_id")
    return (
        key == "file_id"
        and node.get("type") == _CITATION
        and isinstance(container, str)
        and container != ""
        and isinstance(value, str)
        and _CONTAINER_FILE.fullmatch(value) is not None
    )


def _reasoning(node: Mapping[str, object], where: str) -> Iterator[Reference]:
    """A reasoning item is looked up by its id, unless it brings its content along."""
    name = node.get("id")
    if node.get("type") == "reasoning" and not node.get("encrypted_content"):
        if isinstance(name, str) and 0 < len(name) <= _ID_CHARS_MAX:
            yield Reference(ObjectKind.ITEM, name, f"{where}.id")
        elif name is not None:
            raise _no_id(f"{where}.id")


def _named(kind: ObjectKind, value: object, path: str, depth: int) -> Iterator[Reference]:
    match value:
        case None:
            return
        case str() if 0 < len(value) <= _ID_CHARS_MAX:
            yield Reference(kind, value, path)
        case list():
            for index, item in enumerate(value):
                if not isinstance(item, str):
                    raise _no_id(f"{path}[{index}]")
                yield from _named(kind, item, f"{path}[{index}]", depth)
        case Mapping() if kind in (ObjectKind.CONVERSATION, ObjectKind.PROMPT):
            yield from _named(kind, value.get("id"), f"{path}.id", depth)
            yield from _walk(value, path, depth)
        case Mapping() if kind is ObjectKind.CONTAINER:
            yield from _walk(value, path, depth)
        case _:
            raise _no_id(path)


def _not_a_name(where: str) -> Refusal:
    return Refusal(
        Code.MALFORMED_REQUEST,
        f"`{where[:120] or 'the body'}` has a field whose name is not lower-case ASCII; a server "
        "that ignores case would read it as another field than the one that was judged",
        param=where[:120] or "body",
        rule="field-name-not-canonical",
    )


def _unregistered(path: str) -> Refusal:
    return Refusal(
        Code.NOT_PERMITTED,
        f"`{path[:120]}` names data that was not uploaded through this gateway, so that nobody "
        "knows whose it is (rule `data-not-registered`); upload it and name its id",
        param=path[:120],
        rule="data-not-registered",
    )


def _no_id(path: str) -> Refusal:
    return Refusal(
        Code.MALFORMED_REQUEST,
        f"`{path[:120]}` must hold an id",
        param=path[:120],
        rule="not-an-id",
    )
