"""2024-05-01-preview: Assistants v1 becomes v2.

Requests. An assistant's `file_ids` move into `tool_resources`: to `code_interpreter.file_ids` if
it has that tool or no file tool at all, and, if it has `retrieval`, to a vector store made with it.
The tool `retrieval` is called `file_search`. A message's `file_ids` become `attachments`.

Modifying an assistant is narrower: v2 cannot make a vector store there, so `file_ids` beside
`retrieval` is refused. Without `tools` in the request nobody here knows the assistant's, and the
ids are taken to be for the code interpreter. An empty `file_ids` takes all files away, the vector
store too, as it did in v1.

Replies are `assistants_v1`.

Left out: the v1 routes `.../files`, which v2 does not have.

Source: Azure OpenAI specifications assistants 2024-02-15-preview and inference 2024-05-01-preview.
"""

from __future__ import annotations

from gateway.core.errors import Code, Refusal
from gateway.core.versions.assistants_v1 import as_v1
from gateway.core.versions.attachments import attach_files, file_ids_in, without_file_ids
from gateway.core.versions.change import Change, Json

_RULE = "api-versions.assistants-v2"

_OPERATIONS = frozenset(
    {
        *(f"assistants.{verb}" for verb in ("create", "list", "get", "modify", "delete")),
        *(f"threads.{verb}" for verb in ("create", "create_and_run", "get", "modify", "delete")),
        *(f"messages.{verb}" for verb in ("create", "list", "get", "modify", "delete")),
        *(f"runs.{verb}" for verb in ("create", "list", "get", "modify", "cancel")),
        "runs.submit_tool_outputs",
        "steps.list",
        "steps.get",
    }
)


def _request(operation: str, body: Json) -> Json:
    match operation:
        case "assistants.create":
            return _created(_renamed_tools(body))
        case "assistants.modify":
            return _modified(_renamed_tools(body))
        case "runs.create" | "threads.create_and_run":
            return attach_files(operation, _renamed_tools(body), rule=_RULE)
        case _:
            return attach_files(operation, body, rule=_RULE)


def _renamed_tools(body: Json) -> Json:
    tools = body.get("tools")
    if not isinstance(tools, list) or not _has_tool(body, "retrieval"):
        return body
    return {**body, "tools": [_v2_tool(tool) for tool in tools]}


def _created(body: Json) -> Json:
    if "file_ids" not in body:
        return body
    ids, rest = _taken_ids(body)
    if not ids:
        return rest
    resources: Json = {}
    if _has_tool(body, "code_interpreter") or not _has_tool(body, "file_search"):
        resources["code_interpreter"] = {"file_ids": ids}
    if _has_tool(body, "file_search"):
        resources["file_search"] = {"vector_stores": [{"file_ids": list(ids)}]}
    return {**rest, "tool_resources": resources}


def _modified(body: Json) -> Json:
    if body.get("file_ids") is None:
        return without_file_ids(body) if "file_ids" in body else body
    ids, rest = _taken_ids(body)
    if ids and _has_tool(body, "file_search"):
        raise Refusal(
            Code.MALFORMED_REQUEST,
            "`file_ids` cannot be changed on an assistant with the tool `retrieval` "
            f"(rule `{_RULE}`); create a new assistant, or name a vector store in "
            "`tool_resources` with api-version `2024-05-01-preview` or later",
            param="file_ids",
            rule=_RULE,
        )
    if ids:
        return {**rest, "tool_resources": {"code_interpreter": {"file_ids": ids}}}
    if rest.get("tool_resources"):
        return rest
    emptied: Json = {"code_interpreter": {"file_ids": []}, "file_search": {"vector_store_ids": []}}
    return {**rest, "tool_resources": emptied}


def _taken_ids(body: Json) -> tuple[list[str], Json]:
    ids = file_ids_in(body, at="", rule=_RULE)
    if ids and body.get("tool_resources"):
        raise Refusal(
            Code.MALFORMED_REQUEST,
            f"`file_ids` and `tool_resources` are both given (rule `{_RULE}`); "
            "name every file in one of them",
            param="file_ids",
            rule=_RULE,
        )
    return ids, without_file_ids(body)


def _v2_tool(tool: object) -> object:
    return {"type": "file_search"} if _is_tool(tool, "retrieval") else tool


def _has_tool(body: Json, kind: str) -> bool:
    tools = body.get("tools")
    return isinstance(tools, list) and any(_is_tool(tool, kind) for tool in tools)


def _is_tool(tool: object, kind: str) -> bool:
    return isinstance(tool, dict) and tool.get("type") == kind


ASSISTANTS_V2 = Change(
    name="assistants-v2",
    since="2024-05-01-preview",
    operations=_OPERATIONS,
    request=_request,
    reply=as_v1,
)
"""Assistants v1 to v2, requests up and replies back."""
