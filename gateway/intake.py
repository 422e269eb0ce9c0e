"""Read: the body comes in, under its limits, and becomes the one parsed thing everybody judges.

A JSON body is read whole and strictly. An upload is read part by part: its name is judged before
its content is read, its size while it is read, its content as soon as it is there; it waits in
the spool, and nothing of it has gone anywhere when it is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from starlette.types import Receive

from gateway.core.canonical import parse_object
from gateway.core.disposition import extension_of
from gateway.core.errors import Code, Refusal
from gateway.core.model import Surface
from gateway.core.multipart import (
    FormEvent,
    FormLimits,
    FormReader,
    PartBegins,
    PartData,
    PartEnds,
    boundary_of,
)
from gateway.core.operations import Body, Operation
from gateway.core.uploads import (
    STREAMED,
    ContentProof,
    Declared,
    UploadPolicy,
    Verdict,
    judge_name,
    judge_size,
    prove,
)
from gateway.exchange import Upload
from gateway.spool import Spool, SpoolFile, SpoolFull

_FIELDS = frozenset(
    {"purpose", "expires_after[anchor]", "expires_after[seconds]", "anchor", "seconds"}
)
# The SDK of Foundry's agents may say the file's name a second time.
_PROJECT_FIELDS = _FIELDS | {"filename"}
# Files in a container are for the interpreter, as files of this purpose are.
_CONTAINER_PURPOSE = "assistants"
_LARGE_BYTES = 1024 * 1024
_ABOUT_BODIES = frozenset({b"content-type", b"content-encoding"})


@dataclass(frozen=True, slots=True)
class Form:
    """Which fields an upload's form may hold beside its file; `purpose` is set where it holds none,
    because what the file is for follows from where it goes."""

    fields: frozenset[str]
    purpose: str | None = None


def brings_upload(operation: Operation, headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a request brings a file in a form."""
    if operation.body is not Body.CONTAINER_FILE:
        return operation.body is Body.UPLOAD
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return media_type == b"multipart/form-data"


def form_of(operation: Operation) -> Form:
    """Return the form in which an operation takes a file."""
    if operation.body is Body.CONTAINER_FILE:
        return Form(frozenset(), purpose=_CONTAINER_PURPOSE)
    return Form(_PROJECT_FIELDS if operation.surface is Surface.FOUNDRY else _FIELDS)


class CallerGone(Exception):
    """The caller left before the request was whole; there is nobody to answer."""


class UploadRefused(Refusal):
    """A refused upload, with the verdict for the audit."""

    def __init__(self, verdict: Verdict, *, sha256: str | None, size_bytes: int | None) -> None:
        code = verdict.code or Code.UNSUPPORTED_FILE_TYPE
        super().__init__(code, verdict.message, param="file", rule=verdict.rule)
        self.verdict = verdict
        self.sha256 = sha256
        self.size_bytes = size_bytes


def said_once(headers: Iterable[tuple[bytes, bytes]]) -> Mapping[bytes, bytes]:
    """Return the header lines by name, those that say what a body is being there at most once.

    Raises:
        Refusal: the body's type or encoding is said twice, and servers differ in which they take.
    """
    said: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in said and name in _ABOUT_BODIES:
            raise Refusal(
                Code.MALFORMED_REQUEST,
                f"the header `{name.decode()}` is given twice; send it once",
                param=name.decode(),
                rule="header-repeated",
            )
        said[name] = value
    return said


def check_encoding(headers: Mapping[bytes, bytes]) -> None:
    """Refuse a body that is compressed: what cannot be read cannot be judged.

    Raises:
        Refusal: there is a content encoding other than identity.
    """
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise Refusal(
            Code.UNSUPPORTED_ENCODING,
            "a compressed body is not accepted; send it without `content-encoding`",
            param="content-encoding",
        )


async def read_json(
    receive: Receive, headers: Mapping[bytes, bytes], operation: Operation, *, limit_bytes: int
) -> dict[str, object] | None:
    """Return the parsed body, or None if the operation may come without one and does.

    Raises:
        Refusal: it is too large, of another content type, or no strict JSON object.
        CallerGone: it did not come whole.
    """
    check_encoding(headers)
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > limit_bytes:
        _too_large(limit_bytes)
    raw = bytearray()
    async for chunk in _chunks(receive):
        raw += chunk
        if len(raw) > limit_bytes:
            _too_large(limit_bytes)
    if operation.body is Body.NONE or (not raw and operation.body is Body.OPTIONAL_JSON):
        return None
    media_type = headers.get(b"content-type", b"application/json").partition(b";")[0]
    if media_type.strip().lower() != b"application/json":
        raise Refusal(
            Code.UNSUPPORTED_CONTENT_TYPE,
            "this operation takes `application/json`",
            param="content-type",
        )
    return parse_object(bytes(raw))


