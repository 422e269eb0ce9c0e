"""Proof of content: the bytes are what the file's name says.

A name and a media type are claims; whoever wants to smuggle a program calls it `report.csv`. Each
permitted type therefore has a proof that looks at the bytes. A proof is structural: text must
decode strictly and hold no control characters (which no program survives), JSON and XML must
parse, an image is walked block by block from its first byte to its end marker. Signatures count
only where the format has them, so a picture that happens to hold the letters `PK` is still a
picture.

Everything here sees the content once, from front to back, in chunks of any size, and keeps only a
few bytes of it (JSON: up to `JSON_PARSED_BYTES_MAX`). Pictures and archives have rooms of their
own, `pictures` and `archives`.

What is left out: a proof says that the bytes are of the type, not that they are harmless. A macro
in a text, a script in a PDF, a hidden member of an archive inside an archive are for scanners.

Source: RFC 8259 (JSON); ISO 32000-1 section 7.5 and annex H (PDF: the end marker lies in the last
1024 bytes).
"""

from __future__ import annotations

import codecs
import re
from enum import StrEnum
from typing import Protocol
from xml.parsers import expat

import jiter

JSON_PARSED_BYTES_MAX = 2_097_152
"""Up to here a JSON text (or a line of JSON lines) is parsed; a longer one must be text, and begin
and end as JSON does. A parse of hostile JSON can take fifty times its size in memory."""

XML_TOKEN_BYTES_MAX = 1_048_576
"""The longest tag or comment the XML parser may be left waiting for."""

XML_FAULTS = (expat.ExpatError, ValueError, LookupError)
"""What the XML parser raises; the last two for an encoding that it or Python does not know."""

TAIL_BYTES = 1_024
"""How much of a file's end is kept to judge how it ends."""


class Proof(StrEnum):
    """What the bytes of a file must be."""

    TEXT = "text"
    JSON = "json"
    JSON_LINES = "jsonl"
    XML = "xml"
    PDF = "pdf"
    PNG = "png"
    JPEG = "jpeg"
    GIF = "gif"
    ZIP = "zip"
    OOXML_WORD = "ooxml_word"
    OOXML_SHEET = "ooxml_sheet"
    OOXML_SLIDES = "ooxml_slides"
    TAR = "tar"


class Rule(StrEnum):
    """Every rule an upload can break, and the one it satisfies."""

    PERMITTED = "upload-permitted"
    NAME_INVALID = "name-invalid"
    EXTENSION_NOT_LISTED = "extension-not-listed"
    MEDIA_TYPE_MISMATCH = "media-type-mismatch"
    PURPOSE_NOT_LISTED = "purpose-not-listed"
    PURPOSE_NOT_ALLOWED = "purpose-not-allowed"
    EMPTY_FILE = "empty-file"
    FILE_TOO_LARGE = "file-too-large"
    CONTENT_MISMATCH = "content-mismatch"
    TRAILING_DATA = "trailing-data"
    ARCHIVE_UNSAFE = "archive-unsafe"
    MACROS_NOT_ALLOWED = "macros-not-allowed"


class Disproved(Exception):
    """The bytes are not what they must be; `reason` is a clause that never quotes them."""

    def __init__(self, reason: str, rule: Rule = Rule.CONTENT_MISMATCH) -> None:
        super().__init__(reason)
        self.reason = reason
        self.rule = rule


