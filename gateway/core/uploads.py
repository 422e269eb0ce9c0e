"""Uploads: which files may go in, for what purpose, how large, and whether they are what they say.

An upload is judged in four steps, from cheap to dear, and each may end it: its *name* (one
reading, an extension that is listed, a media type and a purpose that go with it), its *size*, and
the *proof* that its bytes are what the name says. Whatever is not listed is refused. Every way a
file's bytes come in is judged by this one policy, so the judgement knows nothing of HTTP.

A media type is undeclared if it is absent or `application/octet-stream`; that is what curl and
many SDKs send, and it contradicts no name.

Source: Azure OpenAI, "Assistants Code Interpreter (preview)", supported file types; "Azure OpenAI
quotas and limits" (512 MB a file); the Files API reference (purposes).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from gateway.core.archives import SeekableBytes, prove_archive
from gateway.core.disposition import extension_of, name_fault
from gateway.core.errors import Code
from gateway.core.pictures import PictureProver, gif_walk, jpeg_walk, png_walk
from gateway.core.proof import (
    Disproved,
    JsonLinesProver,
    JsonProver,
    PdfProver,
    Proof,
    Prover,
    Rule,
    TextProver,
    XmlProver,
)

__all__ = [
    "STREAMED",
    "ContentProof",
    "Declared",
    "FileType",
    "Proof",
    "Rule",
    "SeekableBytes",
    "UploadPolicy",
    "Verdict",
    "judge_name",
    "judge_size",
    "prove",
]

_CHUNK_BYTES = 262_144
_UNDECLARED = frozenset({"", "application/octet-stream"})
_PROVERS: Mapping[Proof, Callable[[], Prover]] = {
    Proof.TEXT: TextProver,
    Proof.JSON: JsonProver,
    Proof.JSON_LINES: JsonLinesProver,
    Proof.XML: XmlProver,
    Proof.PDF: PdfProver,
    Proof.PNG: lambda: PictureProver(png_walk, may_trail=False),
    Proof.JPEG: lambda: PictureProver(jpeg_walk, may_trail=True),
    Proof.GIF: lambda: PictureProver(gif_walk, may_trail=False),
}
STREAMED = frozenset(_PROVERS)
"""The proofs `ContentProof` can give from front to back; all others need `prove`."""

_CODES = {
    Rule.NAME_INVALID: Code.MALFORMED_UPLOAD,
    Rule.EMPTY_FILE: Code.MALFORMED_UPLOAD,
    Rule.FILE_TOO_LARGE: Code.FILE_TOO_LARGE,
    Rule.PURPOSE_NOT_LISTED: Code.NOT_PERMITTED,
}


@dataclass(frozen=True, slots=True)
class FileType:
    """A permitted type. `media_types` are what a client may declare, in lower case.

    `file_bytes_max` of None means that only the policy's own limit holds.
    """

    extension: str
    media_types: frozenset[str]
    proof: Proof
    file_bytes_max: int | None = None


@dataclass(frozen=True, slots=True)
class UploadPolicy:
    """What may be uploaded. `types` by extension (lower case, no dot), extensions by purpose."""

    types: Mapping[str, FileType]
    purposes: Mapping[str, frozenset[str]]
    file_bytes_max: int
    name_bytes_max: int


@dataclass(frozen=True, slots=True)
class Declared:
    """What the caller says of a file. `purpose` of None means that it is not known yet."""

    filename: str
    media_type: str | None
    purpose: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an upload may go on, by which rule, and what to answer if not.

    `code` is None and `message` empty when it is permitted. `file_type` is the extension, once it
    is known to be listed.
    """

    permitted: bool
    rule: str
    code: Code | None
    message: str
    file_type: str | None


def judge_name(policy: UploadPolicy, declared: Declared) -> Verdict:
    """Return the verdict on what is declared; judge again once the purpose is known."""
    fault = name_fault(declared.filename)
    if fault is not None:
        return _refused(Rule.NAME_INVALID, fault)
    if len(declared.filename.encode()) > policy.name_bytes_max:
        return _refused(
            Rule.NAME_INVALID, f"the file name is over the limit of `{policy.name_bytes_max}` bytes"
        )
    purpose, extension = declared.purpose, extension_of(declared.filename)
    if purpose is not None and purpose not in policy.purposes:
        return _refused(
            Rule.PURPOSE_NOT_LISTED,
            f"purpose {_shown(purpose)} is not permitted",
            f"allowed: {_listed(policy.purposes)}",
        )
    file_type = policy.types.get(extension)
    allowed = policy.types.keys() if purpose is None else policy.purposes[purpose]
    if file_type is None or extension not in allowed:
        return _refused(
            Rule.EXTENSION_NOT_LISTED if file_type is None else Rule.PURPOSE_NOT_ALLOWED,
            ("file type " + _shown("." + extension) if extension else "a file without extension")
            + " is not permitted"
            + (f" for purpose `{purpose}`" if purpose is not None else ""),
            f"allowed: {_listed('.' + each for each in allowed)}",
        )
    media_type = _essence(declared.media_type)
    if media_type not in _UNDECLARED and media_type not in file_type.media_types:
        return _refused(
            Rule.MEDIA_TYPE_MISMATCH,
            f"media type {_shown(media_type)} does not go with file type `.{extension}`",
            f"allowed: {_listed(file_type.media_types)}, or none",
            file_type=extension,
        )
    return _permitted(extension)


