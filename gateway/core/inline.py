"""Content that hides inside a JSON body: pictures as data URLs, files as base64, addresses to
fetch.

A file may come in through the upload door only, where its bytes are judged. A body may still
carry a picture, as vision models need: as a data URL it is decoded strictly, must be what it says
it is, and is written again from what was judged; as an ``https`` address it is passed only for
hosts on the list, because Azure would fetch it past every check. Everything else that brings
bytes or makes Azure bring them is refused with the way out.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.core.canonical import has_nested
from gateway.core.errors import Code, Refusal
from gateway.core.uploads import ContentProof, UploadPolicy

# `image/jpg` is no registered type, but what many programs write.
_IMAGES: Mapping[str, str] = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/gif": "gif",
}
_FORBIDDEN = frozenset({"file_data", "file_url", "input_audio", "file_content", "content_url"})
_FREE = frozenset({"metadata", "parameters", "schema", "arguments"})
# Neither spaces nor backslashes nor anything outside ASCII: URL parsers read those in several ways.
_PLAIN_URL = re.compile(r"[!-\[\]-~]+")
_DATA_URL = re.compile(r"data:([a-z]+/[a-z0-9.+-]+);base64,([A-Za-z0-9+/]*={0,2})")


@dataclass(frozen=True, slots=True)
class _Rules:
    hosts: frozenset[str]
    uploads: UploadPolicy


def judge_inline(
    body: dict[str, object], image_hosts: frozenset[str], uploads: UploadPolicy
) -> None:
    """Check every picture and refuse every other content in `body`; data URLs are rewritten.

    A picture in a data URL is proved like one that is uploaded, by the same policy.
    Raises:
        Refusal: a picture is not what it says, its host is not listed, or a file is inline.
    """
    _walk(body, "", _Rules(image_hosts, uploads))


def _walk(node: object, where: str, rules: _Rules) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in _FREE:
                continue
            path = f"{where}.{key}" if where else str(key)
            if key in _FORBIDDEN and value is not None:
                raise _not_inline(path)
            if key == "image_url":
                node[key] = _picture(value, path, rules)
            else:
                _walk(value, path, rules)
    elif isinstance(node, list) and has_nested(node):
        for index, value in enumerate(node):
            _walk(value, f"{where}[{index}]", rules)


def _picture(value: object, path: str, rules: _Rules) -> object:
    match value:
        case None:
            return None
        case str():
            return _address(value, path, rules)
        case dict() if isinstance(url := value.get("url"), str):
            return {**value, "url": _address(url, f"{path}.url", rules)}
        case _:
            raise Refusal(Code.MALFORMED_REQUEST, f"`{path[:120]}` must hold a URL", param=path)


def _address(url: str, path: str, rules: _Rules) -> str:
    if url[:5].lower() == "data:":
        return _data_url(url, path, rules.uploads)
    try:
        parts = urlsplit(url)
        allowed = parts.scheme == "https" and parts.port in (None, 443) and "@" not in parts.netloc
    except ValueError:
        allowed, parts = False, urlsplit("")
    if not allowed or parts.hostname not in rules.hosts or not _PLAIN_URL.fullmatch(url):
        raise Refusal(
            Code.NOT_PERMITTED,
            f"`{path[:120]}` would make Azure fetch from a host that is not listed (rule "
            "`image-host-not-listed`); send the picture as a data URL",
            param=path[:120],
            rule="image-host-not-listed",
        )
    return url


def _data_url(url: str, path: str, uploads: UploadPolicy) -> str:
    found = _DATA_URL.fullmatch(url)
    media_type = str(found.group(1)) if found else ""
    file_type = uploads.types.get(_IMAGES.get(media_type, ""))
    if found is None or file_type is None:
        raise _bad_picture(path, "it must be `data:image/png|jpeg|gif;base64,…`, strictly encoded")
    try:
        content = base64.b64decode(found.group(2), validate=True)
    except binascii.Error:
        raise _bad_picture(path, "its base64 is not strict") from None
    proof = ContentProof(file_type)
    proof.feed(content)
    verdict = proof.verdict(uploads, len(content))
    if not verdict.permitted:
        raise _bad_picture(path, verdict.message)
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _bad_picture(path: str, why: str) -> Refusal:
    return Refusal(
        Code.UNSUPPORTED_FILE_TYPE,
        f"the picture in `{path[:120]}` is refused: {why} (rule `inline-image`)",
        param=path[:120],
        rule="inline-image",
    )


def _not_inline(path: str) -> Refusal:
    return Refusal(
        Code.NOT_PERMITTED,
        f"`{path[:120]}` brings in a file past the upload check (rule `inline-content`); "
        "upload it with `POST /openai/files` and name its id",
        param=path[:120],
        rule="inline-content",
    )
