"""Proof that a picture is one: a walk through its blocks, from the first byte to the end marker.

PNG, JPEG and GIF are chains of blocks that say how long they are. A walk is a generator that asks
for what it needs next, so many bytes, or to be passed over so many, and `PictureProver` feeds it
from chunks of any size while holding almost nothing. Pixels are not decoded.

What follows the end marker is a rule of its own: phones append a short film or a depth map to a
photo, which passes; an archive, a program or a document behind a picture does not.

Source: W3C PNG 3rd edition, section 5; ITU T.81 annex B (JPEG); GIF89a, appendix A.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass

from gateway.core.proof import TAIL_BYTES, Disproved, Rule

STEPS_MAX = 4_000_000
"""How many steps a walk may take, some seconds' worth: hostile blocks can be two bytes short."""

_FOREIGN = (b"PK", b"MZ", b"\x7fELF", b"Rar!", b"7z\xbc\xaf", b"%PDF-", b"<?", b"#!", b"\x1f\x8b")


@dataclass(frozen=True, slots=True)
class _Take:
    """Ask for exactly so many bytes."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Skip:
    """Ask for so many bytes to be passed over."""

    size_bytes: int


class _Marker:
    """Ask for the next JPEG marker; compressed data lies before it, where 0xFF is stuffed."""


_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
Walk = Generator[_Take | _Skip | _Marker, bytes, None]
_Steps = Generator[_Take | _Skip | _Marker, bytes, int]


class PictureProver:
    """Walks an image's blocks to its end marker, then looks at what follows."""

    def __init__(self, walk: Callable[[], Walk], *, may_trail: bool) -> None:
        self._walk = walk()
        self._wish: _Take | _Skip | _Marker | None = next(self._walk)
        self._skipped_bytes = 0
        self._steps = 0
        self._held = b""
        self._may_trail = may_trail
        self._trailing_head = b""
        self._trailing_tail = b""

    def feed(self, chunk: bytes) -> None:
        data, at = self._held + chunk, 0
        while self._wish is not None:
            step = self._step(data, at)
            if step is None:
                break
            at, answer = step
            self._advance(answer)
        self._held = data[at:]
        if self._wish is None:
            self._trail(self._held)
            self._held = b""
        elif not isinstance(self._wish, _Take):
            self._held = self._pass_over(self._held)

    def end(self) -> None:
        if self._wish is not None:
            raise Disproved("it is cut off before its end marker")
        if not self._trailing_head:
            return
        if not self._may_trail or _is_foreign(self._trailing_head, self._trailing_tail):
            raise Disproved("data follows the end of the picture", Rule.TRAILING_DATA)

    def _step(self, data: bytes, at: int) -> tuple[int, bytes] | None:
        """Return where the wish leads and what it gives, or None if `data` is too short for it."""
        match self._wish:
            case _Take(size_bytes):
                end = at + size_bytes
                return (end, data[at:end]) if end <= len(data) else None
            case _Skip(size_bytes):
                end = at + size_bytes - self._skipped_bytes
                return (end, b"") if end <= len(data) else None
            case _:
                found = _MARKER.search(data, at)
                return (found.end(), found[0][1:]) if found else None

    def _advance(self, answer: bytes) -> None:
        self._skipped_bytes = 0
        self._steps += 1
        if self._steps > STEPS_MAX:
            raise Disproved("it is built of more blocks than a picture needs")
        try:
            self._wish = self._walk.send(answer)
        except StopIteration:
            self._wish = None

    def _pass_over(self, data: bytes) -> bytes:
        """Forget bytes that are only skipped, so that a block of any size costs no memory."""
        if isinstance(self._wish, _Skip):
            self._skipped_bytes += len(data)
            return b""
        return b"\xff" if data.endswith(b"\xff") else b""

    def _trail(self, data: bytes) -> None:
        if not self._trailing_head:
            data = data.lstrip(b"\0")
        if len(self._trailing_head) < 8:
            self._trailing_head += data[:8]
        self._trailing_tail = (self._trailing_tail + data)[-TAIL_BYTES:]


def _is_foreign(head: bytes, tail: bytes) -> bool:
    """Whether what follows a picture is an archive, a program or a document.

    Phones append their own data to photos (a short film, a depth map), which passes.
    """
    return head.startswith(_FOREIGN) or b"PK\x05\x06" in tail


def png_walk() -> Walk:
    if (yield _Take(8)) != b"\x89PNG\r\n\x1a\n":
        raise Disproved("it does not begin as a PNG does")
    kind, is_first = b"", True
    while kind != b"IEND":
        head = yield _Take(8)
        kind, size_bytes = head[4:], int.from_bytes(head[:4], "big")
        if is_first != (kind == b"IHDR") or not kind.isalpha():
            raise Disproved("it is not built of PNG chunks")
        yield _Skip(size_bytes + len(b"CRC4"))
        is_first = False


def jpeg_walk() -> Walk:
    if (yield _Take(2)) != b"\xff\xd8":
        raise Disproved("it does not begin as a JPEG does")
    has_scan = False
    marker = yield from _jpeg_marker()
    while marker != 0xD9:
        size_bytes = int.from_bytes((yield _Take(2)), "big")
        if size_bytes < 2 or not 0xC0 <= marker <= 0xFE or 0xD0 <= marker <= 0xD8:
            raise Disproved("it is not built of JPEG segments")
        yield _Skip(size_bytes - 2)
        is_scan = marker == 0xDA
        has_scan = has_scan or is_scan
        marker = yield from (_jpeg_marker_after_scan() if is_scan else _jpeg_marker())
    if not has_scan:
        raise Disproved("it is a JPEG without a picture")


def _jpeg_marker() -> _Steps:
    if (yield _Take(1)) != b"\xff":
        raise Disproved("it is not built of JPEG segments")
    code = b"\xff"
    while code == b"\xff":
        code = yield _Take(1)
    return code[0]


def _jpeg_marker_after_scan() -> _Steps:
    """Pass over compressed data, where 0xFF is stuffed with a zero or restarts the decoder."""
    return (yield _Marker())[0]


def gif_walk() -> Walk:
    if (yield _Take(6)) not in {b"GIF87a", b"GIF89a"}:
        raise Disproved("it does not begin as a GIF does")
    yield _Skip(_gif_palette_bytes((yield _Take(7))[4]))
    while (kind := (yield _Take(1))) != b"\x3b":
        if kind == b"\x21":
            yield _Skip(1)
        elif kind == b"\x2c":
            yield _Skip(_gif_palette_bytes((yield _Take(9))[8]) + 1)
        else:
            raise Disproved("it is not built of GIF blocks")
        while size := (yield _Take(1))[0]:
            yield _Skip(size)


def _gif_palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0
