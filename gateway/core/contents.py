"""What a request may bring to be read: kinds of messages, items and parts, each on a list.

New kinds appear at Azure without notice, and each may carry bytes that nobody judged (a generated
picture handed back), make Azure fetch something (a video's address), name an object by an id that
no registry knows, or smuggle in tools behind the list of tools. So a kind that is not listed here
is refused, wherever it stands; the text of a listed one is nobody's business.

An item of an earlier reply may be handed back whole. By its id alone it would be looked up at
Azure, past the registry; so what makes it whole is required of each kind.

Source: OpenAI API specification of August 2026, input items and content parts; Azure OpenAI v1
specification of February 2026; Assistants v2, message content.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.core.errors import Code, Refusal
from gateway.core.operations import Bills

_TEXT = frozenset({"type", "text", "annotations", "logprobs", "cache_control"})
_REFUSED = frozenset({"type", "refusal"})
# By kind, the fields a part may have.
_MESSAGE_PARTS: Mapping[str, frozenset[str]] = {
    "text": _TEXT,
    "refusal": _REFUSED,
    "image_url": frozenset({"type", "image_url"}),
    "image_file": frozenset({"type", "image_file"}),
    "file": frozenset({"type", "file"}),
}
_ITEM_PARTS: Mapping[str, frozenset[str]] = {
    "text": _TEXT,
    "input_text": _TEXT,
    "output_text": _TEXT,
    "summary_text": _TEXT,
    "reasoning_text": _TEXT,
    "refusal": _REFUSED,
    "input_image": frozenset({"type", "image_url", "file_id", "detail"}),
    "input_file": frozenset({"type", "file_id", "filename", "detail"}),
}
# By kind, what makes an item whole, so that nothing is left to be looked up by its id.
_ITEMS: Mapping[str, tuple[str, ...]] = {
    "message": ("role", "content"),
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id", "output"),
    "custom_tool_call": ("call_id", "name", "input"),
    "custom_tool_call_output": ("call_id", "output"),
    "code_interpreter_call": ("container_id", "code"),
    "file_search_call": ("queries",),
    "reasoning": (),
}
_WITH_PARTS = ("content", "output", "summary")
_RESOURCES = frozenset({"code_interpreter", "file_search"})


def check_contents(bills: Bills, body: Mapping[str, object]) -> None:
    """Refuse messages, items, parts and tool resources of kinds that are not listed.

    Raises:
        Refusal: there is one; the message names where, and what is known.
    """
    thread = body.get("thread")
    for where, holder in (("", body), ("thread.", thread)):
        if isinstance(holder, Mapping):
            _check_holder(where, holder)
    if bills is Bills.RESPONSE:
        _check_items("input", body.get("input"))
        _check_items("instructions", body.get("instructions"))
    _check_items("items", body.get("items"))


def _check_holder(where: str, holder: Mapping[str, object]) -> None:
    _check_resources(f"{where}tool_resources", holder.get("tool_resources"))
    _check_parts(f"{where}content", holder.get("content"), _MESSAGE_PARTS)
    for name in ("messages", "additional_messages"):
        messages = holder.get(name)
        for index, message in enumerate(messages if isinstance(messages, list) else ()):
            place = f"{where}{name}[{index}]"
            if not isinstance(message, Mapping):
                raise _no_object(place)
            if message.get("audio") is not None:
                raise _unlisted(f"{place}.audio", "audio", _MESSAGE_PARTS)
            _check_parts(f"{place}.content", message.get("content"), _MESSAGE_PARTS)


def _check_items(where: str, items: object) -> None:
    for index, item in enumerate(items if isinstance(items, list) else ()):
        place = f"{where}[{index}]"
        if not isinstance(item, Mapping):
            raise _no_object(place)
        kind = item.get("type")
        if kind is None and "role" in item:
            kind = "message"
        if kind == "item_reference" or (kind is None and "id" in item):
            raise _reference(place)
        if not isinstance(kind, str) or kind not in _ITEMS:
            raise _unlisted(place, kind, _ITEMS)
        missing = [name for name in _ITEMS[kind] if item.get(name) is None]
        # Code that was not shown is null in the item that Azure itself gave.
        if missing and not (missing == ["code"] and "code" in item):
            raise _reference(place)
        for name in _WITH_PARTS:
            _check_parts(f"{place}.{name}", item.get(name), _ITEM_PARTS)
        _check_outputs(f"{place}.outputs", item.get("outputs"))


def _check_parts(where: str, parts: object, known: Mapping[str, frozenset[str]]) -> None:
    for index, part in enumerate(parts if isinstance(parts, list) else ()):
        place = f"{where}[{index}]"
        if not isinstance(part, Mapping):
            raise _no_object(place)
        kind = part.get("type")
        if not isinstance(kind, str) or kind not in known:
            raise _unlisted(place, kind, known)
        for name, value in part.items():
            if name not in known[kind] and value is not None:
                raise Refusal(
                    Code.NOT_PERMITTED,
                    f"`{place[:100]}` of type `{kind}` may not have `{name[:64]}` (rule "
                    f"`content-not-listed`); it may have {_quoted(known[kind])}",
                    param=f"{place}.{name}"[:120],
                    rule="content-not-listed",
                )


def _check_outputs(where: str, outputs: object) -> None:
    """What the interpreter printed may be handed back; its pictures are addresses to fetch."""
    for index, output in enumerate(outputs if isinstance(outputs, list) else ()):
        kind = output.get("type") if isinstance(output, Mapping) else None
        if kind != "logs":
            raise _unlisted(f"{where}[{index}]", kind, ("logs",))


def _check_resources(where: str, resources: object) -> None:
    for name in _names_of(resources):
        if name not in _RESOURCES:
            raise _unlisted(f"{where}.{name}", name, _RESOURCES)


def _names_of(resources: object) -> Iterator[str]:
    if isinstance(resources, Mapping):
        yield from (str(name) for name, value in resources.items() if value is not None)


def _quoted(names: Mapping[str, object] | frozenset[str] | tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _unlisted(
    place: str, kind: object, known: Mapping[str, object] | frozenset[str] | tuple[str, ...]
) -> Refusal:
    shown = f"`{kind[:64]}`" if isinstance(kind, str) and kind else "no type"
    return Refusal(
        Code.NOT_PERMITTED,
        f"`{place[:120]}` is of a kind this gateway does not know, {shown} (rule "
        f"`content-not-listed`); known: {_quoted(known)}",
        param=place[:120],
        rule="content-not-listed",
    )


def _reference(place: str) -> Refusal:
    return Refusal(
        Code.NOT_PERMITTED,
        f"`{place[:120]}` names an earlier item by its id (rule `item-reference`); hand it back "
        "whole, or use `previous_response_id` or `conversation`",
        param=place[:120],
        rule="item-reference",
    )


def _no_object(place: str) -> Refusal:
    return Refusal(Code.MALFORMED_REQUEST, f"`{place[:120]}` must be an object", param=place[:120])
