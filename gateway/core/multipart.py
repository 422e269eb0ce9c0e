"""Forms as they come in and as they go out: multipart/form-data with exactly one reading.

A body that two parsers split differently is the classic way past an upload rule: ours sees a
harmless part, the next server another one. So the body is read by a narrow grammar, everything
outside it is refused, and what goes on is never the caller's bytes but a form written anew from
the parts that were judged, with a boundary of our own.

Framing is the job of ``multipart.PushMultipartParser`` in strict mode. Three of its verdicts
depend on how the network cut the body into chunks (text before the first boundary, text after the
last, a last CRLF that comes alone); `FormReader` takes them over: the first boundary must stand
at offset 0, and the end of the body is held back so that the final boundary is always fed last
and alone. Any chunking of the same body gets the same verdict.

Of a part's headers only Content-Disposition, Content-Type and Content-Length are known, each
once. A transfer encoding or a nested multipart is refused, because half of the world would decode
it and the other half would not. Parts may come in any order.

Source: RFC 7578; RFC 2046 section 5.1.1 (boundaries of 1 to 70 characters).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from multipart import (  # type: ignore[import-untyped]
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
)

from gateway.core.disposition import parse_disposition
from gateway.core.errors import Code, Refusal

_HEADERS = frozenset({"Content-Disposition", "Content-Type", "Content-Length"})
_MEDIA_TYPE = re.compile(
    r"(?P<essence>[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+)"
    r'(?:[ \t]*;[ \t]*[A-Za-z0-9!#$&^_.+-]+=(?:"[^"\\]*"|[A-Za-z0-9!#$&^_.+-]+))*'
)
_PARAMETER = re.compile(
    r"[ \t]*;[ \t]*(?P<key>[A-Za-z0-9*_-]+)="
    r'(?:"(?P<quoted>[^"\\]*)"|(?P<bare>[A-Za-z0-9\'+_./:=?!#$%&*^`|~-]+))'
)
_BOUNDARY = re.compile(r"[A-Za-z0-9'()+_,./:=? -]{0,69}[A-Za-z0-9'()+_,./:=?-]")


@dataclass(frozen=True, slots=True)
class FormLimits:
    """How large a form may be. A part with a file name is a file, any other is a field."""

    file_bytes_max: int = 536_870_912
    field_bytes_max: int = 65_536
    parts_max: int = 16
    headers_max: int = 3
    header_bytes_max: int = 4_096


@dataclass(frozen=True, slots=True)
class PartBegins:
    """A part's head. `filename` is None for a field; `media_type` is lower case and bare."""

    name: str
    filename: str | None
    media_type: str | None


@dataclass(frozen=True, slots=True)
class PartData:
    """The next bytes of the part, never empty."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnds:
    """The part is complete and held `size_bytes` bytes, possibly none."""

    size_bytes: int


FormEvent = PartBegins | PartData | PartEnds


class FormReader:
    """Turns a form's bytes into its parts; they count only once `finish` is exhausted."""

    def __init__(self, boundary: str, limits: FormLimits | None = None) -> None:
        self._limits = limits or FormLimits()
        self._opening = b"--" + boundary.encode("ascii") + b"\r\n"
        self._final = b"\r\n--" + boundary.encode("ascii") + b"--"
        self._parser = PushMultipartParser(
            boundary,
            strict=True,
            max_header_size=self._limits.header_bytes_max,
            max_header_count=self._limits.headers_max,
            max_segment_count=self._limits.parts_max,
        )
        self._held = b""
        self._begun = False
        self._names: set[str] = set()
        self._is_file = False
        self._part_bytes = 0

    def feed(self, chunk: bytes) -> Iterator[FormEvent]:
        """Yield what `chunk` completes; exhaust the iterator before the next call.

        Raises:
            Refusal: `malformed_upload` for anything with more than one reading, `file_too_large`
                for a file over the limit. After that the reader is of no further use.
        """
        body = self._held + chunk
        if not self._begun:
            if not self._opening.startswith(body[: len(self._opening)]):
                raise malformed("the form does not begin with its boundary")
            self._begun = len(body) >= len(self._opening)
        kept = len(self._final) + len(b"\r\n")
        self._held = body[-kept:]
        if len(body) > kept:
            yield from self._parse(body[:-kept])

    def finish(self) -> Iterator[FormEvent]:
        """Yield what is left once the body is over; exhaust the iterator.

        Raises:
            Refusal: `malformed_upload`, when the body does not end in the final boundary, or
                ended in it before.
        """
        rest = self._held.removesuffix(b"\r\n")
        if not self._begun or not rest.endswith(self._final):
            raise malformed("the form does not end in its final boundary; was it cut off?")
        # Fed in two pieces: the parser silently drops what follows a final boundary in one chunk.
        yield from self._parse(rest.removesuffix(self._final))
        yield from self._parse(self._final)
        try:
            self._parser.close()
        except MultipartError as fault:
            raise malformed("the form ends inside the head of a part") from fault

    def _parse(self, chunk: bytes) -> Iterator[FormEvent]:
        if not chunk:
            return
        try:
            for event in self._parser.parse(chunk):
                match event:
                    case None:
                        yield PartEnds(self._part_bytes)
                    case MultipartSegment():
                        yield self._begin(event)
                    case _:
                        yield self._data(bytes(event))
        except ParserLimitReached as fault:
            raise malformed(
                f"the form has more than `{self._limits.parts_max}` parts, or a part has more "
                f"than `{self._limits.headers_max}` headers or one over "
                f"`{self._limits.header_bytes_max}` bytes"
            ) from fault
        except MultipartError as fault:
            raise malformed("the form is not well formed: " + _reason(fault)) from fault

    def _begin(self, segment: MultipartSegment) -> PartBegins:
        """Judge a part's head by our own grammar; the parser's reading of it is not used."""
        headers: dict[str, str] = {}
        for name, value in segment.headerlist:
            if name not in _HEADERS:
                raise malformed(
                    "a part has a header other than `Content-Disposition`, `Content-Type` and "
                    "`Content-Length`; leave it out"
                )
            if name in headers:
                raise malformed(f"a part repeats its header `{name}`")
            if any((c < " " and c != "\t") or c == "\x7f" for c in value):
                raise malformed(f"a part's `{name}` has a control character")
            headers[name] = value
        disposition = parse_disposition(headers["Content-Disposition"])
        if disposition.name in self._names:
            raise malformed("the form repeats a field name; send each field once")
        self._names.add(disposition.name)
        self._is_file = disposition.filename is not None
        self._part_bytes = 0
        media_type = _part_media_type(headers.get("Content-Type"))
        return PartBegins(disposition.name, disposition.filename, media_type)

    def _data(self, data: bytes) -> PartData:
        self._part_bytes += len(data)
        if self._is_file and self._part_bytes > self._limits.file_bytes_max:
            raise Refusal(
                Code.FILE_TOO_LARGE,
                f"the file is over the limit of `{self._limits.file_bytes_max}` bytes "
                "(rule `file-too-large`); send a smaller file; nothing was stored",
                param="file",
                rule="file-too-large",
            )
        if not self._is_file and self._part_bytes > self._limits.field_bytes_max:
            raise malformed(f"a form field is over `{self._limits.field_bytes_max}` bytes")
        return PartData(data)


