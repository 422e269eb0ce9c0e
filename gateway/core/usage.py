"""Usage: the token counts in Azure's replies, brought to one disjoint form.

Azure says the same thing in three shapes. Chat completions: ``prompt_tokens`` with
``prompt_tokens_details.cached_tokens`` inside it. Assistants runs: the same, but the detail is
called ``prompt_token_details``, singular. Responses: ``input_tokens`` with
``input_tokens_details``. Output counts include reasoning in all three.

A shape that cannot be read is ``None``, never zero: zero is a statement, and somebody would
believe it.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.model import Usage

_INPUT = ("prompt_tokens", "input_tokens")
_OUTPUT = ("completion_tokens", "output_tokens")
# More than any work can come to: a count above it was misread, and would not fit the ledger.
_COUNT_MAX = 1 << 40
_DETAILS = ("prompt_tokens_details", "prompt_token_details", "input_tokens_details")


def read_usage(document: object) -> Usage | None:
    """Return the disjoint counts of a ``usage`` object, or None if it cannot be read.

    Embeddings have no output counter: theirs is 0.
    """
    if not isinstance(document, Mapping):
        return None
    total = _count(document, _INPUT)
    if total is None:
        return None
    output = _count(document, _OUTPUT)
    if output is None:
        if any(name in document for name in _OUTPUT):
            return None
        output = 0
    cached = _cached(document)
    if cached is None or cached > total:
        return None
    return Usage(input_tokens=total - cached, cached_input_tokens=cached, output_tokens=output)


def _count(document: Mapping[str, object], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = document.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _COUNT_MAX:
            return value
    return None


def _cached(document: Mapping[str, object]) -> int | None:
    for name in _DETAILS:
        details = document.get(name)
        if details is None:
            continue
        if not isinstance(details, Mapping):
            return None
        if details.get("cached_tokens") is None:
            return 0
        return _count(details, ("cached_tokens",))
    return 0
