"""Refused operations: what Azure or an SDK knows and we do not pass on, each with its reason.

What has no row in the catalogue is refused anyway. This table changes no decision: it lets a
refusal say what was asked for, why it stays outside, and what to do instead, and it makes leaving
something out a decision that somebody took. A test walks every method of the `openai` SDK: each
leads to a row of the catalogue or to a row here.

A path ending in ``/*`` stands for itself and everything below it, any other for itself alone. The
first row that fits answers, so the special stands above the general. A row without methods takes
them all. The catalogue is asked first, and no row here covers an operation that is served.

Source: Azure OpenAI inference and authoring specifications, 2024-02-15-preview to
2025-04-01-preview; the v1 specification of February 2026; OpenAI's API specification of August
2026 for what is OpenAI's alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Why(StrEnum):
    """Why an operation stays outside, as the caller reads it."""

    UNMETERED = "what it costs is not metered here, so no budget could stop it"
    UNCHECKED = "it brings in bytes that the upload policy would not see"
    UNOWNED = "its objects have no owner here, so one team could reach another's"
    WHOLE_RESOURCE = "it shows or changes the whole resource, not your team's part of it"
    UNWATCHED = "what passes on a socket is neither judged nor metered here"
    OTHER_SURFACE = "Azure has it on another surface only"
    RETIRED = "Azure retired it together with the first Assistants API"
    NOT_AZURE = "it is OpenAI's own and in no specification of Azure's that this gateway follows"
    NOT_YET = "this gateway does not serve it yet"


@dataclass(frozen=True, slots=True)
class RefusedOperation:
    """One row: which paths, what it is, why it is refused and the way out."""

    paths: tuple[str, ...]
    what: str
    why: Why
    instead: str
    methods: frozenset[str] = frozenset()

    @property
    def reason(self) -> str:
        """The sentence a caller reads: what it is, why it is refused, what to do instead."""
        return f"{self.what}: {self.why}; {self.instead}"


class RefusedOperations:
    """Finds the row of a request that the catalogue does not know."""

    def __init__(self, rows: Iterable[RefusedOperation]) -> None:
        self._by_head: dict[tuple[str, ...], list[tuple[re.Pattern[str], RefusedOperation]]] = {}
        for row in rows:
            for path in row.paths:
                head = _head(tuple(path.removesuffix("/*")[1:].split("/")))
                self._by_head.setdefault(head, []).append((_pattern(path), row))

    def find(self, method: str, segments: tuple[str, ...]) -> RefusedOperation | None:
        """Return the first row that covers a method and a canonical path, or None."""
        path = "/" + "/".join(segments)
        for pattern, row in self._by_head.get(_head(segments), ()):
            if (not row.methods or method in row.methods) and pattern.fullmatch(path):
                return row
        return None


def _head(segments: tuple[str, ...]) -> tuple[str, ...]:
    """Return the segments that every path of a resource begins with, such as `openai`, `audio`."""
    if segments[:2] == ("api", "projects"):
        return segments[:2]
    return segments[:3] if segments[:2] == ("openai", "v1") else segments[:2]


def _pattern(path: str) -> re.Pattern[str]:
    parts = path.removesuffix("/*").split("/")
    below = "(?:/.+)?" if path.endswith("/*") else ""
    each = ("[^/]+" if part.startswith("{") else re.escape(part) for part in parts)
    return re.compile("/".join(each) + below)


def _dated(*paths: str) -> tuple[str, ...]:
    return tuple(f"/openai{path}" for path in paths)


def _v1(*paths: str) -> tuple[str, ...]:
    return tuple(f"/openai/v1{path}" for path in paths)


def _both(*paths: str) -> tuple[str, ...]:
    return (*_dated(*paths), *_v1(*paths))


def _model(path: str) -> tuple[str, ...]:
    """Return the paths of a model's work; the dated SDK names the deployment if it is told one."""
    return (*_both(path), *_dated("/deployments/{deployment}" + path))


_POST = frozenset({"POST"})
_ASK = "ask the operators of this gateway if you need it"
_V1_CLIENT = 'use the v1 surface, `OpenAI(base_url=".../openai/v1/")`'
_DATED_CLIENT = "use the dated surface, `AzureOpenAI(api_version=...)`, or responses"
_CHAIN = "chain replies with `previous_response_id`"
_UPLOAD_WHOLE = "upload the file whole with `POST /files`"
_MANAGE = "manage the resource in Azure"

_INFERENCE = (
    RefusedOperation(
        (*_dated("/deployments/{deployment}/completions"), *_v1("/completions")),
        "legacy completions",
        Why.UNMETERED,
        "use chat completions",
    ),
    RefusedOperation(
        _model("/audio/*"),
        "audio (speech, transcription, translation, voices)",
        Why.UNMETERED,
        _ASK,
    ),
    RefusedOperation(
        _model("/images/*"), "images (generation, edits, variations)", Why.UNMETERED, _ASK
    ),
    RefusedOperation(
        (*_both("/videos/*"), *_v1("/video/*")), "video generation", Why.UNMETERED, _ASK
    ),
    RefusedOperation(
        _both("/realtime/*"),
        "realtime (sockets, calls, and secrets that lead past this gateway)",
        Why.UNWATCHED,
        "use chat completions or responses",
    ),
    RefusedOperation(
        _both("/live/*"), "live sessions", Why.NOT_AZURE, "use chat completions or responses"
    ),
    RefusedOperation(
        _both("/moderations"),
        "moderations",
        Why.NOT_AZURE,
        "read the content filter results in Azure's replies",
    ),
    RefusedOperation(
        _both("/decisions"),
        "decisions",
        Why.NOT_AZURE,
        "ask a chat deployment for structured output",
    ),
    RefusedOperation(
        _both("/content_provenance_checks"), "content provenance checks", Why.NOT_AZURE, _ASK
    ),
)

