"""The journal: every request received, in order, with what a test wants to know about it."""

from collections import deque
from collections.abc import Iterator
from itertools import count
from typing import Any

import orjson

from gateway.simulator.errors import Fault
from gateway.simulator.exchange import Received
from gateway.simulator.forms import Part, read_form

ENTRIES_MAX = 20_000
_CREDENTIALS = frozenset({"api-key", "authorization", "ocp-apim-subscription-key", "cookie"})


class Journal:
    """The last 20,000 requests; credentials are judged and never kept."""

    def __init__(self) -> None:
        self._entries: deque[dict[str, Any]] = deque(maxlen=ENTRIES_MAX)
        self._numbers: Iterator[int] = count(1)

    def enter(self, received: Received, *, is_right: bool) -> dict[str, Any]:
        """Write down a request and return the entry, which its outcome is added to.

        `is_right` says whether its credentials were. `fault` names what was done to the exchange
        on demand, `worked` says whether the operation was carried out.
        """
        shown = "present" if is_right else "wrong"
        headers = [
            [name, shown if name in _CREDENTIALS else value] for name, value in received.headers
        ]
        entry = {
            "n": next(self._numbers),
            "method": received.method,
            "target": received.target,
            "headers": headers,
            "body_sha256": received.body_sha256,
            "body_bytes": len(received.body),
            "json": _json_of(received),
            "form": _form_of(received),
            "fault": None,
            "worked": False,
        }
        self._entries.append(entry)
        return entry

    def after(self, number: int) -> list[dict[str, Any]]:
        """Return the entries whose number is greater than `number`, oldest first."""
        return [entry for entry in self._entries if entry["n"] > number]


def _json_of(received: Received) -> object:
    if received.content_type.lower().startswith("multipart/"):
        return None
    try:
        return orjson.loads(received.body)
    except orjson.JSONDecodeError:
        return None


def _form_of(received: Received) -> list[dict[str, Any]] | None:
    if not received.content_type.lower().startswith("multipart/"):
        return None
    try:
        parts = read_form(received.content_type, received.body)
    except Fault:
        return None
    return [_part(part) for part in parts]


def _part(part: Part) -> dict[str, Any]:
    return {
        "name": part.name,
        "filename": part.filename,
        "content_type": part.content_type,
        "bytes": len(part.content),
        "sha256": part.sha256,
    }
