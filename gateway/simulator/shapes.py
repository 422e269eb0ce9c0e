"""What type each property of a JSON body has, wherever it stands.

One table serves all operations, because a property's name says its type nearly everywhere; where
two operations differ, the table has both. What users may fill as they like (`metadata`, a
function's `parameters`, …) is not looked into. `null` stands for an absent property.

Source: Azure OpenAI inference specification 2025-03-01-preview and `/openai/v1` specification;
the words are those of the service.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.simulator.errors import Fault, backend


@dataclass(frozen=True, slots=True)
class Shape:
    """The types a value may have; those of a list's items in `items`, None if any will do."""

    types: tuple[type, ...]
    items: tuple[type, ...] | None = None
    closed: bool = False

    def accepts(self, value: object) -> bool:
        """Whether the value itself, not what it holds, has one of the types."""
        # In Python a bool is an int, in JSON it is not.
        if isinstance(value, bool):
            return bool in self.types
        return isinstance(value, self.types)


_TEXT = Shape((str,))
_NUMBER = Shape((int, float))
_WHOLE = Shape((int,))
_FLAG = Shape((bool,))
_OBJECT = Shape((dict,))
_OBJECTS = Shape((list,), items=(dict,))
_TEXTS = Shape((list,), items=(str,))
_TEXT_OR_OBJECT = Shape((str, dict))
_TEXT_OR_OBJECTS = Shape((str, list), items=(dict,))
_FREE = Shape((dict,), closed=True)

SHAPES: Mapping[str, Shape] = {
    **dict.fromkeys(
        (
            "additional_instructions",
            "arguments",
            "assistant_id",
            "completion_window",
            "description",
            "encoding_format",
            "endpoint",
            "file_id",
            "filename",
            "input_file_id",
            "instructions",
            "md5",
            "mime_type",
            "name",
            "previous_response_id",
            "purpose",
            "role",
            "tool_call_id",
            "type",
            "url",
            "user",
        ),
        _TEXT,
    ),
    **dict.fromkeys(("temperature", "top_p", "frequency_penalty", "presence_penalty"), _NUMBER),
    **dict.fromkeys(
        (
            "bytes",
            "days",
            "dimensions",
            "max_completion_tokens",
            "max_num_results",
            "max_output_tokens",
            "max_prompt_tokens",
            "max_tokens",
            "minutes",
            "n",
        ),
        _WHOLE,
    ),
    **dict.fromkeys(
        ("background", "include_usage", "parallel_tool_calls", "store", "stream"), _FLAG
    ),
    **dict.fromkeys(
        (
            "chunking_strategy",
            "code_interpreter",
            "expires_after",
            "file_search",
            "image_file",
            "reasoning",
            "stream_options",
            "thread",
            "tool_resources",
            "truncation_strategy",
        ),
        _OBJECT,
    ),
    **dict.fromkeys(
        (
            "additional_messages",
            "attachments",
            "items",
            "messages",
            "tool_outputs",
            "tools",
            "vector_stores",
        ),
        _OBJECTS,
    ),
    **dict.fromkeys(("file_ids", "include", "part_ids", "vector_store_ids"), _TEXTS),
    **dict.fromkeys(
        ("container", "conversation", "response_format", "text", "tool_choice"), _TEXT_OR_OBJECT
    ),
    "content": _TEXT_OR_OBJECTS,
    "output": _TEXT_OR_OBJECTS,
    "function": _OBJECT,
    # Embeddings take texts, tokens and lists of tokens; Responses items.
    "input": Shape((str, list), items=(str, int, list, dict)),
    "prompt": Shape((str, list), items=(str, int, list)),
    "query": Shape((str, list), items=(str,)),
    "metadata": _FREE,
    "attributes": _FREE,
    "parameters": _FREE,
    "schema": _FREE,
}
_NAMES: Mapping[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "a boolean",
    dict: "an object",
    list: "an array",
    type(None): "null",
}


def check_shapes(body: Mapping[str, object]) -> None:
    """Accept a body whose known properties have the types they must have.

    Raises:
        Fault: 400 that names the first one that has not, by its path.
    """
    _check_object(body, "")


def _check_object(body: Mapping[str, object], path: str) -> None:
    for name, value in body.items():
        shape = SHAPES.get(name)
        where = f"{path}.{name}" if path else name
        if value is None:
            continue
        if shape is not None and not shape.accepts(value):
            raise _invalid(where, shape.types, value)
        if shape is None or not shape.closed:
            _check_inside(value, where, shape)


def _check_inside(value: object, where: str, shape: Shape | None) -> None:
    if isinstance(value, dict):
        _check_object(value, where)
    for index, item in enumerate(value if isinstance(value, list) else []):
        place = f"{where}[{index}]"
        wanted = shape.items if shape is not None else None
        if wanted is not None and (isinstance(item, bool) or not isinstance(item, wanted)):
            raise _invalid(place, wanted, item)
        if isinstance(item, dict):
            _check_object(item, place)


def _invalid(where: str, wanted: tuple[type, ...], given: object) -> Fault:
    names = " or ".join(_NAMES[kind] for kind in wanted)
    expected = names if len(wanted) == 1 else f"one of {names}"
    message = f"Invalid type for '{where}': expected {expected}, but got {_NAMES[type(given)]}."
    return backend(message, param=where, code="invalid_type")
