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
_EVENT_END_BYTES_MAX = 4
# What is larger passes as it came: it would have to be held back whole, and a meter reads no more.
_EVENT_BYTES_MAX = 4 * 1024 * 1024
_DOCUMENT_BYTES_MAX = 32 * 1024 * 1024

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
    """Alters a reply that is one JSON document; it is held back until it is whole, or too large."""

    def __init__(self, change: Change) -> None:
        self._change = change
        self._body: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> bytes:
        """Hold the piece back; from 32 MiB on everything passes as it came."""
        self._body.append(chunk)
        self._size += len(chunk)
        if self._size <= _DOCUMENT_BYTES_MAX:
            return b""
        passed = b"".join(self._body)
        self._body.clear()
        return passed

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

    An event passes byte for byte unless it changed, or is larger than 4 MiB. Lines end in LF, CRLF
    or CR.
    """

    def __init__(self, change: Callable[[bytes], bytes | None]) -> None:
        self._change = change
        self._rest = b""
        self._is_huge = False
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
            event = text[start : found.end()]
            if not self._is_huge and len(event) <= _EVENT_BYTES_MAX:
                event = self._event(event)
            self._is_huge = False
            passed.append(event)
            start = found.end()
            if start == len(text) and text.endswith(b"\r"):
                self._open_end = b"\n" if event else b""
        if self._is_huge or len(text) - start > _EVENT_BYTES_MAX:
            # The rest goes on at once, but for what may be the beginning of its end.
            self._is_huge = True
            kept = max(len(text) - _EVENT_END_BYTES_MAX, start)
            passed.append(text[start:kept])
            start = kept
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
