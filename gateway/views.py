"""Views: what alters a reply on its way back. A view never counts; a meter never alters.

Two things are altered. A client that speaks an older api-version gets its own shapes back. And a
chat stream in which we asked for the usage, because nothing else tells what it cost, loses the
one chunk that the client did not ask for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

import jiter
import orjson

# The group is atomic: a CRLF is one end of a line and never two.
_EVENT_END = re.compile(rb"(?>\r\n|\n|\r){2}")

Change = Callable[[dict[str, object]], dict[str, object]]


class View(Protocol):
    """Alters a reply, piece by piece."""

    def feed(self, chunk: bytes) -> bytes:
        """Return what of the reply may go on now."""
        ...

    def end(self) -> bytes:
        """Return what was still held back."""
        ...


class DocumentView:
    """Alters a reply that is one JSON document; it is held back until it is whole."""

    def __init__(self, change: Change) -> None:
        self._change = change
        self._body: list[bytes] = []

    def feed(self, chunk: bytes) -> bytes:
        """Hold the piece back."""
        self._body.append(chunk)
        return b""

    def end(self) -> bytes:
        """Return the altered document; what is no JSON object passes as it came."""
        body = b"".join(self._body)
        try:
            document = jiter.from_json(body)
        except ValueError:
            return body
        return orjson.dumps(self._change(document)) if isinstance(document, dict) else body


class StreamView:
    """Alters the events of a stream. `change` may return None to drop an event.

    An event passes byte for byte unless it changed. Lines end in LF, CRLF or CR.
    """

    def __init__(self, change: Callable[[bytes], bytes | None]) -> None:
        self._change = change
        self._rest = b""
        self._open_end: bytes | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Return every event that is complete now, altered."""
        passed = []
        if self._open_end is not None and chunk:
            # The event before ended in CR: an LF right behind it is its, and shares its lot.
            if chunk.startswith(b"\n"):
                passed.append(self._open_end)
                chunk = chunk[1:]
            self._open_end = None
        # What was searched before is not searched again, but for an end that had only begun.
        text, start, place = self._rest + chunk, 0, max(len(self._rest) - 2, 0)
        for found in _EVENT_END.finditer(text, place):
            event = self._event(text[start : found.end()])
            passed.append(event)
            start = found.end()
            if start == len(text) and text.endswith(b"\r"):
                self._open_end = b"\n" if event else b""
        self._rest = text[start:]
        return b"".join(passed)

    def end(self) -> bytes:
        """Return an event that was never completed, as it came."""
        rest, self._rest = self._rest, b""
        return rest

    def _event(self, event: bytes) -> bytes:
        lines = event.splitlines(keepends=True)
        for index, line in enumerate(lines):
            if line.startswith(b"data:"):
                text = line.rstrip(b"\r\n")
                data = text[5:].strip()
                changed = self._change(data)
                if changed is None:
                    return b""
                if changed != data:
                    lines[index] = b"data: " + changed + line[len(text) :]
        return b"".join(lines)


def hide_usage(data: bytes) -> bytes | None:
    """Return a chat chunk as it came, or None for the one that carries only the usage."""
    if b'"usage"' not in data:
        return data
    try:
        document = jiter.from_json(data)
    except ValueError:
        return data
    only_usage = (
        isinstance(document, dict) and document.get("choices") == [] and bool(document.get("usage"))
    )
    return None if only_usage else data


def change_data(change: Change) -> Callable[[bytes], bytes | None]:
    """Return a change of events that alters each JSON object in a stream."""

    def changed(data: bytes) -> bytes:
        try:
            document = jiter.from_json(data)
        except ValueError:
            return data
        if not isinstance(document, dict):
            return data
        after = change(document)
        return data if after == document else orjson.dumps(after)

    return changed
