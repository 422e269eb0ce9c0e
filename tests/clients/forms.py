"""Uploads as the HTTP libraries of other languages write them, byte for byte.

Each function returns the request's Content-Type and its body for a file called `name`. What a real
gateway meets is decided by these writers, not by the grammar.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import httpx
import requests

PURPOSE = "assistants"
CRLF = b"\r\n"

Form = tuple[str, bytes]


def _lines(*lines: str) -> bytes:
    return b"".join(line.encode() + CRLF for line in lines)


def _is_token(name: str) -> bool:
    return name.isascii() and name.replace(".", "").replace("-", "").replace("_", "").isalnum()


def _dotnet_names(name: str) -> str:
    """Return both names as `ContentDispositionHeaderValue` writes them.

    A token stays bare, ASCII is quoted, anything else becomes an RFC 2047 word in quotes.
    """
    encoded = base64.b64encode(name.encode()).decode()
    quoted = f'"{name}"' if name.isascii() else f'"=?utf-8?B?{encoded}?="'
    extended = quote(name, safe="!#$&+-.^_`|~")
    return f"filename={name if _is_token(name) else quoted}; filename*=utf-8''{extended}"


def openai_dotnet(name: str, content: bytes) -> Form:
    """OpenAI .NET 2.x: the file first, a boundary of 70 characters that needs its quotes.

    Source: openai/openai-dotnet, `MultipartFormDataBinaryContent` and pull request 75; the
    quoted boundary also in its recorded sessions; dotnet/runtime, issue 121484 for the names.
    """
    boundary = "jm8Jp64qjCMdSe18PcsAPBCnQWH74ALl=CVuAKboeuPpkvZnozyxlIZAihYBrDdhJkeNo7"
    body = (
        _lines(
            f"--{boundary}",
            f"Content-Disposition: form-data; name=file; {_dotnet_names(name)}",
            "",
        )
        + content
        + _lines("", f"--{boundary}")
        + _lines("Content-Type: text/plain; charset=utf-8")
        + _lines("Content-Disposition: form-data; name=purpose", "", PURPOSE)
        + _lines(f"--{boundary}--")
    )
    return f'multipart/form-data; boundary="{boundary}"', body


def dotnet_http_client(name: str, content: bytes) -> Form:
    """`MultipartFormDataContent` with `StringContent` and a typed `ByteArrayContent`.

    Source: dotnet/runtime, issues 72447 and 121484 (what it writes, quoted in full there).
    """
    boundary = str(uuid.UUID(int=0x4A424CAC75194CE0B0B8CB117505A4C3))
    body = (
        _lines(f"--{boundary}", "Content-Type: text/plain; charset=utf-8")
        + _lines("Content-Disposition: form-data; name=purpose", "", PURPOSE)
        + _lines(f"--{boundary}", "Content-Type: text/csv")
        + _lines(f"Content-Disposition: form-data; name=file; {_dotnet_names(name)}", "")
        + content
        + _lines("", f"--{boundary}--")
    )
    return f'multipart/form-data; boundary="{boundary}"', body


def dotnet_without_last_line_end(name: str, content: bytes) -> Form:
    """The same, ended by the close delimiter alone.

    Source: RFC 2046, section 5.1.1: what follows the close delimiter belongs to the epilogue, and
    an epilogue is optional.
    """
    content_type, body = dotnet_http_client(name, content)
    return content_type, body.removesuffix(CRLF)


def azure_assistants_dotnet(name: str, content: bytes) -> Form:
    """Azure.AI.OpenAI.Assistants (beta): bare names, and every file declared `text/plain`.

    Source: Azure/azure-sdk-for-net, `UploadFileRequest.Serialization.cs` of that package.
    """
    boundary = "0c7a1b52-1f0e-4b07-8a4b-9d1b2f6a5f10"
    body = (
        _lines(f"--{boundary}", "Content-Type: text/plain")
        + _lines("Content-Disposition: form-data; name=purpose", "", PURPOSE)
        + _lines(f"--{boundary}")
        + _lines(f"Content-Disposition: form-data; name=file; filename={name}")
        + _lines("Content-Type: text/plain", "")
        + content
        + _lines("", f"--{boundary}--")
    )
    return f'multipart/form-data; boundary="{boundary}"', body


def okhttp(name: str, content: bytes) -> Form:
    """OkHttp 3 and 4, under most of Java's and Kotlin's clients: a length on every part.

    Source: square/okhttp, `MultipartBody.writeOrCountBytes` (`Content-Length` of a part whose
    length is known, until 5.0) and `appendQuotedString`.
    """
    boundary = "f8a1c1f2-6d7c-4c57-9d1a-4d3b6a3c9b11"
    quoted = name.replace('"', "%22")
    body = (
        _lines(f"--{boundary}", 'Content-Disposition: form-data; name="purpose"')
        + _lines(f"Content-Length: {len(PURPOSE)}", "", PURPOSE)
        + _lines(f"--{boundary}")
        + _lines(f'Content-Disposition: form-data; name="file"; filename="{quoted}"')
        + _lines("Content-Type: text/csv; charset=utf-8", f"Content-Length: {len(content)}", "")
        + content
        + _lines("", f"--{boundary}--")
    )
    return f"multipart/form-data; boundary={boundary}", body


def go(name: str, content: bytes) -> Form:
    r"""Go's `multipart.Writer`: `WriteField`, `CreateFormFile`, a quote as ``\"``.

    Source: the Go standard library, `mime/multipart/writer.go`.
    """
    boundary = "3f6d4dc0493ecb1b91948349b4fe5223abd6892c9b21a439419764c2d418"
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    body = (
        _lines(f"--{boundary}")
        + _lines(f'Content-Disposition: form-data; name="file"; filename="{quoted}"')
        + _lines("Content-Type: application/octet-stream", "")
        + content
        + _lines("", f"--{boundary}", 'Content-Disposition: form-data; name="purpose"', "", PURPOSE)
        + _lines(f"--{boundary}--")
    )
    return f"multipart/form-data; boundary={boundary}", body


def apache_http_client(name: str, content: bytes) -> Form:
    """Apache HttpClient 5, `HttpMultipartMode.EXTENDED`: `charset` on fields, UTF-8 as it stands.

    Its boundary begins with no dash and may hold dashes and underscores.

    Source: apache/httpcomponents-client, `MultipartEntityBuilder` and `StringBody`.
    """
    boundary = "-U7pR_ZyQk0m2TnYt3cJwq9Vb1sLx8"
    body = (
        _lines(f"--{boundary}", 'Content-Disposition: form-data; name="purpose"')
        + _lines("Content-Type: text/plain; charset=ISO-8859-1", "", PURPOSE)
        + _lines(f"--{boundary}")
        + _lines(f'Content-Disposition: form-data; name="file"; filename="{name}"')
        + _lines("Content-Type: application/octet-stream", "")
        + content
        + _lines("", f"--{boundary}--")
    )
    return f"multipart/form-data; boundary={boundary}; charset=UTF-8", body


def browser(name: str, content: bytes) -> Form:
    """A browser's `FormData`, and Node's: dashes before the boundary, a quote as ``%22``.

    Source: WHATWG HTML, "multipart/form-data encoding algorithm".
    """
    boundary = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
    quoted = name.replace('"', "%22")
    body = (
        _lines(f"--{boundary}", 'Content-Disposition: form-data; name="purpose"', "", PURPOSE)
        + _lines(f"--{boundary}")
        + _lines(f'Content-Disposition: form-data; name="file"; filename="{quoted}"')
        + _lines("Content-Type: text/csv", "")
        + content
        + _lines("", f"--{boundary}--")
    )
    return f"multipart/form-data; boundary={boundary}", body


def _typed(request: Any, body: object) -> Form:
    assert isinstance(body, bytes)
    return str(request.headers["content-type"]), body


def python_httpx(name: str, content: bytes) -> Form:
    """What httpx writes, by httpx itself."""
    files = {"file": (name, content)}
    request = httpx.Request("POST", "http://x", data={"purpose": PURPOSE}, files=files)
    return _typed(request, request.read())


def python_requests(name: str, content: bytes) -> Form:
    """What `requests` writes, by itself: no type on the file."""
    files = {"file": (name, content)}
    request = requests.Request("POST", "http://x", data={"purpose": PURPOSE}, files=files).prepare()
    return _typed(request, request.body)


WRITERS: Mapping[str, Callable[[str, bytes], Form]] = {
    writer.__name__: writer
    for writer in (
        openai_dotnet,
        dotnet_http_client,
        dotnet_without_last_line_end,
        azure_assistants_dotnet,
        okhttp,
        go,
        apache_http_client,
        browser,
        python_httpx,
        python_requests,
    )
}
