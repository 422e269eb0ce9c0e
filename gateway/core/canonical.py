"""JSON bodies: one strict reading, written again by ourselves.

JSON parsers disagree about duplicate keys, non-finite numbers, byte order marks and other
encodings. What two parsers could read differently is refused here; everything after this point
sees one parsed document, and what goes upstream is that document written again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import jiter
import orjson

from gateway.core.errors import Code, Refusal

DEPTH_MAX = 64
_NESTED = frozenset({dict, list})
# A text that is not closed runs to the end. If it matched nothing, each quote in it would begin a
# search of its own, and the time would grow with the square of the body.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
NODES_MAX = 200_000
BRACKETS_MAX = 100_000


def parse_object(raw: bytes) -> dict[str, object]:
    """Return the JSON object that `raw` is.

    Raises:
        Refusal: it is no JSON, no object, or one that two parsers could read differently.
    """
    _count_brackets(raw)
    try:
        document = jiter.from_json(raw, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as fault:
        raise _refused(f"the body is no strict JSON: {_position_only(str(fault))}") from None
    if not isinstance(document, dict):
        raise _refused("the body must be a JSON object")
    _check(document)
    return document


def _count_brackets(raw: bytes) -> None:
    """Refuse a body of very many objects before it is parsed, which would take seconds and memory.

    Brackets within texts do not count; they are only looked for when there are very many in all.
    """
    if raw.count(b"{") + raw.count(b"[") <= BRACKETS_MAX:
        return
    bare = _STRING.sub(b"", raw)
    if bare.count(b"{") + bare.count(b"[") > BRACKETS_MAX:
        raise _refused(f"the body holds more than {BRACKETS_MAX} objects and lists")


def dump(document: object) -> bytes:
    """Return the bytes we send for a parsed document.

    Raises:
        Refusal: it holds an integer that does not fit 64 bits.
    """
    try:
        return orjson.dumps(document)
    except orjson.JSONEncodeError:
        raise _refused("the body holds an integer that does not fit 64 bits") from None


def has_nested(items: list[object]) -> bool:
    """Return whether a list holds objects or lists; one that does not holds no field at all.

    Lists of a hundred thousand numbers are common (tokens to embed), so this is one fast pass.
    """
    return not _NESTED.isdisjoint(map(type, items))


def _check(document: dict[str, object]) -> None:
    """Refuse what is too deep, too large or infinite (`1e400` parses to infinity)."""
    level: list[object] = [document]
    nodes = 0
    for _ in range(DEPTH_MAX):
        below: list[object] = []
        for node in level:
            if isinstance(node, dict):
                below.extend(node.values())
            elif isinstance(node, list):
                if has_nested(node):
                    below.extend(node)
                elif float in set(map(type, node)):
                    _check_finite(node)
            else:
                _check_finite((node,))
        nodes += len(below)
        if nodes > NODES_MAX:
            raise _refused(f"the body holds more than {NODES_MAX} fields and items")
        if not below:
            return
        level = below
    raise _refused(f"the body is nested deeper than {DEPTH_MAX} levels")


def _check_finite(values: Iterable[object]) -> None:
    if any(isinstance(value, float) and not math.isfinite(value) for value in values):
        raise _refused("the body holds a number that no double can hold")


def _position_only(fault: str) -> str:
    """Return a parser's complaint without the key or value it may quote."""
    kind = "a key is given twice" if "uplicate" in fault else "it cannot be parsed"
    _, mark, place = fault.rpartition(" at line ")
    return f"{kind}, at line {place}" if mark else kind


def _refused(message: str) -> Refusal:
    return Refusal(Code.INVALID_JSON, message, param="body", rule="json-not-strict")