def boundary_of(content_type: str) -> str:
    """Return the boundary a multipart/form-data Content-Type names.

    Beside `boundary` only `charset` may stand there, each once.

    Raises:
        Refusal: `malformed_upload`, when there is none, two, or one that RFC 2046 does not allow.
    """
    content_type = content_type.strip(" \t")
    kind = content_type.partition(";")[0]
    if kind.strip(" \t").lower() != "multipart/form-data":
        raise malformed("the upload's Content-Type is not `multipart/form-data`")
    at, found = len(kind), dict[str, str]()
    while at < len(content_type):
        match = _PARAMETER.match(content_type, at)
        if match is None:
            raise malformed("the upload's Content-Type is not well formed")
        key = match["key"].lower()
        if key in found or key not in {"boundary", "charset"}:
            raise malformed(
                "the upload's Content-Type may have one `boundary` and one `charset`, no more"
            )
        found[key] = match["bare"] if match["quoted"] is None else match["quoted"]
        at = match.end()
    boundary = found.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise malformed("the upload's boundary is missing, over 70 characters or not allowed")
    return boundary


def emit_field(boundary: str, name: str, value: str) -> bytes:
    """Return one whole field; fields follow directly on one another, and the file on them."""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n'
    return (head + value).encode() + b"\r\n"


def emit_file_head(boundary: str, name: str, filename: str, content_type: str) -> bytes:
    """Return the head of the form's last part; the content follows, then `emit_end`."""
    names = f'name="{_quoted(name)}"; filename="{_quoted(filename)}"'
    return (
        f"--{boundary}\r\n"
        f"Content-Disposition: form-data; {names}\r\n"
        f"Content-Type: {content_type}\r\n\r\n"
    ).encode()


def emit_end(boundary: str) -> bytes:
    """Return what ends the file and the form, with the last CRLF that old servers wait for."""
    return f"\r\n--{boundary}--\r\n".encode()


def malformed(message: str) -> Refusal:
    """Return the refusal of a form that has no single reading."""
    return Refusal(Code.MALFORMED_UPLOAD, message, param="file", rule="multipart")


def _quoted(name: str) -> str:
    """Write a name as browsers and httpx do: UTF-8 as it is, a quote as ``%22``.

    Names with control characters or backslashes were refused when they were read.
    """
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _part_media_type(value: str | None) -> str | None:
    if value is None or not value.strip():
        return None
    match = _MEDIA_TYPE.fullmatch(value.strip(" \t"))
    if match is None:
        raise malformed("a part's Content-Type is not well formed")
    essence = match["essence"].lower()
    if essence.startswith(("multipart/", "message/")):
        raise malformed("a part is itself a multipart; send its files one by one")
    return essence


def _reason(fault: MultipartError) -> str:
    """Return the parser's own sentence in our spelling; it never quotes the body."""
    return str(fault.args[0]).lower() if fault.args else "unknown fault"
