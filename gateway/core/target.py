"""The request target: one canonical reading, or none.

A path that could be read in two ways is refused, not normalised: percent signs, dots, empty
segments, semicolons and backslashes are where routers, proxies and servers disagree. What is left
is a list of plain segments. One kindness: an endpoint pasted with its trailing slash makes SDKs
ask for ``//openai/…``; exactly that one leading slash is taken off.

The query is decoded once, key by key, and later written again from what was decoded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from gateway.core.errors import Code, Refusal

_SEGMENT = re.compile(r"[A-Za-z0-9_~-](?:[A-Za-z0-9._~-]*[A-Za-z0-9_~-])?")
_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_QUERY_PAIRS_MAX = 32


@dataclass(frozen=True, slots=True)
class Target:
    """The segments of the path and the pairs of the query, decoded, in the order they came."""

    segments: tuple[str, ...]
    query: tuple[tuple[str, str], ...]


def parse_target(raw: bytes) -> Target:
    """Return the canonical reading of a raw request target.

    Raises:
        Refusal: the target is not canonical; the message says where.
    """
    path, mark, query = raw.partition(b"?")
    return Target(_segments(path), _pairs(query) if mark else ())


def render_query(pairs: tuple[tuple[str, str], ...]) -> str:
    """Return the query as we send it: every byte outside the unreserved ones is escaped."""
    return "&".join(f"{quote(key, safe='[]')}={quote(value, safe='')}" for key, value in pairs)


def _segments(path: bytes) -> tuple[str, ...]:
    try:
        text = path.decode("ascii")
    except UnicodeDecodeError:
        raise _refused("it holds bytes outside ASCII") from None
    if text.startswith("//openai/"):
        text = text[1:]
    if not text.startswith("/"):
        raise _refused("it does not begin with `/`")
    segments = tuple(text[1:].split("/"))
    for segment in segments:
        if _SEGMENT.fullmatch(segment) is None:
            raise _refused(
                "a segment is empty, or holds more than letters, digits, `-`, `_`, `~` "
                "and dots in its middle"
            )
    return segments


def _pairs(query: bytes) -> tuple[tuple[str, str], ...]:
    if not query:
        return ()
    parts = query.split(b"&")
    if len(parts) > _QUERY_PAIRS_MAX:
        raise _refused(f"the query has more than {_QUERY_PAIRS_MAX} parameters", param="query")
    return tuple(_pair(part) for part in parts)


def _pair(part: bytes) -> tuple[str, str]:
    key, mark, value = part.partition(b"=")
    if not mark or not key:
        raise _refused("a query parameter is not `name=value`", param="query")
    return _decoded(key), _decoded(value)


def _decoded(raw: bytes) -> str:
    if _ESCAPE.search(raw):
        raise _refused("a `%` in the query is not followed by two hex digits", param="query")
    try:
        text = unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        raise _refused("the query is not UTF-8", param="query") from None
    if not text.isprintable():
        raise _refused("the query holds a control character", param="query")
    return text


def _refused(why: str, *, param: str = "path") -> Refusal:
    return Refusal(
        Code.MALFORMED_REQUEST,
        f"the request target is not in canonical form: {why}",
        param=param,
        rule="target-not-canonical",
    )
