"""Server-sent events, listened to.

The tap reads a *copy* of the bytes that pass and gives back whole events; it alters nothing. Any
chunking gives the same events. Lines end in CR, LF or CRLF, a byte order mark at the start and
comments are skipped, several ``data:`` lines are one text, and an event that is not ended by a
blank line is none, as the standard says.

An event larger than `event_bytes_max` is passed over, not kept: the meter then misses one event,
which it can find out later by reading the object, while memory stays bounded.

Source: WHATWG HTML, section 9.2, "Server-sent events".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its name (empty if it has none) and its data."""

    name: str
    data: bytes


class EventTap:
    """Cuts a byte stream into events.

    `overflowed` becomes true once an event had to be passed over.
    """

    def __init__(self, *, event_bytes_max: int = 4 * 1024 * 1024) -> None:
        self._max = event_bytes_max
        self._head: bytes | None = b""
        self._after_carriage = False
        self._line_parts: list[bytes] = []
        self._line_size = 0
        self._name = ""
        self._data: list[bytes] = []
        self._data_size = 0
        self._skipping = False
        self.overflowed = False

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield every event that `chunk` completes."""
        if self._head is not None:
            self._head += chunk
            if len(self._head) < len(_BOM) and _BOM.startswith(self._head):
                return
            chunk, self._head = self._head.removeprefix(_BOM), None
        for line in self._lines(chunk):
            event = self._line(line)
            if event is not None:
                yield event

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        """Take every line that `chunk` completes. A CR ends one at once; an LF after it is its."""
        if self._after_carriage and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_carriage = False
        for part in chunk.splitlines(keepends=True):
            text = part.rstrip(b"\r\n")
            self._add_to_line(text)
            if len(text) < len(part):
                line, is_whole = b"".join(self._line_parts), self._line_size <= self._max
                self._line_parts.clear()
                self._line_size = 0
                if is_whole:
                    yield line
        if chunk:
            self._after_carriage = chunk.endswith(b"\r")

    def _add_to_line(self, text: bytes) -> None:
        self._line_size += len(text)
        if self._line_size > self._max:
            self._line_parts.clear()
            self._skip()
        else:
            self._line_parts.append(text)

    def _line(self, line: bytes) -> Event | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data" and not self._skipping:
            self._data.append(value)
            # An empty line counts too: it is a line feed of the data, and an entry of the list.
            self._data_size += len(value) + 1
            if self._data_size > self._max:
                self._skip()
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        return None

    def _skip(self) -> None:
        self._skipping = True
        self.overflowed = True
        self._data.clear()

    def _dispatch(self) -> Event | None:
        event = Event(self._name, b"\n".join(self._data)) if self._data else None
        self._name, self._data, self._data_size, self._skipping = "", [], 0, False
        return event
