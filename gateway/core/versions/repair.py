"""Repair of Assistants requests that mix v1 and v2, as a published example does.

Microsoft's page on the code interpreter declares `2024-05-01-preview`, which is v2, and then gives
a message `file_ids`, which is v1, and an assistant `tool_resources` with the key
`code interpreter`, with a space, which is nothing. Azure refuses both. Programs written after that
page are many, and what they mean is plain, so it is put right on the way; where it is not plain
(both spellings at once) the request is refused.

The reply is left alone: the client did say that it speaks v2.

Source: "Azure OpenAI Assistants Code Interpreter (Preview)", the 2025 text; the key was corrected
on the page in 2026.
"""

from __future__ import annotations

from gateway.core.errors import Code, Refusal
from gateway.core.versions.attachments import CREATES_MESSAGES, attach_files
from gateway.core.versions.change import Change, Json

_RULE = "api-versions.repair-mixed-assistants"
_MISSPELT, _RIGHT = "code interpreter", "code_interpreter"


def _request(operation: str, body: Json) -> Json:
    body = _respelt(attach_files(operation, body, rule=_RULE), at="")
    thread = body.get("thread")
    if operation != "threads.create_and_run" or not isinstance(thread, dict):
        return body
    walked = _respelt(thread, at="thread.")
    return body if walked is thread else {**body, "thread": walked}


def _respelt(holder: Json, *, at: str) -> Json:
    resources = holder.get("tool_resources")
    if not isinstance(resources, dict) or _MISSPELT not in resources:
        return holder
    if _RIGHT in resources:
        raise Refusal(
            Code.MALFORMED_REQUEST,
            f"`{at}tool_resources` has both `{_RIGHT}` and `{_MISSPELT}` (rule `{_RULE}`); "
            f"keep `{_RIGHT}`",
            param=f"{at}tool_resources",
            rule=_RULE,
        )
    respelt = {_RIGHT if name == _MISSPELT else name: value for name, value in resources.items()}
    return {**holder, "tool_resources": respelt}


REPAIR_MIXED_ASSISTANTS = Change(
    name="repair-mixed-assistants",
    since="2024-05-01-preview",
    operations=CREATES_MESSAGES | {"assistants.create", "assistants.modify", "threads.modify"},
    request=_request,
    is_repair=True,
)
"""What the example gets wrong, put right whatever version the client names."""
