"""Content inside JSON: judged pictures pass, every other way to bring bytes is refused."""

from __future__ import annotations

import base64
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import Code, Refusal
from gateway.core.inline import judge_inline
from gateway.policies import load_policies
from tests.core.test_uploads import GIF, JPEG, PDF, PNG

UPLOADS = load_policies(None).uploads
HOSTS = frozenset({"pictures.example", "cdn.pictures.example"})


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def url_of(content: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{encoded(content)}"


def chat(image_url: object) -> dict[str, object]:
    return {"messages": [{"content": [{"type": "image_url", "image_url": image_url}]}]}


def judged(body: dict[str, object], hosts: frozenset[str] = HOSTS) -> dict[str, object]:
    before = deepcopy(body)
    judge_inline(body, hosts, UPLOADS)
    assert body.keys() == before.keys()
    return body


def refusal(body: dict[str, object]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        judge_inline(body, HOSTS, UPLOADS)
    return caught.value


# pictures


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (PNG, "image/png"),
        (JPEG, "image/jpeg"),
        (GIF, "image/gif"),
        *((PNG + bytes(n), "image/png") for n in range(3)),
    ],
)
def test_a_picture_that_is_what_it_says_passes_in_both_shapes(
    content: bytes, media_type: str
) -> None:
    url = url_of(content, media_type)
    plain, wrapped = chat(url), chat({"url": url, "detail": "low"})
    assert judged(deepcopy(plain)) == plain
    assert judged(deepcopy(wrapped)) == wrapped


def test_a_picture_is_written_again_from_what_was_judged() -> None:
    # The last character of `…AB==` holds four bits that belong to no byte.
    content = PNG + bytes(3 - (len(PNG) + 2) % 3)
    assert encoded(content).endswith("A==")
    loose = "data:image/png;base64," + encoded(content)[:-3] + "B=="
    body = judged(chat(loose))
    assert body == chat(url_of(content))
    assert body != chat(loose)


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (JPEG, "image/png"),
        (PNG, "image/jpeg"),
        (PNG, "image/gif"),
        (b"%PDF-1.7", "image/png"),
        (b"", "image/png"),
        (PNG[:7], "image/png"),
        (b" " + PNG, "image/png"),
        # What only begins like a picture: the same bytes are refused as an upload.
        (PNG[:8] + b"MZ\x90\x00" * 20, "image/png"),
        (b"GIF89a" + b"PK\x03\x04" * 20, "image/gif"),
        (PNG + PDF, "image/png"),
        (b"RIFF\x00\x00\x00\x00WEBP", "image/webp"),
        (b"<svg/>", "image/svg+xml"),
        (b"%PDF-1.7", "application/pdf"),
        (PNG, "text/plain"),
    ],
)
def test_a_picture_that_is_something_else_or_of_no_listed_type_is_refused(
    content: bytes, media_type: str
) -> None:
    refused = refusal(chat({"url": url_of(content, media_type)})).refused
    assert (refused.code, refused.rule) == (Code.UNSUPPORTED_FILE_TYPE, "inline-image")
    assert refused.param == "messages[0].content[0].image_url.url"
    assert encoded(content)[:8] not in refused.message or not content


ENCODED = encoded(PNG + b"\xfb\xff\xfe")


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64," + ENCODED.replace("+", "-").replace("/", "_"),
        "data:image/png;base64," + encoded(PNG + b"x").rstrip("="),
        "data:image/png;base64," + encoded(PNG)[:4] + "\n" + encoded(PNG)[4:],
        "data:image/png;base64, " + encoded(PNG),
        "data:image/png;base64," + encoded(PNG) + " ",
        "data:image/png;base64," + encoded(PNG) + "====",
        "data:image/png;base64," + encoded(PNG)[:3] + "=" + encoded(PNG)[3:],
        "data:image/png;base64," + encoded(PNG)[:5],
        "data:image/png;base64," + encoded(PNG).replace("i", "%69"),
        "data:image/png;charset=utf-8;base64," + encoded(PNG),
        "data:image/png;BASE64," + encoded(PNG),
        "data:image/PNG;base64," + encoded(PNG),
        "DATA:image/png;base64," + encoded(PNG),
        "dAtA:text/html;base64," + encoded(PNG),
        "data:;base64," + encoded(PNG),
        "data:image/png," + encoded(PNG),
        "data:image/png",
        "data:",
    ],
)
def test_a_data_url_that_is_not_strictly_encoded_is_refused(url: str) -> None:
    for body in (chat(url), chat({"url": url})):
        assert refusal(body).refused.rule == "inline-image"


@given(st.binary(max_size=30), st.sampled_from([PNG, JPEG, GIF, b""]))
def test_what_passes_decodes_to_exactly_what_was_judged(content: bytes, head: bytes) -> None:
    url = url_of(head + content)
    try:
        body = judged(chat(url))
    except Refusal:
        assert content or not head.startswith(PNG[:8])
        return
    assert body == chat(url)
    assert (head + content).startswith(PNG[:8])


