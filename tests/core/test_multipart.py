"""A form has one reading, whoever sent it and however the network cut it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.disposition import Disposition, name_fault, parse_disposition
from gateway.core.errors import Code, Refusal
from gateway.core.multipart import (
    FormLimits,
    FormReader,
    PartBegins,
    PartData,
    PartEnds,
    boundary_of,
    emit_end,
    emit_field,
    emit_file_head,
)

Part = tuple[str, str | None, str | None, bytes]

FILE = b'Content-Disposition: form-data; name="file"; filename="a.csv"'
PURPOSE = b'--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
GOOD = PURPOSE + b"--B\r\n" + FILE + b"\r\nContent-Type: text/csv\r\n\r\na,b\r\n--B--\r\n"
GOOD_PARTS: list[Part] = [
    ("purpose", None, None, b"assistants"),
    ("file", "a.csv", "text/csv", b"a,b"),
]


def parts_of(
    chunks: Iterable[bytes], boundary: str = "B", limits: FormLimits | None = None
) -> list[Part]:
    reader = FormReader(boundary, limits)
    events = [event for chunk in chunks for event in reader.feed(chunk)]
    events.extend(reader.finish())
    parts: list[Part] = []
    head, content = PartBegins("", None, None), b""
    for event in events:
        match event:
            case PartBegins():
                head, content = event, b""
            case PartData(data):
                assert data
                content += data
            case PartEnds(size_bytes):
                assert size_bytes == len(content)
                parts.append((head.name, head.filename, head.media_type, content))
    return parts


def verdict(chunks: Iterable[bytes], limits: FormLimits | None = None) -> list[Part] | Code:
    try:
        return parts_of(chunks, limits=limits)
    except Refusal as refusal:
        return refusal.refused.code


def form(*parts: bytes) -> bytes:
    return b"".join(b"--B\r\n" + part + b"\r\n" for part in parts) + b"--B--\r\n"


def file_named(parameters: str) -> bytes:
    head = f'Content-Disposition: form-data; name="file"; {parameters}'
    return form(head.encode() + b"\r\n\r\na,b")


ACCEPTED: dict[str, tuple[str, bytes, list[Part]]] = {
    "httpx and openai-python": (
        "multipart/form-data; boundary=d7f2b3aa01",
        b'--d7f2b3aa01\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
        b'--d7f2b3aa01\r\nContent-Disposition: form-data; name="file"; '
        + 'filename="数据.csv"\r\n'.encode()
        + b"Content-Type: text/csv\r\n\r\na,b\r\n--d7f2b3aa01--\r\n",
        [("purpose", None, None, b"assistants"), ("file", "数据.csv", "text/csv", b"a,b")],
    ),
    "curl": (
        "multipart/form-data; boundary=------------------------aB3",
        b"--------------------------aB3\r\n"
        b'Content-Disposition: form-data; name="file"; filename="a%22b.py"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n\r\n--\r\n"
        b"--------------------------aB3\r\n"
        b'Content-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
        b"--------------------------aB3--\r\n",
        [
            ("file", 'a"b.py', "application/octet-stream", b"\r\n--"),
            ("purpose", None, None, b"assistants"),
        ],
    ),
    "aiohttp": (
        "multipart/form-data; boundary=0f1e",
        b"--0f1e\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b'Content-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b"--0f1e\r\nContent-Type: application/octet-stream\r\n"
        b'Content-Disposition: form-data; name="file"; filename="my%20file.jsonl"\r\n'
        b"\r\n{}\r\n--0f1e--\r\n",
        [
            ("purpose", None, "text/plain", b"batch"),
            ("file", "my%20file.jsonl", "application/octet-stream", b"{}"),
        ],
    ),
    ".NET": (
        'multipart/form-data; boundary="Yf2v=dlB_"',
        b"--Yf2v=dlB_\r\nContent-Disposition: form-data; name=file; filename=a.csv; "
        b"filename*=utf-8''a.csv\r\n\r\na,b\r\n"
        b"--Yf2v=dlB_\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Disposition: form-data; name=purpose\r\n\r\nassistants\r\n"
        b"--Yf2v=dlB_--\r\n",
        [("file", "a.csv", None, b"a,b"), ("purpose", None, "text/plain", b"assistants")],
    ),
    ".NET with a name that is not ASCII": (
        'multipart/form-data; boundary="b"',
        b"--b\r\nContent-Disposition: form-data; name=file; "
        b"filename=\"=?utf-8?B?5L2g5aW9LnR4dA==?=\"; filename*=utf-8''%E4%BD%A0%E5%A5%BD.txt"
        b"\r\n\r\nx\r\n--b--\r\n",
        [("file", "你好.txt", None, b"x")],
    ),
    "Go, which escapes a quote": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a\\"b.txt"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\nx\r\n--b--\r\n",
        [("file", 'a"b.txt', "application/octet-stream", b"x")],
    ),
    "a part that tells its length": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n'
        b"Content-Length: 1\r\n\r\nx\r\n--b--\r\n",
        [("file", "a.txt", None, b"x")],
    ),
    "a file of no bytes": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n'
        b"\r\n\r\n--b--\r\n",
        [("file", "a.txt", None, b"")],
    ),
    "no last line break": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nx\r\n--b--',
        [("file", "a.txt", None, b"x")],
    ),
}

REFUSED: dict[str, bytes] = {
    "nothing at all": b"",
    "no part": b"--B--\r\n",
    "another boundary": GOOD.replace(b"--B", b"--C"),
    "no final boundary": GOOD.removesuffix(b"--B--\r\n"),
    "a truncated final boundary": GOOD.removesuffix(b"-\r\n"),
    "line feeds alone": GOOD.replace(b"\r\n", b"\n"),
    "a line feed after the first boundary": GOOD.replace(b"--B\r\n", b"--B\n", 1),
    "text before the first boundary": b"preamble\r\n" + GOOD,
    "a line break before the first boundary": b"\r\n" + GOOD,
    "text after the final boundary": GOOD + b"epilogue",
    "a second line break after the final boundary": GOOD + b"\r\n",
    "a part after the final boundary": GOOD + PURPOSE.replace(b"purpose", b"other") + b"--B--\r\n",
    "a second final boundary": GOOD + b"--B--\r\n",
    "a final boundary that follows another at once": GOOD.removesuffix(b"\r\n") + b"\r\n--B--",
    "text behind a boundary": GOOD.replace(b"assistants\r\n--B", b"assistants\r\n--Bx"),
    "a blank behind a boundary": GOOD.replace(b"assistants\r\n--B", b"assistants\r\n--B "),
    "the end inside a part's head": PURPOSE + b"--B\r\n" + FILE + b"\r\n--B--\r\n",
    "a part without a head": form(b"\r\nx"),
    "a part without Content-Disposition": form(b"Content-Type: text/plain\r\n\r\nx"),
    "a part that is an attachment": form(FILE.replace(b"form-data", b"attachment") + b"\r\n\r\nx"),
    "a part without a name": form(b'Content-Disposition: form-data; filename="a.csv"\r\n\r\nx'),
    "a part with an empty name": form(b'Content-Disposition: form-data; name=""\r\n\r\nx'),
    "two Content-Dispositions": form(FILE + b"\r\n" + FILE + b"\r\n\r\nx"),
    "two Content-Types": form(FILE + b"\r\nContent-Type: a/b\r\nContent-Type: a/c\r\n\r\nx"),
    "a transfer encoding": form(FILE + b"\r\nContent-Transfer-Encoding: base64\r\n\r\nYQ=="),
    "a content encoding": form(FILE + b"\r\nContent-Encoding: gzip\r\n\r\nx"),
    "a nested multipart": form(FILE + b"\r\nContent-Type: multipart/mixed; boundary=C\r\n\r\nx"),
    "a message in a part": form(FILE + b"\r\nContent-Type: message/rfc822\r\n\r\nx"),
    "a Content-Type that is none": form(FILE + b"\r\nContent-Type: text\r\n\r\nx"),
    "a folded header": form(FILE + b"\r\n ; x=y\r\n\r\nx"),
    "a header without a colon": form(FILE + b"\r\nhello\r\n\r\nx"),
    "a header that is not UTF-8": form(FILE.replace(b"a.csv", b"\xff.csv") + b"\r\n\r\nx"),
    "a line feed inside a header": form(FILE + b"; x\ny\r\n\r\nx"),
    "a carriage return in the file name": form(FILE.replace(b"a.c", b"a\r.c") + b"\r\n\r\nx"),
    "a NUL in the file name": form(FILE.replace(b"a.csv", b"a.exe\0.csv") + b"\r\n\r\nx"),
    "a NUL behind the media type": form(FILE + b"\r\nContent-Type: text/csv\0\r\n\r\nx"),
    "more headers than a part needs": form(FILE + b"".join(b"\r\nX-%d: 1" % n for n in range(9))),
    "a header of 16 KiB": form(FILE + b"; x=" + b"y" * 16_384 + b"\r\n\r\nx"),
    "a length that is too long": form(FILE + b"\r\nContent-Length: 9\r\n\r\nx"),
    "a length that is too short": form(FILE + b"\r\nContent-Length: 1\r\n\r\nxyz"),
    "a field twice": form(*[PURPOSE.removeprefix(b"--B\r\n").removesuffix(b"\r\n")] * 2),
    "a file twice": form(FILE + b"\r\n\r\nx", FILE + b"\r\n\r\ny"),
    "more parts than a form needs": form(
        *(b'Content-Disposition: form-data; name="f%d"\r\n\r\nx' % number for number in range(17))
    ),
    "two file names": file_named('filename="a.csv"; filename="evil.exe"'),
    "two file names in two cases": file_named('filename="a.csv"; FileName="evil.exe"'),
    "two field names": file_named('filename="a.csv"; name="other"'),
    "filename* that disagrees": file_named("filename=\"a.csv\"; filename*=utf-8''evil.exe"),
    "filename* alone": file_named("filename*=utf-8''a.csv"),
    "filename* in another charset": file_named("filename=\"a.csv\"; filename*=utf-7''a.csv"),
    "filename* that does not decode": file_named("filename=\"a.csv\"; filename*=utf-8''%ff.csv"),
    "filename* without a charset": file_named('filename="a.csv"; filename*=a.csv'),
    "a file name in pieces": file_named('filename*0="a"; filename*1=".csv"'),
    "a parameter nobody knows": file_named('filename="a.csv"; size=3'),
    "an open quote": file_named('filename="a.csv'),
    "text behind a closed quote": file_named('filename="a.csv"x'),
    "a dangling semicolon": file_named('filename="a.csv";'),
    "a bare token with a blank": file_named("filename=a b.csv"),
    "an empty file name": file_named('filename=""'),
    "a path": file_named('filename="../a.csv"'),
    "a Windows path": file_named(r'filename="C:\\a.csv"'),
    "a line break written as HTML does": file_named('filename="a%0A.csv"'),
    "a percent-encoded NUL": file_named('filename="evil.exe%00.csv"'),
    "a percent-encoded path": file_named('filename="..%2Fa.csv"'),
    "a percent-encoded extension": file_named('filename="a.csv%2Eexe"'),
    "a percent-encoded extension, twice": file_named('filename="a.csv%252Eexe"'),
    "an encoded-word beside plain text": file_named('filename="=?utf-8?B?YQ==?=.csv"'),
    "an encoded-word that does not decode": file_named('filename="=?utf-8?B?Y?="'),
    "an encoded-word in another charset": file_named('filename="=?utf-7?Q?a.csv?="'),
    "a mark that turns the text": file_named('filename="\u202evsc.exe.csv"'),
}


@pytest.mark.parametrize("client", ACCEPTED)
def test_what_real_clients_send_is_read(client: str) -> None:
    content_type, body, expected = ACCEPTED[client]
    assert parts_of([body], boundary_of(content_type)) == expected


@pytest.mark.parametrize("fault", REFUSED)
@pytest.mark.parametrize("size_bytes", [1, 2, 7, 64, 1 << 20])
def test_what_could_be_read_in_two_ways_is_refused(fault: str, size_bytes: int) -> None:
    body = REFUSED[fault]
    chunks = [body[at : at + size_bytes] for at in range(0, len(body), size_bytes)]
    with pytest.raises(Refusal) as caught:
        parts_of(chunks)
    assert caught.value.refused.code is Code.MALFORMED_UPLOAD
    assert caught.value.refused.code.status == 400


@pytest.mark.parametrize("fault", REFUSED)
def test_a_refusal_says_what_is_wrong_without_quoting_the_body(fault: str) -> None:
    with pytest.raises(Refusal) as caught:
        parts_of([REFUSED[fault]])
    message = caught.value.refused.message
    assert message[:1].islower() or message.startswith("`")
    assert not message.endswith(".")
    assert not any(word in message for word in ("evil", "assistants", "preamble", "epilogue"))


@given(
    body=st.one_of(
        st.sampled_from([GOOD, *(body for _, body, _ in ACCEPTED.values()), *REFUSED.values()]),
        st.lists(
            st.sampled_from(
                [b"--B", b"\r\n", b"\r", b"\n", b"--", FILE, b"x", b"\r\n\r\n", b"-", PURPOSE]
            ),
            max_size=12,
        ).map(lambda pieces: PURPOSE + b"--B\r\n" + FILE + b"\r\n\r\n" + b"".join(pieces)),
    ),
    cuts=st.lists(st.integers(0, 600), max_size=12),
)
def test_any_chunking_of_the_same_body_gets_the_same_verdict(body: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    chunks = [body[a:b] for a, b in pairwise(edges)]
    assert verdict(chunks) == verdict([body])


@given(cuts=st.sets(st.integers(1, len(GOOD) - 1)))
def test_a_good_form_is_read_however_it_is_cut(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(GOOD)]
    assert parts_of(GOOD[a:b] for a, b in pairwise(edges)) == GOOD_PARTS


file_names = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp"]), min_size=1, max_size=30
).filter(lambda name: name_fault(name) is None and "%22" not in name and "=?" not in name)


@given(name=file_names, value=st.text(max_size=50), content=st.binary(max_size=200))
def test_a_form_written_anew_says_the_same(name: str, value: str, content: bytes) -> None:
    boundary = "0123456789abcdef0123456789abcdef"
    body = (
        emit_field(boundary, "purpose", value)
        + emit_field(boundary, "expires_after[anchor]", "created_at")
        + emit_file_head(boundary, "file", name, "text/csv")
        + content
        + emit_end(boundary)
    )
    assert parts_of([body], boundary) == [
        ("purpose", None, None, value.encode()),
        ("expires_after[anchor]", None, None, b"created_at"),
        ("file", name, "text/csv", content),
    ]


def test_a_file_above_the_limit_is_too_large_and_a_field_above_it_malformed() -> None:
    limits = FormLimits(file_bytes_max=3, field_bytes_max=10)
    assert verdict([GOOD], limits) == GOOD_PARTS
    assert verdict([GOOD], FormLimits(file_bytes_max=2)) is Code.FILE_TOO_LARGE
    assert verdict([GOOD], FormLimits(field_bytes_max=9)) is Code.MALFORMED_UPLOAD


def test_the_written_form_ends_with_a_line_break_and_keeps_names_in_utf_8() -> None:
    assert emit_end("B") == b"\r\n--B--\r\n"
    assert 'filename="数 %22.csv"'.encode() in emit_file_head("B", "file", '数 ".csv', "text/csv")


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", "abc"),
        ("Multipart/Form-Data;BOUNDARY=abc", "abc"),
        ('multipart/form-data; boundary="a b=c"', "a b=c"),
        ("multipart/form-data; boundary=----WebKitFormBoundary7MA4", "----WebKitFormBoundary7MA4"),
        ("multipart/form-data; charset=utf-8; boundary=----=_Part_1", "----=_Part_1"),
        ("multipart/form-data; boundary=" + "x" * 70, "x" * 70),
    ],
)
def test_a_boundary_is_read_as_real_clients_write_it(content_type: str, boundary: str) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "multipart/mixed; boundary=abc",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/form-data; boundary=abc; boundary=def",
        "multipart/form-data; boundary=abc, multipart/form-data; boundary=def",
        "multipart/form-data; boundary=abc,multipart/form-data;boundary=def",
        "multipart/form-data; boundary*=utf-8''abc",
        "multipart/form-data; boundary*0=a; boundary*1=b",
        "multipart/form-data; boundary=" + "x" * 71,
        'multipart/form-data; boundary="abc "',
        'multipart/form-data; boundary="a\\"c"',
        'multipart/form-data; boundary="abc',
        "multipart/form-data; boundary=a b",
        "multipart/form-data; boundary=ä",
        "multipart/form-data; boundary=a\r\n b",
        "multipart/form-data; boundary=abc;",
        "multipart/form-data boundary=abc",
    ],
)
def test_a_content_type_without_exactly_one_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(Refusal) as caught:
        boundary_of(content_type)
    assert caught.value.refused.code is Code.MALFORMED_UPLOAD


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('form-data; name="purpose"', Disposition("purpose", None)),
        ("FORM-DATA ; name=file;filename=a.csv", Disposition("file", "a.csv")),
        ('form-data; name="f"; filename="=?UTF-8?Q?=C3=A4.csv?="', Disposition("f", "ä.csv")),
        (
            "form-data; name=f; filename=\"ä.csv\"; filename*=UTF-8'en'%c3%a4.csv",
            Disposition("f", "ä.csv"),
        ),
        ('form-data; name="f"; filename="100%.csv"', Disposition("f", "100%.csv")),
    ],
)
def test_the_names_in_a_content_disposition(header: str, expected: Disposition) -> None:
    assert parse_disposition(header) == expected


def test_a_part_that_is_no_form_data_is_refused() -> None:
    with pytest.raises(Refusal, match="form-data"):
        parse_disposition('attachment; name="file"; filename="a.csv"')


@given(st.text(max_size=200))
def test_no_content_disposition_ends_in_anything_but_names_or_a_refusal(rest: str) -> None:
    header = "form-data; name=f; filename" + rest
    try:
        name = parse_disposition(header).filename
    except Refusal as refusal:
        name = "refused" if refusal.refused.code is Code.MALFORMED_UPLOAD else None
    assert name is not None
    assert name_fault(name) is None
