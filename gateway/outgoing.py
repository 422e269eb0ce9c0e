"""What goes upstream: written anew from what was parsed, never the caller's own bytes."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterable

from gateway.core.multipart import emit_end, emit_field, emit_file_head
from gateway.core.operations import Body
from gateway.core.target import render_query
from gateway.exchange import Asked, Headers, Outgoing, Upload

# What of a caller's headers Azure gets to see. Unknown ones are dropped, not refused.
_FORWARDED = frozenset({b"accept", b"openai-beta", b"x-ms-client-request-id", b"aoai-evals"})
_PLAIN = re.compile(rb"[\x20-\x7e]{1,1024}").fullmatch


def forwarded_headers(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the request headers that go on to Azure, each name once; odd values are dropped."""
    kept: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _FORWARDED and _PLAIN(value):
            kept.setdefault(name, value)
    return list(kept.items())


def api_version_query(sent: str | None) -> str:
    """Return the query that names the api-version, or an empty one where none is sent."""
    return render_query((("api-version", sent),)) if sent is not None else ""


def path_of(asked: Asked) -> str:
    """Return the path of a request, written from its row and what its placeholders stood for."""
    path = asked.root + asked.operation.below
    for name, value in asked.match.values.items():
        path = path.replace("{" + name + "}", value)
    return path


def rendered(asked: Asked) -> Outgoing:
    """Return the request as it goes upstream."""
    operation = asked.operation
    path = path_of(asked)
    pairs = asked.query
    if asked.route.sent is not None:
        pairs = (*pairs, ("api-version", asked.route.sent))
    query = render_query(pairs)
    if asked.upload is not None:
        return _upload(asked, asked.upload, path, query)
    body = asked.wire
    headers = list(asked.headers)
    if body is not None:
        headers.append((b"content-type", b"application/json"))
    if body is None and operation.body is Body.OPTIONAL_JSON:
        body = b""
    length = len(body) if body is not None else None
    return Outgoing(operation.method, path, query, headers, body, length)


def _upload(asked: Asked, upload: Upload, path: str, query: str) -> Outgoing:
    boundary = os.urandom(24).hex()
    head = b"".join(emit_field(boundary, name, value) for name, value in upload.fields)
    head += emit_file_head(boundary, "file", upload.filename, upload.media_type)
    tail = emit_end(boundary)
    content_type = f"multipart/form-data; boundary={boundary}".encode()

    async def body() -> AsyncIterator[bytes]:
        yield head
        for chunk in upload.file.reader():
            yield chunk
        yield tail

    return Outgoing(
        asked.operation.method,
        path,
        query,
        [*asked.headers, (b"content-type", content_type)],
        body(),
        len(head) + upload.file.size_bytes + len(tail),
    )
