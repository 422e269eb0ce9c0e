"""One dated change between two api-versions.

Azure publishes a version as a date, and now and then a version changes a shape. Each such change is
written down once, as two pure functions: the request from the older shape to the newer one, the
reply from the newer shape back. A client of any age is then served by walking its request up
through every change that lies between its version and the one we send, oldest first, and the reply
back through the same changes, newest first. Nobody ever writes a translation between two arbitrary
versions.

A *repair* is a change whose older shape belongs to no version at all: a shape that published
examples show although no version accepts it. It applies whatever version the client names.

INVARIANT: neither function alters what it is given, and a request already in the newer shape comes
back as it is. Replies are never refused: what a change does not understand, it lets through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Json: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True)
class Change:
    """What one version changed in some operations, both ways.

    `since` is the version that introduced it. `request` takes the operation and the body and may
    raise a Refusal; `reply` is None where replies are the same. `is_repair` makes it apply to
    every client, not only to those of an older version.
    """

    name: str
    since: str
    operations: frozenset[str]
    request: Callable[[str, Json], Json]
    reply: Callable[[Json], Json] | None = None
    is_repair: bool = False

    def applies(self, *, client: str, sent: str) -> bool:
        """Whether it lies on the way up from the version `client` to the version `sent`."""
        is_behind = self.is_repair or day(client) < day(self.since)
        return is_behind and day(self.since) <= day(sent)

    def is_undone(self, *, client: str, sent: str) -> bool:
        """Whether the way from `client` to `sent` leads down past it, where no walk exists."""
        return not self.is_repair and day(sent) < day(self.since) <= day(client)


def day(version: str) -> str:
    """Return the date of a dated version, which is what versions are ordered by."""
    return version[:10]
