"""Operations: what a row of the catalogue says, and how a request finds its row.

One table is read by everybody: the router takes the path from it, the street what kind of body to
read, ownership which segments are ids, the meters what is billed. A new operation of Azure's is
therefore unknown here, and refused and counted, until somebody has thought about all of it.

Placeholders name what they stand for: ``{thread}``, ``{assistant}``, ``{file}``, ``{response}``,
``{container}``, ``{conversation}`` and ``{vector_store}`` are objects with an owner; ``{run}``,
``{message}``, ``{step}``, ``{item}``, ``{file_batch}`` and ``{container_file}`` live inside one and
share its owner; ``{deployment}``, ``{model}`` and ``{project}`` are no objects at all.

Source: Azure OpenAI inference and authoring specifications, 2024-05-01-preview to
2025-04-01-preview, and the v1 specification of February 2026; Azure AI Foundry Agents, data plane
v1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from gateway.core.errors import Code, Refusal
from gateway.core.model import ObjectKind, Surface
from gateway.core.refused import REFUSED_OPERATIONS, RefusedOperations


class Body(StrEnum):
    """What a request carries."""

    NONE = "none"
    JSON = "json"
    OPTIONAL_JSON = "optional json"
    UPLOAD = "multipart upload"
    CONTAINER_FILE = "multipart upload, or json with the id of a file"


class Reply(StrEnum):
    """What comes back when all is well. ``STREAM`` is JSON, or SSE if the body asks for it."""

    JSON = "json"
    STREAM = "json or event stream"
    BYTES = "bytes"


class Bills(StrEnum):
    """What Azure charges an operation for, and how that becomes known."""

    NOTHING = "nothing"
    CHAT = "tokens, in the reply"
    EMBEDDINGS = "input tokens, in the reply"
    RUN = "tokens and sessions, when the run has ended"
    RESPONSE = "tokens and sessions, when the response is complete"
    CONTAINER = "a session, at once"


ROOTS: Mapping[Surface, str] = {
    Surface.DATED: "/openai",
    Surface.V1: "/openai/v1",
    Surface.FOUNDRY: "/api/projects/{project}",
}
"""What every path of a surface begins with."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One row. `query` holds the allowed parameters; `repeatable` those that may come twice.

    `hears` are the kinds of documents that Azure itself writes into the answer, and so the only
    ones a meter may believe there. `feature` names what costs money that no meter here sees: the
    operation is refused unless the organisation has decided to allow that. With `is_ours` the
    gateway answers by itself, and nothing is sent.
    """

    name: str
    method: str
    template: str
    surface: Surface
    body: Body = Body.NONE
    reply: Reply = Reply.JSON
    bills: Bills = Bills.NOTHING
    query: frozenset[str] = frozenset()
    repeatable: frozenset[str] = frozenset()
    lists: ObjectKind | None = None
    deletes: ObjectKind | None = None
    creates: ObjectKind | None = None
    hears: frozenset[str] = frozenset()
    feature: str | None = None
    is_ours: bool = False

    @property
    def below(self) -> str:
        """The template without its surface's root."""
        return self.template.removeprefix(ROOTS[self.surface])

    @property
    def is_journalled(self) -> bool:
        """Whether an intent is committed before the wire: it bills, or makes an object."""
        return self.bills is not Bills.NOTHING or self.creates is not None


@dataclass(frozen=True, slots=True)
class Match:
    """A row and what its placeholders stood for."""

    operation: Operation
    values: Mapping[str, str]


OWNED_PLACEHOLDERS: Mapping[str, ObjectKind] = {
    "thread": ObjectKind.THREAD,
    "assistant": ObjectKind.ASSISTANT,
    "file": ObjectKind.FILE,
    "response": ObjectKind.RESPONSE,
    "container": ObjectKind.CONTAINER,
    "conversation": ObjectKind.CONVERSATION,
    "vector_store": ObjectKind.VECTOR_STORE,
}

_NO_ROW = "operation-not-catalogued"
_REFUSED = RefusedOperations(REFUSED_OPERATIONS)
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAMES = ("deployment", "model", "project")


class Catalogue:
    """Finds the row of a request."""

    def __init__(self, rows: Iterable[Operation]) -> None:
        self._by_length: dict[int, list[tuple[tuple[str, ...], Operation]]] = {}
        for row in rows:
            parts = tuple(row.template[1:].split("/"))
            self._by_length.setdefault(len(parts), []).append((parts, row))
        for same_length in self._by_length.values():
            # A literal segment beats a placeholder: `/threads/runs` is no thread called "runs".
            same_length.sort(key=lambda entry: [part.startswith("{") for part in entry[0]])

    def match(self, method: str, segments: tuple[str, ...]) -> Match:
        """Return the row for a method and a canonical path.

        Raises:
            Refusal: 404 if no operation has this path, 405 if none has it with this method.
        """
        allowed: list[str] = []
        path: tuple[str, ...] | None = None
        for parts, operation in self._by_length.get(len(segments), ()):
            values = _values(parts, segments)
            if values is None or (path is not None and parts != path):
                continue
            path = parts
            if operation.method == method:
                return Match(operation, values)
            allowed.append(operation.method)
        raise _without_row(method, segments, allowed)


def _without_row(method: str, segments: tuple[str, ...], allowed: list[str]) -> Refusal:
    """Return the refusal of what has no row, with the reason if one is written down."""
    known = _REFUSED.find(method, segments)
    why = None if known is None else f"not served: {known.reason} (rule `{_NO_ROW}`)"
    if allowed:
        methods = ", ".join(sorted(set(allowed)))
        takes = f"this path takes {methods}"
        return Refusal(
            Code.METHOD_NOT_ALLOWED,
            takes if why is None else f"{takes}; {method} is {why}",
            param="method",
            headers=(("allow", methods),),
        )
    return Refusal(
        Code.UNKNOWN_OPERATION,
        why or "this gateway does not know the operation; its documentation lists what it knows",
        param="path",
        rule=_NO_ROW,
    )


def _values(parts: tuple[str, ...], segments: tuple[str, ...]) -> dict[str, str] | None:
    values: dict[str, str] = {}
    for part, segment in zip(parts, segments, strict=True):
        if not part.startswith("{"):
            if part != segment:
                return None
            continue
        name = part[1:-1]
        grammar = _NAME if name in _NAMES else _ID
        if grammar.fullmatch(segment) is None:
            return None
        values[name] = segment
    return values


def check_query(
    operation: Operation, pairs: tuple[tuple[str, str], ...]
) -> tuple[tuple[tuple[str, str], ...], str | None]:
    """Return the parameters that go upstream, and the api-version the client asked for.

    Raises:
        Refusal: a parameter is not in the row's list, or comes twice where it may not.
    """
    kept: list[tuple[str, str]] = []
    seen: set[str] = set()
    asked: str | None = None
    for key, value in pairs:
        if key in seen and key not in operation.repeatable:
            raise Refusal(
                Code.MALFORMED_REQUEST,
                f"query parameter `{key[:64]}` is given twice",
                param=key[:64],
                rule="query-repeated",
            )
        seen.add(key)
        if key == "api-version":
            asked = value
        elif key in operation.query:
            kept.append((key, value))
        else:
            raise Refusal(
                Code.MALFORMED_REQUEST,
                f"query parameter `{key[:64]}` is not known for `{operation.name}`; "
                f"known: {', '.join(f'`{name}`' for name in sorted(operation.query)) or 'none'}",
                param=key[:64],
                rule="query-not-listed",
            )
    return tuple(kept), asked
