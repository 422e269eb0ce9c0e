"""The walk of a request up to the version sent, and of its reply back down.

Both are pure and follow `Route.changes`: requests oldest change first, replies newest first. With
no change on the way, what went in comes out, the very same object.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.versions.change import Json
from gateway.core.versions.policy import Route


def upgrade(route: Route, operation: str, body: Json | None) -> Json | None:
    """Return the request's body in the shape of the version sent; `body` itself is not altered.

    Raises:
        Refusal: what the body says cannot be expressed in that shape, or is ambiguous.
    """
    if body is None:
        return None
    for change in route.changes:
        if operation in change.operations:
            body = change.request(operation, body)
    return body


def downgrade(route: Route, operation: str, document: Json) -> Json:
    """Return one reply document in the shape the client speaks; `document` is not altered.

    A document is an object, a list envelope, or the data of one streamed event; errors and unknown
    objects come back as they are. Never raises.
    """
    replies = [
        change.reply
        for change in reversed(route.changes)
        if change.reply is not None and operation in change.operations
    ]
    if not replies:
        return document
    data = document.get("data")
    if document.get("object") != "list" or not isinstance(data, list):
        return _walked_back(replies, document)
    walked = [_walked_back(replies, item) if isinstance(item, dict) else item for item in data]
    return {**document, "data": walked}


def alters_replies(route: Route) -> bool:
    """Return whether `downgrade` may alter a reply; if not, replies can flow through unread."""
    return any(change.reply is not None for change in route.changes)


def _walked_back(replies: list[Callable[[Json], Json]], document: Json) -> Json:
    for reply in replies:
        document = reply(document)
    return document