class Prover(Protocol):
    """Sees the whole content once. Both methods raise `Disproved`, after which it is spent."""

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes, never none."""
        ...

    def end(self) -> None:
        """Judge the content as a whole, once there is no more of it."""
        ...


class TextProver:
    """Strict UTF-8, or UTF-16 with a byte order mark, without control characters."""

    _FORBIDDEN = bytes(sorted({*range(0x20), 0x7F} - set(b"\t\n\r\f")))
    _FORBIDDEN_CHARACTER = re.compile("[" + re.escape(_FORBIDDEN.decode()) + "]")
    _MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))

    def __init__(self) -> None:
        self._head = b""
        self._decoder: codecs.IncrementalDecoder | None = None

    def feed(self, chunk: bytes) -> None:
        if self._decoder is None:
            self._head += chunk
            if len(self._head) >= len(b"\xef\xbb\xbf"):
                self._begin()
        else:
            self._check(self._decoder, chunk)

    def end(self) -> None:
        decoder = self._decoder or self._begin()
        self._check(decoder, b"", final=True)

    def _begin(self) -> codecs.IncrementalDecoder:
        bare, codec = self._head, "utf-8"
        for mark, marked in self._MARKS:
            if self._head.startswith(mark):
                bare, codec = self._head[len(mark) :], marked
        self._decoder = codecs.getincrementaldecoder(codec)("strict")
        self._check(self._decoder, bare)
        return self._decoder

    def _check(
        self, decoder: codecs.IncrementalDecoder, chunk: bytes, *, final: bool = False
    ) -> None:
        try:
            text = decoder.decode(chunk, final)
        except UnicodeDecodeError as fault:
            raise Disproved(
                "it is not text in UTF-8, nor in UTF-16 with a byte order mark; save it as UTF-8"
            ) from fault
        if self._FORBIDDEN_CHARACTER.search(text):
            raise Disproved("it holds control characters, which text does not")


class _JsonValue:
    """Collects one JSON text and judges it. Only the first of a file may bear a byte order mark."""

    def __init__(self, *, is_first: bool) -> None:
        self._held = bytearray()
        self._last = b""
        self._is_long = False
        self._is_first = is_first

    def add(self, piece: bytes) -> None:
        room = JSON_PARSED_BYTES_MAX - len(self._held)
        self._is_long = self._is_long or len(piece) > room
        self._held += piece[: max(room, 0)]
        self._last = piece.rstrip()[-1:] or self._last

    def is_blank(self) -> bool:
        return not self._last

    def is_object(self) -> bool:
        """Return whether it is an object; raise `Disproved` if it is not JSON at all."""
        text = bytes(self._held)
        if self._is_first:
            text = text.removeprefix(b"\xef\xbb\xbf")
        if not self._is_long:
            return _is_json_object(text)
        ends = text.lstrip()[:1] + self._last
        if ends not in (b"{}", b"[]"):
            raise Disproved("it does not begin and end as JSON does")
        return ends == b"{}"


def _is_json_object(text: bytes) -> bool:
    try:
        value: object = jiter.from_json(text, allow_inf_nan=False, cache_mode="none")
    except ValueError as fault:
        raise Disproved("it is not JSON in UTF-8") from fault
    return isinstance(value, dict)


class JsonProver:
    """One JSON text in UTF-8."""

    def __init__(self) -> None:
        self._text = TextProver()
        self._value = _JsonValue(is_first=True)

    def feed(self, chunk: bytes) -> None:
        self._text.feed(chunk)
        self._value.add(chunk)

    def end(self) -> None:
        self._text.end()
        self._value.is_object()


class JsonLinesProver:
    """One JSON object a line; blank lines do not count."""

    def __init__(self) -> None:
        self._text = TextProver()
        self._line = _JsonValue(is_first=True)
        self._lines = 0

    def feed(self, chunk: bytes) -> None:
        self._text.feed(chunk)
        first, *others = chunk.split(b"\n")
        self._line.add(first)
        if not others:
            return
        self._close_line()
        *whole, rest = others
        for line in whole:
            self._judge_whole(line)
        self._line.add(rest)

    def end(self) -> None:
        self._text.end()
        self._close_line()
        if not self._lines:
            raise Disproved("it holds no JSON line")

    def _judge_whole(self, line: bytes) -> None:
        """Judge a line that came in one chunk; most do, and copying each would cost most."""
        if len(line) > JSON_PARSED_BYTES_MAX:
            self._line.add(line)
            self._close_line()
        elif line.strip():
            self._count(is_object=_is_json_object(line))

    def _close_line(self) -> None:
        line, self._line = self._line, _JsonValue(is_first=False)
        if not line.is_blank():
            self._count(is_object=line.is_object())

    def _count(self, *, is_object: bool) -> None:
        self._lines += 1
        if not is_object:
            raise Disproved(f"line `{self._lines}` is not a JSON object")


class XmlProver:
    """Well-formed XML without a document type: with one, entities could fetch and explode."""

    def __init__(self) -> None:
        self._parser = expat.ParserCreate()
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._fed_bytes = 0

    def feed(self, chunk: bytes) -> None:
        self._parse(chunk, final=False)
        self._fed_bytes += len(chunk)
        # Before a token is whole the parser rereads it with every chunk, in quadratic time.
        if self._fed_bytes - self._parser.CurrentByteIndex > XML_TOKEN_BYTES_MAX + len(chunk):
            raise Disproved(f"it holds a tag or comment of more than `{XML_TOKEN_BYTES_MAX}` bytes")

    def end(self) -> None:
        self._parse(b"", final=True)

    def _parse(self, chunk: bytes, *, final: bool) -> None:
        try:
            self._parser.Parse(chunk, final)
        except XML_FAULTS as fault:
            raise Disproved("it is not well-formed XML") from fault

    def _refuse_doctype(self, *_: object) -> None:
        raise Disproved("it declares a document type (DTD); leave the declaration out")


class PdfProver:
    """The header at the first byte, the end marker at the last; what lies between is not read."""

    _HEAD = re.compile(rb"%PDF-[12]\.[0-9]")

    def __init__(self) -> None:
        self._head = b""
        self._tail = b""

    def feed(self, chunk: bytes) -> None:
        if len(self._head) < 8:
            self._head += chunk[:8]
        self._tail = (self._tail + chunk)[-TAIL_BYTES:]

    def end(self) -> None:
        if not self._HEAD.match(self._head):
            raise Disproved("it does not begin as a PDF does")
        _, marker, after = self._tail.rpartition(b"%%EOF")
        if not marker:
            raise Disproved("it does not end as a PDF does, or was cut off")
        if after.strip(b"\0 \t\r\n\f"):
            raise Disproved("data follows the end of the PDF", Rule.TRAILING_DATA)
