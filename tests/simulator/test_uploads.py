"""Uploads: what was announced holds at the end, and nothing is a file before."""

import hashlib
from typing import Any

import httpx
import pytest

from tests.simulator.resource import START_S, Resource

ANNOUNCED = {"filename": "rows.csv", "purpose": "assistants", "bytes": 6, "mime_type": "text/csv"}


def announce(azure: Resource, **more: Any) -> str:
    answer = azure.v1("POST", "/uploads", {**ANNOUNCED, **more})
    assert answer.json()["status"] == "pending"
    return f"/uploads/{answer.json()['id']}"


def send_part(azure: Resource, upload: str, content: bytes) -> httpx.Response:
    files = {"data": ("blob", content, "application/octet-stream")}
    return azure.http.post(f"/openai/v1{upload}/parts", files=files)


def part_id(azure: Resource, upload: str, content: bytes) -> str:
    return str(send_part(azure, upload, content).json()["id"])


def test_the_parts_are_put_together_in_the_order_told_at_the_end(azure: Resource) -> None:
    upload = announce(azure)
    last, first = part_id(azure, upload, b"def"), part_id(azure, upload, b"abc")
    assert azure.v1("GET", "/files").json()["data"] == []
    digest = hashlib.md5(b"abcdef").hexdigest()
    body = {"part_ids": [first, last], "md5": digest}
    done = azure.v1("POST", f"{upload}/complete", body).json()
    assert (done["status"], done["file"]["bytes"]) == ("completed", 6)
    assert (done["file"]["filename"], done["file"]["purpose"]) == ("rows.csv", "assistants")
    content = azure.v1("GET", f"/files/{done['file']['id']}/content").content
    assert content == b"abcdef"
    assert send_part(azure, upload, b"x").status_code == 400


@pytest.mark.parametrize(
    ("sent", "body", "words"),
    [
        ([b"abc"], {"part_ids": [0]}, "Expected 6 bytes, but the parts have 3."),
        ([b"abcdef"], {"part_ids": [0], "md5": "0" * 32}, "md5"),
        ([b"abc"], {"part_ids": [0, 0]}, "twice"),
        ([b"abcdef"], {"part_ids": ["part_none"]}, "part_none"),
        ([b"abcdef"], {}, "part_ids"),
    ],
)
def test_an_upload_that_is_not_what_was_announced_is_no_file(
    azure: Resource, sent: list[bytes], body: dict[str, Any], words: str
) -> None:
    upload = announce(azure)
    ids = [part_id(azure, upload, content) for content in sent]
    if "part_ids" in body:
        body = {**body, "part_ids": [ids[x] if x in (0, 1) else x for x in body["part_ids"]]}
    answer = azure.v1("POST", f"{upload}/complete", body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]
    assert azure.v1("GET", "/files").json()["data"] == []


def test_an_upload_can_be_given_up(azure: Resource) -> None:
    upload = announce(azure)
    assert azure.v1("POST", f"{upload}/cancel").json()["status"] == "cancelled"
    assert send_part(azure, upload, b"abcdef").status_code == 400
    assert azure.v1("POST", f"{upload}/cancel").status_code == 400


def test_an_upload_expires_after_an_hour(azure: Resource) -> None:
    answer = azure.v1("POST", "/uploads", ANNOUNCED).json()
    assert answer["expires_at"] == START_S + 3600
    azure.advance(3599)
    upload = f"/uploads/{answer['id']}"
    first = part_id(azure, upload, b"abcdef")
    azure.advance(1)
    refused = azure.v1("POST", f"{upload}/complete", {"part_ids": [first]})
    assert "expired" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"purpose": "user_data"}, "Invalid value for purpose."),
        ({"bytes": 0}, "Invalid 'bytes'"),
        ({"bytes": 9 * 1024**3 + 1}, "Invalid 'bytes'"),
        ({"bytes": True}, "expected an integer, but got a boolean"),
        ({"mime_type": None}, "'mime_type'"),
    ],
)
def test_an_announcement_must_be_whole(azure: Resource, change: dict[str, Any], words: str) -> None:
    answer = azure.v1("POST", "/uploads", {**ANNOUNCED, **change})
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def test_a_part_has_64_mebibytes_at_most(azure: Resource) -> None:
    upload = announce(azure)
    assert send_part(azure, upload, bytes(64 * 1024**2 + 1)).status_code == 413
    empty = azure.http.post(f"/openai/v1{upload}/parts", files={"other": ("a", b"", "a/b")})
    assert empty.json()["error"]["message"] == "Missing required parameter: 'data'."
    assert azure.v1("POST", "/uploads/upload_none/cancel").status_code == 404


def test_uploads_need_a_version_that_has_them(azure: Resource) -> None:
    old = azure.dated("POST", "/uploads", ANNOUNCED, version="2024-07-01-preview")
    assert old.status_code == 404
    new = azure.dated("POST", "/uploads", ANNOUNCED, version="2024-08-01-preview").json()
    data = {"data": ("blob", b"abcdef", "text/csv")}
    query = "api-version=2024-10-21"
    sent = azure.http.post(f"/openai/uploads/{new['id']}/parts?{query}", files=data).json()
    body = {"part_ids": [sent["id"]]}
    target = f"/uploads/{new['id']}/complete"
    done = azure.dated("POST", target, body, version="2024-10-21").json()
    assert done["file"]["id"].startswith("assistant-")