async def read_upload(
    receive: Receive,
    headers: Mapping[bytes, bytes],
    policy: UploadPolicy,
    spool: Spool,
    *,
    team: str,
    form: Form,
) -> Upload:
    """Return the judged upload; its file is open in the spool and the caller's to close.

    Raises:
        Refusal: the form is malformed, or policy is against the file.
        CallerGone: it did not come whole.
    """
    check_encoding(headers)
    content_type = headers.get(b"content-type", b"").decode("latin-1")
    reader = FormReader(boundary_of(content_type), FormLimits(file_bytes_max=policy.file_bytes_max))
    desk = _Desk(policy, spool, team, form)
    try:
        async for chunk in _chunks(receive):
            for event in reader.feed(chunk):
                desk.take(event)
        for event in reader.finish():
            desk.take(event)
        return await desk.judged()
    except SpoolFull:
        desk.close()
        raise Refusal(
            Code.GATEWAY_UNAVAILABLE,
            "there is no room left to hold uploads while they are judged; nothing was stored",
        ) from None
    except BaseException:
        desk.close()
        raise


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerGone
        body = message.get("body", b"")
        if body:
            yield body
        if not message.get("more_body", False):
            return


def _too_large(limit_bytes: int) -> NoReturn:
    raise Refusal(
        Code.REQUEST_TOO_LARGE,
        f"the body is larger than `{limit_bytes}` bytes; upload files with `POST /openai/files`",
        param="body",
    )


class _Desk:
    """Takes a form's parts as they come and judges the file among them."""

    def __init__(self, policy: UploadPolicy, spool: Spool, team: str, form: Form) -> None:
        self._policy = policy
        self._form = form
        self._spool = spool
        self._team = team
        self._fields: dict[str, str] = {}
        self._part: PartBegins | None = None
        self._value = bytearray()
        self._file: SpoolFile | None = None
        self._head: PartBegins | None = None
        self._proof: ContentProof | None = None

    def take(self, event: FormEvent) -> None:
        match event:
            case PartBegins():
                self._part = event
                self._value.clear()
                self._begin(event)
            case PartData(data=data):
                self._data(data)
            case PartEnds():
                self._end()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self, part: PartBegins) -> None:
        if part.filename is None:
            if part.name not in self._form.fields:
                known = ", ".join(sorted(self._form.fields)) or "none beside `file`"
                raise Refusal(
                    Code.MALFORMED_UPLOAD,
                    f"the form has a field `{part.name[:64]}`; known: {known}",
                    param=part.name[:64],
                )
            return
        if part.name != "file" or self._file is not None:
            raise Refusal(
                Code.MALFORMED_UPLOAD,
                "the form must hold exactly one file, named `file`",
                param="file",
            )
        self._head = part
        self._demand(judge_name(self._policy, self._declared()))
        file_type = self._policy.types[extension_of(part.filename)]
        self._proof = ContentProof(file_type) if file_type.proof in STREAMED else None
        self._file = self._spool.open(self._team)

    def _data(self, data: bytes) -> None:
        if self._part is None or self._part.filename is None:
            self._value += data
            return
        if self._file is None:
            return
        self._demand(judge_size(self._policy, self._declared(), self._file.size_bytes + len(data)))
        self._file.write(data)
        if self._proof is not None:
            self._proof.feed(data)

    def _end(self) -> None:
        part = self._part
        if part is None or part.filename is not None:
            return
        try:
            self._fields[part.name] = bytes(self._value).decode("utf-8")
        except UnicodeDecodeError:
            raise Refusal(
                Code.MALFORMED_UPLOAD, f"field `{part.name}` is not UTF-8", param=part.name
            ) from None
        if part.name == "purpose" and self._head is not None:
            self._demand(judge_name(self._policy, self._declared()))

    async def judged(self) -> Upload:
        """Return the upload once everything was found good."""
        file, head = self._file, self._head
        if file is None or head is None or head.filename is None:
            raise Refusal(Code.MALFORMED_UPLOAD, "the form holds no `file`", param="file")
        if self._purpose is None:
            raise Refusal(Code.MALFORMED_UPLOAD, "the form holds no `purpose`", param="purpose")
        if self._fields.get("filename", head.filename) != head.filename:
            raise Refusal(
                Code.MALFORMED_UPLOAD,
                "the field `filename` and the file's own name differ; leave the field out",
                param="filename",
            )
        declared = self._declared()
        self._demand(judge_name(self._policy, declared))
        verdict = await self._proved(file, declared)
        self._demand(verdict)
        return Upload(
            fields=tuple(self._fields.items()),
            filename=head.filename,
            media_type=head.media_type or "application/octet-stream",
            file_type=verdict.file_type or "",
            file=file,
        )

    async def _proved(self, file: SpoolFile, declared: Declared) -> Verdict:
        if self._proof is not None:
            return self._proof.verdict(self._policy, file.size_bytes)
        if file.size_bytes < _LARGE_BYTES:
            return prove(self._policy, declared, file.seekable(), file.size_bytes)
        return await asyncio.to_thread(
            prove, self._policy, declared, file.seekable(), file.size_bytes
        )

    def _declared(self) -> Declared:
        head = self._head
        name = head.filename if head is not None and head.filename is not None else ""
        media_type = head.media_type if head is not None else None
        return Declared(name, media_type, self._purpose)

    @property
    def _purpose(self) -> str | None:
        return self._form.purpose or self._fields.get("purpose")

    def _demand(self, verdict: Verdict) -> None:
        if verdict.permitted:
            return
        size = self._file.size_bytes if self._file is not None else None
        sha256 = self._file.sha256 if self._file is not None else None
        raise UploadRefused(verdict, sha256=sha256, size_bytes=size)