def judge_size(policy: UploadPolicy, declared: Declared, size_bytes: int) -> Verdict:
    """Return the verdict on a size, which may be the one so far while the file still comes in.

    The name must have been judged; a type that is not listed is held to the policy's own limit.
    """
    extension = extension_of(declared.filename)
    return _judge_size(policy, policy.types.get(extension), size_bytes)


class ContentProof:
    """The proof of one file, fed while it comes in; for the types in `STREAMED`.

    Raises:
        ValueError: the type can only be proved by `prove`.
    """

    def __init__(self, file_type: FileType) -> None:
        make = _PROVERS.get(file_type.proof)
        if make is None:
            raise ValueError(f"`{file_type.proof}` is proved by seeking; use `prove`")
        self._file_type = file_type
        self._prover = make()
        self._fed_bytes = 0
        self._fault: Disproved | None = None

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes. A fault is kept for the verdict."""
        self._fed_bytes += len(chunk)
        if not chunk or self._fault is not None:
            return
        try:
            self._prover.feed(chunk)
        except Disproved as fault:
            self._fault = fault

    def verdict(self, policy: UploadPolicy, size_bytes: int) -> Verdict:
        """Return the verdict on size and content; ask once, when everything was fed."""
        sized = _judge_size(policy, self._file_type, size_bytes)
        if not sized.permitted:
            return sized
        try:
            if self._fault is not None:
                raise self._fault
            if self._fed_bytes != size_bytes:
                raise Disproved("its size is not the one it was judged by")
            self._prover.end()
        except Disproved as fault:
            return _disproved(self._file_type, fault)
        return _permitted(self._file_type.extension)


def prove(
    policy: UploadPolicy, declared: Declared, source: SeekableBytes, size_bytes: int
) -> Verdict:
    """Return the whole verdict on a file: name, size, then content, for every type.

    Reads up to the whole file and computes; call it on a thread when the file is large.
    """
    named = judge_name(policy, declared)
    if not named.permitted:
        return named
    file_type = policy.types[extension_of(declared.filename)]
    if file_type.proof in STREAMED:
        proof = ContentProof(file_type)
        source.seek(0)
        while chunk := source.read(_CHUNK_BYTES):
            proof.feed(chunk)
        return proof.verdict(policy, size_bytes)
    sized = _judge_size(policy, file_type, size_bytes)
    if not sized.permitted:
        return sized
    try:
        prove_archive(file_type.proof, source, size_bytes)
    except Disproved as fault:
        return _disproved(file_type, fault)
    return _permitted(file_type.extension)


def _judge_size(policy: UploadPolicy, file_type: FileType | None, size_bytes: int) -> Verdict:
    limit, extension = policy.file_bytes_max, None
    if file_type is not None:
        extension = file_type.extension
        if file_type.file_bytes_max is not None:
            limit = min(limit, file_type.file_bytes_max)
    if size_bytes == 0:
        return _refused(Rule.EMPTY_FILE, "the file is empty", file_type=extension)
    if size_bytes > limit:
        return _refused(
            Rule.FILE_TOO_LARGE,
            f"file size `{size_bytes}` is over the limit of `{limit}` bytes",
            "send a smaller file",
            file_type=extension,
        )
    return _permitted(extension)


def _disproved(file_type: FileType, fault: Disproved) -> Verdict:
    return _refused(
        fault.rule,
        f"the content is not permitted as file type `.{file_type.extension}`: {fault.reason}",
        file_type=file_type.extension,
    )


def _refused(rule: Rule, fault: str, way_out: str = "", *, file_type: str | None = None) -> Verdict:
    message = f"{fault} (rule `{rule}`); {way_out}{'; ' if way_out else ''}nothing was stored"
    code = _CODES.get(rule, Code.UNSUPPORTED_FILE_TYPE)
    return Verdict(False, rule.value, code, message, file_type)


def _permitted(file_type: str | None) -> Verdict:
    return Verdict(True, Rule.PERMITTED.value, None, "", file_type)


def _essence(media_type: str | None) -> str:
    return (media_type or "").partition(";")[0].strip(" \t").lower()


def _listed(words: Iterable[str]) -> str:
    return ", ".join(word if word.startswith(".") else f"`{word}`" for word in sorted(words))


def _shown(word: str) -> str:
    """Quote a caller's word if it is short and plain; otherwise it could carry anything."""
    is_plain = len(word) <= 80 and word.isascii() and word.isprintable() and "`" not in word
    return f"`{word}`" if is_plain else "of unprintable name"
