"""A v2 Assistants object as v1 showed it.

The objects are cut down to the fields v1 had, since closed client types reject others, and what v1
required is filled in: `file_ids`, a step's `expired_at` and `metadata`, a citation's `quote` (v2
has none: empty). The tool `file_search` is called `retrieval`. `usage` on runs and steps stays,
since v1's published example of steps shows it.

A run's status `incomplete` is unknown in v1, and a client that polls for an end would poll for
ever, so it is told as `failed` with the reason.

Left out: the files inside a vector store, which an assistant's reply does not list, and content
parts that are new in v2, which pass unaltered.

Source: Azure OpenAI specification, assistants 2024-02-15-preview; the fields of v2 as recorded on
the wire in October 2025.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.versions.change import Json

_THREAD = frozenset({"id", "object", "created_at", "metadata"})
_ASSISTANT = _THREAD | {"name", "description", "model", "instructions", "tools", "file_ids"}
_MESSAGE = _THREAD | {"thread_id", "role", "content", "assistant_id", "run_id", "file_ids"}
_WORK = _THREAD | {"thread_id", "assistant_id", "status", "last_error", "usage"}
_ENDS = frozenset({"cancelled_at", "failed_at", "completed_at"})
_RUN = (
    _WORK
    | _ENDS
    | {"required_action", "expires_at", "started_at", "model", "instructions", "tools", "file_ids"}
)
_STEP = _WORK | _ENDS | {"run_id", "type", "step_details", "expired_at"}


def as_v1(document: Json) -> Json:
    """Return one v2 object, or one streamed event's data, as v1 would have shown it.

    What is neither an Assistants object nor a delta comes back as it is. Never raises: a reply of
    an unexpected shape flows on.
    """
    match document.get("object"):
        case "assistant":
            return _assistant(document)
        case "thread":
            return _cut(document, _THREAD)
        case "thread.message":
            return _message(document)
        case "thread.run":
            return _run(document)
        case "thread.run.step":
            return _step(document)
        case "thread.message.delta":
            return _with_delta(document, "content", _v1_content)
        case "thread.run.step.delta":
            return _with_delta(document, "step_details", _v1_step_details)
        case _:
            return document


def _assistant(document: Json) -> Json:
    cut = _cut(document, _ASSISTANT)
    _rewrite(cut, "tools", _v1_tools)
    return {**cut, "file_ids": _resource_ids(document)}


def _message(document: Json) -> Json:
    cut = _cut(document, _MESSAGE)
    _rewrite(cut, "content", _v1_content)
    attached = _objects(document.get("attachments"))
    return {
        **cut,
        "file_ids": _once(document.get("file_ids"), [a.get("file_id") for a in attached]),
    }


def _run(document: Json) -> Json:
    cut = _cut(document, _RUN)
    _rewrite(cut, "tools", _v1_tools)
    cut["file_ids"] = _resource_ids(document)
    if document.get("status") != "incomplete":
        return cut
    details = document.get("incomplete_details")
    reason = details.get("reason", "no reason") if isinstance(details, dict) else "no reason"
    error = {"code": "server_error", "message": f"the run ended incomplete: {reason}"}
    ended = {"failed_at": document.get("completed_at"), "completed_at": None}
    return {**cut, **ended, "status": "failed", "last_error": document.get("last_error") or error}


def _step(document: Json) -> Json:
    cut = _cut(document, _STEP)
    _rewrite(cut, "step_details", _v1_step_details)
    # The wire says `expires_at`, kept even when the step is long completed; v1 meant the moment
    # at which it did expire.
    has_expired = document.get("status") == "expired"
    cut.setdefault("expired_at", document.get("expires_at") if has_expired else None)
    cut.setdefault("metadata", {})
    return cut


def _with_delta(document: Json, name: str, walk: Callable[[object], object]) -> Json:
    delta = document.get("delta")
    if not isinstance(delta, dict) or name not in delta:
        return document
    return {**document, "delta": {**delta, name: walk(delta[name])}}


def _v1_step_details(details: object) -> object:
    if not isinstance(details, dict):
        return details
    calls = _mapped(details.get("tool_calls"), _v1_call)
    return {**details, "tool_calls": calls} if "tool_calls" in details else details


def _v1_call(call: Json) -> Json:
    if call.get("type") != "file_search":
        return call
    rest = {name: value for name, value in call.items() if name != "file_search"}
    return {**rest, "type": "retrieval", "retrieval": {}}


def _v1_tools(tools: object) -> object:
    return _mapped(tools, _v1_tool)


def _v1_tool(tool: Json) -> Json:
    return {"type": "retrieval"} if tool.get("type") == "file_search" else tool


def _v1_content(content: object) -> object:
    return _mapped(content, _v1_part)


def _v1_part(part: Json) -> Json:
    text = part.get("text")
    if not isinstance(text, dict) or "annotations" not in text:
        return part
    return {**part, "text": {**text, "annotations": _mapped(text["annotations"], _v1_annotation)}}


def _v1_annotation(annotation: Json) -> Json:
    citation = annotation.get("file_citation")
    if not isinstance(citation, dict) or "quote" in citation:
        return annotation
    return {**annotation, "file_citation": {**citation, "quote": ""}}


def _resource_ids(document: Json) -> list[str]:
    """Return every file id that `tool_resources` names, once each, in its order."""
    resources = document.get("tool_resources")
    resources = resources if isinstance(resources, dict) else {}
    interpreter, search = resources.get("code_interpreter"), resources.get("file_search")
    stores = search.get("vector_stores") if isinstance(search, dict) else None
    holders = [*_objects([interpreter]), *_objects(stores)]
    return _once(document.get("file_ids"), *(holder.get("file_ids") for holder in holders))


def _once(*lists: object) -> list[str]:
    found = [id_ for ids in lists if isinstance(ids, list) for id_ in ids if isinstance(id_, str)]
    return list(dict.fromkeys(found))


def _objects(items: object) -> list[Json]:
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _mapped(items: object, walk: Callable[[Json], Json]) -> object:
    if not isinstance(items, list):
        return items
    return [walk(item) if isinstance(item, dict) else item for item in items]


def _cut(document: Json, fields: frozenset[str]) -> Json:
    return {name: value for name, value in document.items() if name in fields}


def _rewrite(cut: Json, name: str, walk: Callable[[object], object]) -> None:
    if name in cut:
        cut[name] = walk(cut[name])