# addresses


@pytest.mark.parametrize(
    "url",
    [
        "https://pictures.example/a.png",
        "https://pictures.example:443/a.png?b=c#d",
        "https://cdn.pictures.example/",
        "HTTPS://Pictures.Example/a.png",
        "https://pictures.example",
    ],
)
def test_an_address_of_a_listed_host_passes_unchanged(url: str) -> None:
    assert judged(chat(url)) == chat(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://pictures.example/a.png",
        "https://evil.example/a.png",
        "https://pictures.example.evil.example/",
        "https://evilpictures.example/",
        "https://sub.pictures.example/",
        "https://pictures.example./",
        "https://user@pictures.example/",
        "https://pictures.example@evil.example/",
        "https://evil.example@pictures.example/",
        "https://:@pictures.example/",
        "https://pictures.example:8443/",
        "https://pictures.example:80/",
        "https://pictures.example:x/",
        "https://pictures.example:99999/",
        "https://pictures.example\\@evil.example/",
        "https:\\\\pictures.example/",
        "https:/pictures.example/",
        "https:///pictures.example/",
        "https:pictures.example",
        "//pictures.example/a.png",
        "pictures.example/a.png",
        "/a.png",
        "ftp://pictures.example/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://[::1]/",
        "https://[pictures.example/",
        "https://169.254.169.254/metadata",
        "https://127.0.0.1/",
        "https://pictures.example/\n",
        "https://pictures\t.example/",
        " https://pictures.example/",
        "https://pictures.example/a b",
        "https://pictures.example /",
        " data:image/png;base64,",
        "https://pictures。example/",
        "https://ｐictures.example/",
        "https://pictures.example/\u202e",
        "https://%70ictures.example/",
        "",
    ],
)
def test_an_address_of_any_other_form_or_host_is_refused(url: str) -> None:
    for body in (chat(url), chat({"url": url})):
        refused = refusal(body).refused
        assert (refused.code, refused.rule) == (Code.NOT_PERMITTED, "image-host-not-listed")


def test_without_listed_hosts_no_address_passes() -> None:
    with pytest.raises(Refusal):
        judge_inline(chat("https://pictures.example/"), frozenset(), UPLOADS)


@pytest.mark.parametrize(
    "value", [5, True, [], ["https://pictures.example/"], {}, {"url": None}, {"url": 5}]
)
def test_a_picture_field_that_holds_no_address_is_refused(value: object) -> None:
    assert refusal(chat(value)).refused.code is Code.MALFORMED_REQUEST


def test_an_empty_picture_field_passes() -> None:
    assert judged(chat(None)) == chat(None)


# files


@pytest.mark.parametrize(
    "key", ["file_data", "file_url", "input_audio", "file_content", "content_url"]
)
@pytest.mark.parametrize(
    "nest",
    [
        lambda part: part,
        lambda part: {"messages": [{"content": [{"type": "file", "file": part}]}]},
        lambda part: {"input": [{"content": [part]}]},
        lambda part: {"input": [{"type": "function_call_output", "output": [part]}]},
        lambda part: {"additional_messages": [{"content": [part]}]},
        lambda part: {"thread": {"messages": [{"content": [part]}]}},
        lambda part: {"prompt": {"variables": {"document": part}}},
        lambda part: {"field_of_tomorrow": [[part]]},
    ],
)
def test_a_file_that_is_brought_in_by_a_body_is_refused_wherever_it_stands(
    key: str, nest: object
) -> None:
    assert callable(nest)
    values: list[object] = ["data:application/pdf;base64,JVBERg==", "", {}, 0, False]
    for value in values:
        refused = refusal(nest({"type": "input_file", key: value})).refused
        assert (refused.code, refused.rule) == (Code.NOT_PERMITTED, "inline-content")
        assert str(refused.param).endswith(key)
        assert "JVBERg" not in refused.message


def test_a_picture_is_judged_wherever_it_stands() -> None:
    bad = {"image_url": "http://evil.example"}
    bodies: list[dict[str, object]] = [
        {"input": [{"type": "computer_call_output", "output": bad}]},
        {"tools": [{"type": "image_generation", "input_image_mask": bad}]},
        {"prompt": {"variables": {"picture": bad}}},
    ]
    for body in bodies:
        assert refusal(body).refused.rule == "image-host-not-listed"


def test_what_callers_may_fill_freely_is_left_alone() -> None:
    free: dict[str, object] = {
        "metadata": {"file_url": "x", "image_url": "http://evil.example"},
        "tools": [{"function": {"parameters": {"properties": {"image_url": {}, "file_data": {}}}}}],
        "response_format": {"json_schema": {"schema": {"properties": {"file_url": {}}}}},
        "file_data": None,
        "messages": [{"content": "file_data: https://evil.example"}],
    }
    assert judged(deepcopy(free)) == free