_STORED = (
    RefusedOperation(
        (*_dated("/chat/completions"), *_v1("/chat/completions")),
        "the list of stored chat completions",
        Why.UNOWNED,
        "keep the replies you need",
        frozenset({"GET"}),
    ),
    RefusedOperation(
        _both("/chat/completions/{completion}/*"),
        "stored chat completions",
        Why.UNOWNED,
        "keep the replies you need",
    ),
    RefusedOperation(
        _both("/responses"),
        "responses over a socket (and there is no list of them)",
        Why.UNWATCHED,
        "use `POST /responses`, streamed if you like",
        frozenset({"GET"}),
    ),
    RefusedOperation(
        _both("/responses/compact"), "compaction of responses", Why.UNMETERED, _CHAIN, _POST
    ),
    RefusedOperation(
        _both("/responses/input_tokens"),
        "counting input tokens",
        Why.NOT_YET,
        "read `usage` in the reply, or count with a tokenizer",
        _POST,
    ),
    RefusedOperation(_dated("/conversations/*"), "conversations", Why.OTHER_SURFACE, _V1_CLIENT),
    RefusedOperation(_both("/batches/*"), "batches", Why.UNMETERED, "send the requests one by one"),
)

_FILES = (
    RefusedOperation(
        _both("/uploads/*"),
        "uploads in parts",
        Why.UNCHECKED,
        _UPLOAD_WHOLE,
    ),
    RefusedOperation(
        _dated("/files/import"),
        "files that Azure fetches from a URL",
        Why.UNCHECKED,
        _UPLOAD_WHOLE,
        _POST,
    ),
    RefusedOperation(_dated("/containers/*"), "containers", Why.OTHER_SURFACE, _V1_CLIENT),
    RefusedOperation(
        _dated("/assistants/{assistant}/files/*"),
        "files attached to an assistant",
        Why.RETIRED,
        "name them in the assistant's `tool_resources`",
    ),
    RefusedOperation(
        _dated("/threads/{thread}/messages/{message}/files/*"),
        "files attached to a message",
        Why.RETIRED,
        "read the message's `attachments`",
    ),
    RefusedOperation(
        _both("/skills/*"), "skills (archives of files for a shell)", Why.UNCHECKED, _ASK
    ),
)

_AGENTS = (
    RefusedOperation(_v1("/assistants/*"), "assistants", Why.OTHER_SURFACE, _DATED_CLIENT),
    RefusedOperation(_v1("/threads/*"), "threads and runs", Why.OTHER_SURFACE, _DATED_CLIENT),
    RefusedOperation(
        (
            "/api/projects/{project}/agents/*",
            "/api/projects/{project}/openai/*",
            "/api/projects/{project}/conversations/*",
            "/api/projects/{project}/responses/*",
        ),
        "agents with versions, and what belongs to them",
        Why.NOT_YET,
        "use threads and runs, or responses on the v1 surface",
    ),
    RefusedOperation(
        (
            "/api/projects/{project}/connections/*",
            "/api/projects/{project}/datasets/*",
            "/api/projects/{project}/deployments/*",
            "/api/projects/{project}/evaluations/*",
            "/api/projects/{project}/indexes/*",
            "/api/projects/{project}/redTeams/*",
        ),
        "a project's connections, deployments, data and evaluations",
        Why.WHOLE_RESOURCE,
        _MANAGE,
    ),
    RefusedOperation(
        _both("/agents/*"), "OpenAI's hosted agents", Why.NOT_AZURE, "use assistants or responses"
    ),
    RefusedOperation(_both("/vaults/*"), "vaults of hosted agents", Why.NOT_AZURE, _ASK),
    RefusedOperation(_both("/chatkit/*"), "ChatKit", Why.NOT_AZURE, "use assistants or responses"),
)

_RESOURCE = (
    RefusedOperation(
        _both("/models/{model}"),
        "deleting a model",
        Why.WHOLE_RESOURCE,
        _MANAGE,
        frozenset({"DELETE"}),
    ),
    RefusedOperation(
        _both("/fine_tuning/*"),
        "fine-tuning (charged by the hour, and a model for everybody)",
        Why.UNMETERED,
        _ASK,
    ),
    RefusedOperation(
        _both("/evals/*"), "evals", Why.UNMETERED, "grade replies with chat completions"
    ),
    RefusedOperation(_both("/organization/*"), "OpenAI's administration", Why.NOT_AZURE, _MANAGE),
    RefusedOperation(
        _both("/projects/*"), "OpenAI's administration of projects", Why.NOT_AZURE, _MANAGE
    ),
    RefusedOperation(_both("/safety/*"), "OpenAI's safety alerts", Why.NOT_AZURE, _MANAGE),
    RefusedOperation(
        _both("/webhook_endpoints/*", "/webhook_event_types"),
        "webhooks",
        Why.NOT_AZURE,
        "poll the run or response, or stream it",
    ),
)

REFUSED_OPERATIONS: tuple[RefusedOperation, ...] = (
    *_INFERENCE,
    *_STORED,
    *_FILES,
    *_AGENTS,
    *_RESOURCE,
)
