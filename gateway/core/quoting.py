"""The quote: the most a request can cost, so that a cap can be held before the money is spent.

Input is bounded by bytes (a token is at least one byte) plus a flat bound per picture, and by the
model's limit. Output is bounded by what the request allows, else by the model's limit, times the
number of answers. Where Azure adds what we cannot see (earlier turns of a thread, the results of
tools), the model's limit is taken once: a run that calls the model several times can exceed it,
which no gateway can prevent; sessions are bounded exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.core.canonical import has_nested
from gateway.core.errors import Code, Refusal
from gateway.core.interpreter import SessionBound
from gateway.core.ledger import QuoteLine
from gateway.core.model import Meter, Usage
from gateway.core.operations import Bills
from gateway.core.rating import Price, PriceBook

_PICTURE_TOKENS_MAX = 50_000
_ANSWERS_MAX = 128
_PROMPT_LIMITS = ("max_prompt_tokens",)
_OUTPUT_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
# The limits that Azure keeps. One that belongs to another operation bounds nothing.
_KEPT: Mapping[Bills, frozenset[str]] = {
    Bills.CHAT: frozenset({"max_completion_tokens", "max_tokens"}),
    Bills.RUN: frozenset({"max_prompt_tokens", "max_completion_tokens"}),
    Bills.RESPONSE: frozenset({"max_output_tokens"}),
}


def bound_usage(
    bills: Bills, body: Mapping[str, object], *, body_bytes: int, price: Price
) -> Usage:
    """Return the most tokens the request can come to.

    Raises:
        Refusal: a limit in the body is no positive whole number.
    """
    if bills is Bills.EMBEDDINGS:
        return Usage(body_bytes, 0, 0)
    unseen = bills is Bills.RUN or _names_file(body)
    unseen = unseen or (bills is Bills.RESPONSE and _has_context(body))
    kept = _KEPT.get(bills, frozenset())
    prompt_max = _limit(body, _PROMPT_LIMITS, kept=kept)
    if prompt_max is None:
        pictures = _count_pictures(body) * _PICTURE_TOKENS_MAX
        visible = min(body_bytes + pictures, price.input_tokens_max)
        prompt_max = price.input_tokens_max if unseen else visible
    output_max = _limit(body, _OUTPUT_LIMITS, kept=kept)
    if output_max is None:
        output_max = price.output_tokens_max
    return Usage(prompt_max, 0, output_max * _answers(body))


def token_lines(book: PriceBook, price: Price, kind: str, usage: Usage) -> tuple[QuoteLine, ...]:
    """Return the quote's token lines."""
    return tuple(
        QuoteLine(line.meter, line.quantity, line.nano_usd, line.price_id)
        for line in book.rate(price, kind, usage)
    )


def session_lines(bounds: Sequence[SessionBound]) -> tuple[QuoteLine, ...]:
    """Return the quote's line for sessions, none if no session can open or become dearer.

    One whose sessions are all open already has quantity 0: by the minute they may cost more.
    """
    sessions, nano_usd = (
        sum(bound.sessions for bound in bounds),
        sum(bound.nano_usd for bound in bounds),
    )
    if not sessions and not nano_usd:
        return ()
    dearest = max(bounds, key=lambda bound: (bound.sessions, bound.nano_usd))
    meter = Meter.CODE_INTERPRETER_SESSION
    return (QuoteLine(meter, sessions, nano_usd, dearest.price_id),)


def _has_context(body: Mapping[str, object]) -> bool:
    return bool(body.get("previous_response_id") or body.get("conversation") or body.get("tools"))


def _names_file(node: object) -> bool:
    """Return whether a document that we do not see goes into the prompt."""
    if isinstance(node, Mapping):
        if node.get("type") in ("input_file", "file"):
            return True
        return any(_names_file(value) for value in node.values())
    if not isinstance(node, list) or not has_nested(node):
        return False
    return any(_names_file(value) for value in node)


def _answers(body: Mapping[str, object]) -> int:
    answers = _limit(body, ("n",), kept=frozenset({"n"}))
    if answers is None:
        return 1
    if answers > _ANSWERS_MAX:
        raise Refusal(
            Code.MALFORMED_REQUEST, f"`n` is `{answers}`, at most {_ANSWERS_MAX}", param="n"
        )
    return answers


def _limit(
    body: Mapping[str, object], names: tuple[str, ...], *, kept: frozenset[str]
) -> int | None:
    """Return the highest of the limits that are kept; every one must be a sane number."""
    limits = []
    for name in names:
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 31:
            raise Refusal(
                Code.MALFORMED_REQUEST, f"`{name}` must be a positive whole number", param=name
            )
        if name in kept:
            limits.append(value)
    return max(limits, default=None)


def _count_pictures(node: object) -> int:
    if isinstance(node, Mapping):
        own = 1 if ("image_url" in node or "image_file" in node or "file_id" in node) else 0
        return own + sum(_count_pictures(value) for value in node.values())
    if isinstance(node, list) and has_nested(node):
        return sum(_count_pictures(value) for value in node)
    return 0
