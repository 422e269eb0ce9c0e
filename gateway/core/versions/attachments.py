"""Files on messages: from the `file_ids` of Assistants v1 to the `attachments` of v2.

In v1 a message names its files in `file_ids`, and every file tool of the assistant may read them.
In v2 it carries `attachments`, each a file id with the tools it is meant for. Which tools the
assistant has is not known where the message is made, so an attachment is always made for
`code_interpreter`: it reads every kind of file, and `file_search` would index the file and make the
run wait for it.

Messages are created in four places: alone, with a thread, with a run, and with a thread and its run
at once.

Source: Azure OpenAI specifications 2024-02-15-preview and 2024-05-01-preview, createMessageRequest.
"""

from __future__ import annotations

from gateway.core.errors import Code, Refusal
from gateway.core.versions.change import Json

CREATES_MESSAGES = frozenset(
    {"messages.create", "threads.create", "runs.create", "threads.create_and_run"}
)


def attach_files(operation: str, body: Json, *, rule: str) -> Json:
    """Return the body with `file_ids` of every message it creates written as `attachments`.

    Raises:
        Refusal: a message has both, or `file_ids` is not a list of ids.
    """
    match operation:
        case "messages.create":
            return _attached(body, at="", rule=rule)
        case "threads.create":
            return _each_attached(body, "messages", at="", rule=rule)
        case "runs.create":
            return _each_attached(body, "additional_messages", at="", rule=rule)
        case "threads.create_and_run":
            thread = body.get("thread")
            if not isinstance(thread, dict):
                return body
            walked = _each_attached(thread, "messages", at="thread.", rule=rule)
            return body if walked is thread else {**body, "thread": walked}
        case _:
            return body


def file_ids_in(holder: Json, *, at: str, rule: str) -> list[str]:
    """Return the ids in `holder`'s `file_ids`; none if it is absent or null.

    Raises:
        Refusal: it is not a list of strings.
    """
    value = holder.get("file_ids")
    if value is None:
        return []
    if isinstance(value, list) and all(isinstance(id_, str) for id_ in value):
        return list(value)
    raise Refusal(
        Code.MALFORMED_REQUEST,
        f"`{at}file_ids` must be a list of file ids (rule `{rule}`)",
        param=f"{at}file_ids",
        rule=rule,
    )


def without_file_ids(holder: Json) -> Json:
    """Return a copy of `holder` that lacks `file_ids`."""
    return {name: value for name, value in holder.items() if name != "file_ids"}


def _each_attached(holder: Json, name: str, *, at: str, rule: str) -> Json:
    messages = holder.get(name)
    if not isinstance(messages, list):
        return holder
    walked = [
        _attached(message, at=f"{at}{name}[{index}].", rule=rule)
        if isinstance(message, dict)
        else message
        for index, message in enumerate(messages)
    ]
    if all(new is old for new, old in zip(walked, messages, strict=True)):
        return holder
    return {**holder, name: walked}


def _attached(message: Json, *, at: str, rule: str) -> Json:
    if "file_ids" not in message:
        return message
    ids = file_ids_in(message, at=at, rule=rule)
    rest = without_file_ids(message)
    if not ids:
        return rest
    if rest.get("attachments"):
        raise Refusal(
            Code.MALFORMED_REQUEST,
            f"`{at}file_ids` and `{at}attachments` are both given (rule `{rule}`); "
            "name every file in `attachments` alone",
            param=f"{at}file_ids",
            rule=rule,
        )
    attachments = [{"file_id": id_, "tools": [{"type": "code_interpreter"}]} for id_ in ids]
    return {**rest, "attachments": attachments}
