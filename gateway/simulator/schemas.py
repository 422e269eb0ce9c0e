"""The closed request schemas of Assistants v2 (`additionalProperties: false`), by name.

Source: Azure OpenAI inference specification, api-version 2024-05-01-preview and later.
"""

from collections.abc import Mapping
from typing import Any

from gateway.simulator.errors import backend, missing

_ASSISTANT = frozenset(
    {
        "model",
        "name",
        "description",
        "instructions",
        "tools",
        "tool_resources",
        "metadata",
        "temperature",
        "top_p",
        "response_format",
        "reasoning_effort",
    }
)
_RUN_KNOBS = frozenset(
    {
        "assistant_id",
        "model",
        "instructions",
        "tools",
        "metadata",
        "temperature",
        "top_p",
        "stream",
        "max_prompt_tokens",
        "max_completion_tokens",
        "truncation_strategy",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "reasoning_effort",
    }
)
SCHEMAS: Mapping[str, frozenset[str]] = {
    "assistant": _ASSISTANT,
    "thread": frozenset({"messages", "tool_resources", "metadata"}),
    "thread change": frozenset({"tool_resources", "metadata"}),
    "message": frozenset({"role", "content", "attachments", "metadata"}),
    "change": frozenset({"metadata"}),
    "run": _RUN_KNOBS | {"additional_instructions", "additional_messages"},
    "thread and run": _RUN_KNOBS | {"thread", "tool_resources"},
    "tool outputs": frozenset({"tool_outputs", "stream"}),
    "tool output": frozenset({"tool_call_id", "output"}),
}
TOOL_TYPES = frozenset({"code_interpreter", "file_search", "function"})


def check_closed(schema: str, body: Mapping[str, Any], *, required: tuple[str, ...] = ()) -> None:
    """Accept a body that has the schema's properties only, and the required ones.

    Raises:
        Fault: 400 in the words of the backend's validator.
    """
    unexpected = [name for name in body if name not in SCHEMAS[schema]]
    if unexpected:
        quoted = ", ".join(f"'{name}'" for name in unexpected)
        verb = "was" if len(unexpected) == 1 else "were"
        raise backend(f"Additional properties are not allowed ({quoted} {verb} unexpected)")
    for name in required:
        if body.get(name) is None:
            raise missing(name)


def check_tools(tools: object) -> list[dict[str, Any]]:
    """Return the tools of an assistant or run, or none.

    Raises:
        Fault: 400, one has no known type (v1's `retrieval` among them).
    """
    if tools is None:
        return []
    if not isinstance(tools, list):
        raise backend("Invalid type for 'tools': expected an array.", param="tools")
    for index, tool in enumerate(tools):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind not in TOOL_TYPES:
            param = f"tools[{index}].type"
            raise backend(
                f"Invalid value: '{kind}'. Supported values are: 'code_interpreter', 'function', "
                "and 'file_search'.",
                param=param,
                code="invalid_value",
            )
    return tools
