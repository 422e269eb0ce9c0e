"""Uploads: what policy does not permit never reaches Azure; what it permits arrives as it was."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.policies import shipped_policies
from tests.street.conftest import Opener
from tests.street.evidence import kept_bytes
from tests.street.living import VERSION, Street

pytestmark = pytest.mark.anyio

TARGET = f"/openai/files?api-version={VERSION}"
MZ = b"MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff"
CSV = b"a,b\n1,2\n"
BOUND = "----story"


def _form(*parts: tuple[str, bytes], end: bool = True) -> bytes:
    pieces = [
        b"--" + BOUND.encode() + b"\r\n" + head.encode() + b"\r\n\r\n" + body + b"\r\n"
        for head, body in parts
    ]
    return b"".join(pieces) + (b"--" + BOUND.encode() + b"--\r\n" if end else b"")


def _file(name: str, media_type: str = "text/csv") -> str:
    quoted = name.replace('"', "%22")
    return (
        f'Content-Disposition: form-data; name="file"; filename="{quoted}"\r\n'
        f"Content-Type: {media_type}"
    )


PURPOSE = ('Content-Disposition: form-data; name="purpose"', b"assistants")


async def _send(street: Street, body: bytes) -> httpx.Response:
    kind = f"multipart/form-data; boundary={BOUND}"
    return await street.blue.post(TARGET, content=body, headers={"content-type": kind})


def _zip(name: str, content: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(name, content)
    return made.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "media_type", "status", "code"),
    [
        ("program.csv", MZ, "text/csv", 415, "unsupported_file_type"),
        ("program.exe", MZ, "application/octet-stream", 415, "unsupported_file_type"),
        ("table.csv", CSV, "application/x-msdownload", 415, "unsupported_file_type"),
        ("table.csv.exe", CSV, "text/csv", 415, "unsupported_file_type"),
        ("table", CSV, "text/csv", 415, "unsupported_file_type"),
        ("picture.png", CSV, "image/png", 415, "unsupported_file_type"),
        ("table.xlsx", _zip("evil.exe", MZ), "", 415, "unsupported_file_type"),
        ("paper.pdf", MZ, "application/pdf", 415, "unsupported_file_type"),
        ("a.csv", b"\x7fELF\x02\x01\x01" + bytes(60), "text/csv", 415, "unsupported_file_type"),
        ("data.json", b'{"a": 1', "application/json", 415, "unsupported_file_type"),
        ("../../etc/passwd.csv", CSV, "text/csv", 400, "malformed_upload"),
        ("a\x00.csv", CSV, "text/csv", 400, "malformed_upload"),
    ],
)
async def test_what_is_refused_is_refused_by_name_and_never_arrives(
    street: Street, name: str, content: bytes, media_type: str, status: int, code: str
) -> None:
    mark = await street.mark()
    file = (_file(name, media_type or "application/octet-stream"), content)
    answer = await _send(street, _form(PURPOSE, file))

    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == code
    assert answer.headers["x-should-retry"] == "false"
    assert await street.journal(mark) == []
    assert list((street.folder / "spool").iterdir()) == []


@pytest.mark.parametrize("purpose_first", [True, False])
async def test_what_is_admitted_arrives_byte_for_byte_whatever_the_order(
    street: Street, purpose_first: bool
) -> None:
    content = "name,wert\nÄrger,1\n".encode() * 5000
    file = (_file("table.csv"), content)
    parts = (PURPOSE, file) if purpose_first else (file, PURPOSE)
    mark = await street.mark()
    answer = await _send(street, _form(*parts))
    assert answer.status_code == 201, answer.text

    (row,) = await street.journal(mark)
    sent = {part["name"]: part for part in row["form"]}
    assert sent["file"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert sent["file"]["filename"] == "table.csv"
    assert set(sent) == {"file", "purpose"}
    assert BOUND not in str(row["headers"])
    back = await street.dated("GET", f"/files/{answer.json()['id']}/content")
    assert back.content == content
    assert list((street.folder / "spool").iterdir()) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form at all",
        _form(PURPOSE),
        _form((_file("table.csv"), CSV)),
        _form(PURPOSE, (_file("table.csv"), CSV), end=False),
        _form(PURPOSE, (_file("a.csv"), CSV), (_file("b.csv"), CSV)),
        _form(PURPOSE, PURPOSE, (_file("a.csv"), CSV)),
        _form(
            PURPOSE, ('Content-Disposition: form-data; name="extra"', b"x"), (_file("a.csv"), CSV)
        ),
        _form(PURPOSE, ('Content-Disposition: form-data; name="file"', CSV)),
        _form(PURPOSE, (_file("a.csv"), CSV)) + b"--" + BOUND.encode() + b"\r\nmore",
        _form(PURPOSE, (_file("a.csv") + "\r\nContent-Transfer-Encoding: base64", CSV)),
        _form((PURPOSE[0], b"fine-tune"), (_file("a.csv"), CSV)),
        _form((PURPOSE[0], b"\xff\xfe"), (_file("a.csv"), CSV)),
    ],
)
async def test_a_form_that_two_could_read_differently_is_refused(
    street: Street, body: bytes
) -> None:
    mark = await street.mark()
    answer = await _send(street, body)

    assert answer.status_code in (400, 415), answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert await street.journal(mark) == []
    assert list((street.folder / "spool").iterdir()) == []


async def test_a_purpose_that_comes_after_the_file_is_judged_with_it(street: Street) -> None:
    mark = await street.mark()
    vision = (PURPOSE[0], b"vision")
    for parts in (((_file("a.csv"), CSV), vision), (vision, (_file("a.csv"), CSV))):
        answer = await _send(street, _form(*parts))
        assert answer.status_code == 415, answer.text

    assert await street.journal(mark) == []


async def test_a_file_too_large_is_refused_at_the_byte(open_street: Opener) -> None:
    text = (shipped_policies() / "uploads.toml").read_text(encoding="utf-8")
    small = "=" + text.replace("file_bytes_max = 536870912", "file_bytes_max = 1000")
    async with open_street(policies={"uploads.toml": small}) as street:
        mark = await street.mark()
        refused = await street.upload(b"a" * 1001, "a.txt", media_type="text/plain")
        assert refused.status_code == 413
        assert refused.json()["error"]["code"] == "file_too_large"
        assert "`1000`" in refused.json()["error"]["message"]
        assert await street.journal(mark) == []
        fits = await street.upload(b"a" * 1000, "a.txt", media_type="text/plain")
        assert fits.status_code == 201


async def test_a_chunked_upload_passes_like_any_other(street: Street) -> None:
    body = _form(PURPOSE, (_file("table.csv"), CSV))

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    answer = await street.blue.post(
        TARGET,
        content=pieces(),
        headers={"content-type": f"multipart/form-data; boundary={BOUND}"},
    )

    assert answer.status_code == 201, answer.text


async def test_what_was_refused_is_kept_for_the_audit_without_content(street: Street) -> None:
    await street.upload(MZ, "program.csv")
    await street.metrics()
    raw = kept_bytes(street.folder)

    assert b"content-mismatch" in raw
    assert MZ not in raw
