"""multipart/form-data, read strictly: CRLF lines, every part named once, nothing after the end."""

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import unquote

from gateway.simulator.errors import Fault, front_door

PARTS_MAX = 20
_PARAMETER = re.compile(r';\s*([A-Za-z*]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))')
_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form; `filename` and `content_type` are None where it had none."""

    name: str
    filename: str | None
    content_type: str | None
    content: bytes

    @property
    def text(self) -> str:
        """The content as text, for plain fields."""
        return self.content.decode("utf-8", "replace")

    @property
    def sha256(self) -> str:
        """The digest of the content."""
        return hashlib.sha256(self.content).hexdigest()


def read_form(content_type: str, body: bytes) -> list[Part]:
    """Return the parts of a form in their order.

    Raises:
        Fault: 400, the form is malformed, has too many parts or a field twice.
    """
    named = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/form-data") or named is None:
        raise _malformed("the request is not multipart/form-data with a boundary")
    boundary = b"--" + (named[1] or named[2]).encode("latin-1")
    if not body.startswith(boundary):
        raise _malformed("the body does not begin with its boundary")
    pieces = (b"\r\n" + body).split(b"\r\n" + boundary)
    if pieces[-1] not in (b"--", b"--\r\n"):
        raise _malformed("the body does not end with its final boundary")
    if len(pieces) - 2 > PARTS_MAX:
        raise _malformed("the form has too many parts")
    parts = [_read_part(piece) for piece in pieces[1:-1]]
    if len({part.name for part in parts}) != len(parts):
        raise _malformed("a field is given twice")
    return parts


def _read_part(piece: bytes) -> Part:
    head, gap, content = piece.partition(b"\r\n\r\n")
    if not gap or not head.startswith(b"\r\n"):
        raise _malformed("a part has no header")
    fields: dict[str, str] = {}
    for line in head[2:].decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if not colon or name.lower() in fields:
            raise _malformed("a part's header is malformed")
        fields[name.lower()] = value.strip()
    disposition = fields.get("content-disposition", "")
    parameters = {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) or bare
        for name, quoted, bare in _PARAMETER.findall(disposition)
    }
    if not disposition.lower().startswith("form-data") or "name" not in parameters:
        raise _malformed("a part has no name")
    filename = parameters.get("filename")
    extended = parameters.get("filename*", "")
    if extended.lower().startswith("utf-8''"):
        filename = unquote(extended[7:])
    return Part(parameters["name"], filename, fields.get("content-type") or None, content)


def _malformed(message: str) -> Fault:
    return front_door(400, "invalidPayload", message)
