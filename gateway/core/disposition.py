"""The Content-Disposition of a form part, and what a file may be called.

Servers disagree about this header more than about any other: which of two ``filename`` parameters
counts, whether ``filename*`` wins, whether an encoded-word is decoded. A name that can be read in
two ways is a way past any rule about names. So the header is read by a grammar of its own, in one
pass from left to right, and whatever two readers could take differently is refused: a repeated
parameter, ``filename*`` that says something else than ``filename``, a percent-encoded extension.

Real clients stay welcome: quoted strings and bare tokens, ``%22`` for a quote as browsers write
it, ``\\"`` as others do, and what .NET sends, a token with a ``filename*`` that agrees and an RFC
2047 encoded-word where the name is not ASCII. What leaves is written anew, so none of this
travels on.

Source: RFC 7578 section 4.2; RFC 2183; RFC 8187; RFC 2047; WHATWG HTML, "multipart/form-data
encoding algorithm" (``%22``, ``%0D``, ``%0A``).
"""

from __future__ import annotations

import base64
import binascii
import quopri
import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import unquote, unquote_to_bytes

from gateway.core.errors import Code, Refusal

_PARAMETER = re.compile(
    r"[ \t]*;[ \t]*(?P<key>[A-Za-z0-9*]+)="
    r'(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<token>[A-Za-z0-9!#$%&\'*+.^_`|~-]+))'
)
_EXTENDED = re.compile(
    r"(?P<charset>[A-Za-z0-9-]+)'[A-Za-z0-9-]*'(?P<value>[A-Za-z0-9!#$&+.^_`|~%-]+)"
)
_ENCODED_WORD = re.compile(r"=\?([A-Za-z0-9-]+)\?([BbQq])\?([^? ]*)\?=")
_CHARSETS = {"utf-8": "utf-8", "us-ascii": "ascii", "iso-8859-1": "iso-8859-1"}
# Marks that turn the direction of text can show `exe.csv` for a name that ends in `vsc.exe`.
_TURNING = frozenset(
    "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
)


@dataclass(frozen=True, slots=True)
class Disposition:
    """The field's name, and the file's name if the part says that it is a file."""

    name: str
    filename: str | None


def name_fault(name: str) -> str | None:
    """Return what makes `name` unfit as a file's name, or None if it has exactly one reading.

    Guards against an empty name, control and turning characters, path separators, blanks or dots at
    the ends, and an extension that reads differently once percent-decoded.
    """
    for spelling in dict.fromkeys((name, unquote(name))):
        fault = _spelling_fault(spelling)
        if fault is not None:
            return fault
    if extension_of(name) != extension_of(unquote(name)):
        return "the file name has another extension once percent-decoded"
    return None


def extension_of(name: str) -> str:
    """Return what follows the last dot, in lower case, or ``""`` if there is none.

    A name that is nothing but a dot and letters, such as ``.csv``, has no extension.
    """
    stem, _, extension = name.rpartition(".")
    return extension.lower() if stem else ""


def parse_disposition(value: str) -> Disposition:
    """Return the names in a part's Content-Disposition; time is linear in its length.

    Raises:
        Refusal: `malformed_upload`, when the header is not form-data, is not in the grammar, or can
            be read in two ways.
    """
    kind, parameters = _parameters(value)
    if kind != "form-data":
        raise _malformed("a part's Content-Disposition is not `form-data`")
    unknown = parameters.keys() - {"name", "filename", "filename*"}
    if unknown:
        raise _malformed(
            "a part's Content-Disposition may have `name`, `filename` and `filename*`, no more"
        )
    name = _unescaped(parameters.get("name", ""))
    if not name or any(_is_control(c) for c in name) or "\\" in name:
        raise _malformed("a part has no usable field name")
    return Disposition(name, _filename(parameters))


def _parameters(value: str) -> tuple[str, dict[str, str]]:
    """Split the header into its kind and its parameters, escapes still in place."""
    value = value.strip(" \t")
    kind, semicolon, _ = value.partition(";")
    at = len(kind)
    found: dict[str, str] = {}
    while semicolon and at < len(value):
        match = _PARAMETER.match(value, at)
        if match is None:
            raise _malformed("a part's Content-Disposition is not well formed")
        key = match["key"].lower()
        if key in found:
            raise _malformed(f"a part's Content-Disposition repeats `{key[:16]}`")
        found[key] = match["token"] if match["quoted"] is None else match["quoted"]
        at = match.end()
    return kind.strip(" \t").lower(), found


def _filename(parameters: dict[str, str]) -> str | None:
    """Return the one name that all spellings agree on, or None if the part is no file."""
    plain, extended = parameters.get("filename"), parameters.get("filename*")
    if plain is None:
        if extended is not None:
            raise _malformed("a part has `filename*` without `filename`; send `filename` alone")
        return None
    name = _words_decoded(_unescaped(plain))
    if extended is not None and _extended_decoded(extended) != name:
        raise _malformed("`filename` and `filename*` disagree; send `filename` alone")
    if _words_decoded(_unescaped(name)) != name:
        # It goes on as it reads here, and whoever reads it next would undo the inner encoding.
        raise _malformed("the file name is encoded twice; send it plainly")
    fault = name_fault(name)
    if fault is not None:
        raise _malformed(fault, rule="name-invalid")
    return name


def _unescaped(text: str) -> str:
    """Undo the two ways in which clients write a quote inside quotes, and HTML's line breaks."""
    text = text.replace('\\"', '"')
    for code, character in (("%22", '"'), ("%0D", "\r"), ("%0A", "\n")):
        text = text.replace(code, character)
    return text


def _words_decoded(text: str) -> str:
    """Decode RFC 2047 encoded-words if the whole name consists of them; refuse a mixture."""
    words = _ENCODED_WORD.findall(text)
    if not words:
        return text
    if _ENCODED_WORD.sub("", text).strip(" "):
        raise _malformed("the file name mixes an encoded-word with plain text")
    return "".join(_word_decoded(*word) for word in words)


def _word_decoded(charset: str, encoding: str, text: str) -> str:
    try:
        if encoding in "Bb":
            raw = base64.b64decode(text, validate=True)
        else:
            raw = quopri.decodestring(text.encode("ascii"), header=True)
        return raw.decode(_CHARSETS[charset.lower()])
    except (KeyError, ValueError, binascii.Error) as fault:
        raise _malformed("the file name has an encoded-word that cannot be decoded") from fault


def _extended_decoded(text: str) -> str:
    match = _EXTENDED.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        return unquote_to_bytes(match["value"]).decode(_CHARSETS[match["charset"].lower()])
    except (KeyError, ValueError) as fault:
        raise _malformed("`filename*` cannot be decoded") from fault


def _spelling_fault(name: str) -> str | None:
    if not name:
        return "the file name is empty"
    if any(_is_control(c) for c in name):
        return "the file name has a control character"
    if "/" in name or "\\" in name:
        return "the file name has a path separator; send the name alone"
    if name != name.strip() or name.endswith("."):
        return "the file name begins or ends with a blank, or ends with a dot"
    return None


def _is_control(character: str) -> bool:
    """Whether a character does not stand for itself in a line of text."""
    return character in _TURNING or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}


def _malformed(message: str, *, rule: str = "multipart") -> Refusal:
    return Refusal(Code.MALFORMED_UPLOAD, message, param="file", rule=rule)
