"""What may be uploaded: the policy case by case, and every proof with its counter-example."""

from __future__ import annotations

import base64
import io
import random
import struct
import tarfile
import tomllib
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import archives, pictures, proof
from gateway.core.errors import Code
from gateway.core.uploads import (
    STREAMED,
    ContentProof,
    Declared,
    FileType,
    Proof,
    Rule,
    UploadPolicy,
    Verdict,
    judge_name,
    judge_size,
    prove,
)

POLICIES = Path(__file__).parents[2] / "policies"


def shipped_policy() -> UploadPolicy:
    read = tomllib.loads((POLICIES / "uploads.toml").read_text())
    types = {
        row["extension"]: FileType(
            row["extension"],
            frozenset(row["media_types"]),
            Proof(row["proof"]),
            row.get("file_bytes_max"),
        )
        for row in read["type"]
    }
    assert len(types) == len(read["type"])
    purposes = {purpose: frozenset(allowed) for purpose, allowed in read["purpose"].items()}
    return UploadPolicy(types, purposes, read["file_bytes_max"], read["name_bytes_max"])


POLICY = shipped_policy()
CASES: list[dict[str, Any]] = tomllib.loads((POLICIES / "uploads.cases.toml").read_text())["case"]


def judged(name: str, content: bytes, policy: UploadPolicy = POLICY) -> Verdict:
    return prove(policy, Declared(name, None, None), io.BytesIO(content), len(content))


def rule_of(name: str, content: bytes) -> str:
    return judged(name, content).rule


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_the_shipped_policy_decides_as_its_cases_say(case: dict[str, Any]) -> None:
    declared = Declared(case["filename"], case.get("media_type"), case.get("purpose"))
    if "content" in case or "content_base64" in case:
        encoded = "".join(case.get("content_base64", "").split())
        content = case.get("content", "").encode() or base64.b64decode(encoded, validate=True)
        verdict = prove(POLICY, declared, io.BytesIO(content), len(content))
    else:
        verdict = judge_name(POLICY, declared)
        if verdict.permitted and "size_bytes" in case:
            verdict = judge_size(POLICY, declared, case["size_bytes"])
    assert (verdict.permitted, verdict.rule) == (case["permitted"], case["rule"])
    assert (verdict.code is None) == verdict.permitted


def test_the_cases_show_every_rule() -> None:
    assert {case["rule"] for case in CASES} == {rule.value for rule in Rule}
    assert len({case["name"] for case in CASES}) == len(CASES)


def test_the_shipped_policy_lists_azures_table_and_nothing_else_for_assistants() -> None:
    table = (
        "c cpp csv docx html java json md pdf php pptx py rb tex txt css jpeg jpg js gif png tar"
        " ts xlsx xml zip"
    )
    assert POLICY.purposes["assistants"] == frozenset(table.split())
    assert set(POLICY.types) == POLICY.purposes["assistants"] | {"jsonl"}
    assert POLICY.file_bytes_max == 512 * 1024 * 1024


def test_a_refusal_names_the_type_the_purpose_the_rule_and_what_is_allowed() -> None:
    verdict = judge_name(POLICY, Declared("setup.exe", None, "assistants"))
    assert verdict.code is Code.UNSUPPORTED_FILE_TYPE
    assert verdict.code.status == 415
    assert verdict.message.startswith(
        "file type `.exe` is not permitted for purpose `assistants` (rule `extension-not-listed`); "
        "allowed: .c, .cpp, "
    )
    assert verdict.message.endswith("; nothing was stored")


def test_a_program_renamed_to_a_table_is_an_unsupported_file_type() -> None:
    verdict = judged("report.csv", b"MZ\x90\0\3\0\0\0\4\0\0\0\xff\xff\0\0")
    assert (verdict.rule, verdict.code) == ("content-mismatch", Code.UNSUPPORTED_FILE_TYPE)
    assert verdict.file_type == "csv"


@pytest.mark.parametrize("purpose", ["`", "x" * 200, "a\nb", "ä", ""])
def test_a_callers_word_is_only_quoted_when_it_is_plain(purpose: str) -> None:
    message = judge_name(POLICY, Declared("a.csv", None, purpose)).message
    assert message.isprintable()
    assert len(message) < 300


def test_a_type_may_have_a_smaller_limit_but_not_a_larger_one() -> None:
    small = FileType("txt", frozenset(), Proof.TEXT, 3)
    policy = UploadPolicy({"txt": small}, {}, 10, 255)
    declared = Declared("a.txt", None, None)
    assert judge_size(policy, declared, 3).permitted
    assert judge_size(policy, declared, 4).code is Code.FILE_TOO_LARGE
    large = UploadPolicy({"txt": FileType("txt", frozenset(), Proof.TEXT, 30)}, {}, 10, 255)
    assert judge_size(large, declared, 10).permitted
    assert "`10` bytes" in judge_size(large, declared, 11).message


@pytest.mark.parametrize("name", ["a.txt", "a.zip"])
def test_the_whole_judgement_begins_with_name_and_size(name: str) -> None:
    policy = UploadPolicy(POLICY.types, POLICY.purposes, 3, 255)
    assert judged(name, b"", policy).rule == "empty-file"
    assert judged(name, b"1234", policy).rule == "file-too-large"
    assert judged("a.exe", b"123", policy).rule == "extension-not-listed"


def test_a_type_that_is_not_listed_is_held_to_the_general_limit() -> None:
    policy = UploadPolicy({}, {}, 3, 255)
    assert judge_size(policy, Declared("a.exe", None, None), 3).permitted
    assert not judge_size(policy, Declared("a.exe", None, None), 4).permitted


def test_an_archive_cannot_be_proved_while_it_comes_in() -> None:
    with pytest.raises(ValueError, match="seeking"):
        ContentProof(POLICY.types["zip"])
    with pytest.raises(ValueError, match="not an archive"):
        archives.prove_archive(Proof.TEXT, io.BytesIO(), 0)


def test_a_proof_that_did_not_see_every_byte_is_no_proof() -> None:
    proving = ContentProof(POLICY.types["txt"])
    proving.feed(b"abc")
    assert proving.verdict(POLICY, 4).rule == "content-mismatch"


# Samples, as small as the formats allow.


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content))


PNG_HEAD = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", bytes(13))
PNG = PNG_HEAD + png_chunk(b"IDAT", b"x" * 300) + png_chunk(b"IEND", b"")
JPEG_HEAD = b"\xff\xd8\xff\xe0\0\x08PK\x05\x06\xff\xd9"
JPEG_SCAN = b"\xff\xda\0\x04\1\0\x12\xff\0\x34\xff\xd3\x56"
JPEG = JPEG_HEAD + JPEG_SCAN + b"\xff\xc4\0\x02" + JPEG_SCAN + b"\xff\xff\xd9"
GIF_BODY = b"!\xf9\x04\0\0\0\0\0,\0\0\0\0\1\0\1\0\x80" + bytes(6) + b"\2\2D\1\0"
GIF = b"GIF89a\1\0\1\0\x81\0\0" + bytes(12) + GIF_BODY + b";"
PDF = b"%PDF-1.4\n" + b"1 0 obj\nendobj\n" * 100 + b"%%EOF\r\n"

STREAM: dict[str, tuple[str, bytes]] = {
    "text": ("a.txt", "grüße, 世界\n\f\t".encode()),
    "text of one byte": ("a.txt", b"x"),
    "text of two bytes": ("a.txt", "ä".encode()),
    "UTF-8 with a mark": ("a.txt", b"\xef\xbb\xbfa"),
    "a mark alone": ("a.txt", b"\xef\xbb\xbf"),
    "UTF-16, little end first": ("a.txt", b"\xff\xfea\0\xac\x20"),
    "UTF-16, big end first": ("a.txt", b"\xfe\xff\0a\x20\xac"),
    "JSON": ("a.json", b' {"a": [1, "\\u00e4"]}\n'),
    "JSON with a mark": ("a.json", b"\xef\xbb\xbf[1]"),
    "a JSON number": ("a.json", b"1"),
    "JSON lines with a mark": ("a.jsonl", b'\xef\xbb\xbf{"a": 1}\n{"b": 2}\n'),
    "JSON lines": ("a.jsonl", b'{"a": 1}\r\n\n{"b": [2]}'),
    "XML": ("a.xml", b'<?xml version="1.0"?><a b="c">d<!-- e --></a>\n'),
    "XML in UTF-16": ("a.xml", '<?xml version="1.0" encoding="utf-16"?><a/>'.encode("utf-16")),
    "PDF": ("a.pdf", PDF),
    "PNG": ("a.png", PNG),
    "PNG with padding": ("a.png", PNG + bytes(9)),
    "JPEG": ("a.jpg", JPEG),
    "JPEG with a film": ("a.jpeg", JPEG + bytes(4) + b"\0\0\0\x18ftypmp42" * 300),
    "GIF": ("a.gif", GIF),
    "GIF 87": ("a.gif", b"GIF87a\1\0\1\0\0\0\0" + GIF_BODY * 2 + b";"),
}

HOSTILE: dict[str, tuple[str, bytes, Rule]] = {
    "a NUL in text": ("a.txt", b"abc\0def", Rule.CONTENT_MISMATCH),
    "an escape in text": ("a.py", b"print('\x1b[2J')", Rule.CONTENT_MISMATCH),
    "a delete in text": ("a.csv", b"a\x7f", Rule.CONTENT_MISMATCH),
    "text cut inside a character": ("a.txt", "aaaaaä".encode()[:-1], Rule.CONTENT_MISMATCH),
    "overlong UTF-8": ("a.txt", b"aaa\xc0\xaf", Rule.CONTENT_MISMATCH),
    "a surrogate in UTF-8": ("a.txt", b"aaa\xed\xa0\x80", Rule.CONTENT_MISMATCH),
    "UTF-16 without a mark": ("a.txt", "abc".encode("utf-16-le"), Rule.CONTENT_MISMATCH),
    "half of a UTF-16 unit": ("a.txt", b"\xff\xfea\0b", Rule.CONTENT_MISMATCH),
    "UTF-32": ("a.txt", "abc".encode("utf-32"), Rule.CONTENT_MISMATCH),
    "a program behind text": ("a.csv", b"a,b\n" * 9000 + b"MZ\x90\0\3\0", Rule.CONTENT_MISMATCH),
    "JSON that is no number": ("a.json", b"[NaN]", Rule.CONTENT_MISMATCH),
    "JSON, twice": ("a.json", b"{}{}", Rule.CONTENT_MISMATCH),
    "JSON in UTF-16": ("a.json", "{}".encode("utf-16"), Rule.CONTENT_MISMATCH),
    "JSON as deep as a well": ("a.json", b"[" * 9000 + b"]" * 9000, Rule.CONTENT_MISMATCH),
    "blanks instead of JSON": ("a.json", b" \n ", Rule.CONTENT_MISMATCH),
    "JSON lines without a line": ("a.jsonl", b"\n \n", Rule.CONTENT_MISMATCH),
    "a JSON line too long to parse that is an array": (
        "a.jsonl",
        b'["' + b"x" * proof.JSON_PARSED_BYTES_MAX + b'"]',
        Rule.CONTENT_MISMATCH,
    ),
    "a byte order mark among JSON lines": (
        "a.jsonl",
        b'{"a": 1}\n\xef\xbb\xbf{"a": 2}\n{"a": 3}\n',
        Rule.CONTENT_MISMATCH,
    ),
    "JSON lines of arrays": ("a.jsonl", b"[1]\n[2]\n", Rule.CONTENT_MISMATCH),
    "a JSON line that is null": ("a.jsonl", b'{"a": 1}\nnull\n', Rule.CONTENT_MISMATCH),
    "a bad JSON line at the end": ("a.jsonl", b'{"a": 1}\n{"a"', Rule.CONTENT_MISMATCH),
    "XML that breaks off": ("a.xml", b"<a><b></a>", Rule.CONTENT_MISMATCH),
    "XML in an encoding nobody knows": (
        "a.xml",
        b'<?xml version="1.0" encoding="x-evil"?><a/>',
        Rule.CONTENT_MISMATCH,
    ),
    "XML in an encoding of several bytes": (
        "a.xml",
        b'<?xml version="1.0" encoding="gb2312"?><a/>',
        Rule.CONTENT_MISMATCH,
    ),
    "XML, twice": ("a.xml", b"<a/><b/>", Rule.CONTENT_MISMATCH),
    "XML that fetches": (
        "a.xml",
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        Rule.CONTENT_MISMATCH,
    ),
    "XML that explodes": (
        "a.xml",
        b'<!DOCTYPE a [<!ENTITY x "xx"><!ENTITY y "&x;&x;">]><a>&y;</a>',
        Rule.CONTENT_MISMATCH,
    ),
    "a PDF behind a page": ("a.pdf", b"<html>" + PDF, Rule.CONTENT_MISMATCH),
    "a PDF of no version": ("a.pdf", b"%PDF-x.y\n%%EOF", Rule.CONTENT_MISMATCH),
    "a PDF cut off": ("a.pdf", PDF[:-20], Rule.CONTENT_MISMATCH),
    "a long archive behind a PDF": ("a.pdf", PDF + b"PK\3\4" * 900, Rule.CONTENT_MISMATCH),
    "a short one": ("a.pdf", PDF + b"PK\3\4", Rule.TRAILING_DATA),
    "a PNG of one chunk": ("a.png", PNG_HEAD, Rule.CONTENT_MISMATCH),
    "a PNG without a header": ("a.png", PNG[:8] + PNG[33:], Rule.CONTENT_MISMATCH),
    "a PNG with two headers": ("a.png", PNG_HEAD + PNG[8:], Rule.CONTENT_MISMATCH),
    "a PNG whose chunk is no word": (
        "a.png",
        PNG.replace(b"IDAT", b"\0\1\2\3"),
        Rule.CONTENT_MISMATCH,
    ),
    "a PNG whose chunk never ends": (
        "a.png",
        PNG_HEAD + b"\xff\xff\xff\xffIDAT" + PNG,
        Rule.CONTENT_MISMATCH,
    ),
    "an archive behind a PNG": ("a.png", PNG + b"PK\3\4", Rule.TRAILING_DATA),
    "a JPEG of a start and an end": ("a.jpg", b"\xff\xd8\xff\xd9", Rule.CONTENT_MISMATCH),
    "a JPEG without a picture": ("a.jpg", JPEG_HEAD + b"\xff\xd9", Rule.CONTENT_MISMATCH),
    "a JPEG of no segments": ("a.jpg", b"\xff\xd8\xff\xe0\0\2<?php ?>", Rule.CONTENT_MISMATCH),
    "a JPEG segment of no size": ("a.jpg", b"\xff\xd8\xff\xe0\0\1", Rule.CONTENT_MISMATCH),
    "a JPEG that starts twice": ("a.jpg", b"\xff\xd8\xff\xd8\0\2", Rule.CONTENT_MISMATCH),
    "a JPEG cut off": ("a.jpg", JPEG[:-1], Rule.CONTENT_MISMATCH),
    "an archive behind a JPEG": ("a.jpg", JPEG + b"PK\3\4", Rule.TRAILING_DATA),
    "an archive's end far behind a JPEG": (
        "a.jpg",
        JPEG + b"x" * 5000 + b"PK\5\6" + bytes(18),
        Rule.TRAILING_DATA,
    ),
    "a script behind a JPEG": ("a.jpg", JPEG + b"<?php", Rule.TRAILING_DATA),
    "a GIF of unknown blocks": ("a.gif", GIF[:25] + b"\x99" + GIF, Rule.CONTENT_MISMATCH),
    "a GIF of another year": ("a.gif", GIF.replace(b"89a", b"99a"), Rule.CONTENT_MISMATCH),
    "a GIF cut off": ("a.gif", GIF[:-1], Rule.CONTENT_MISMATCH),
    "an archive behind a GIF": ("a.gif", GIF + b"PK\3\4", Rule.TRAILING_DATA),
}


@pytest.mark.parametrize("sample", STREAM)
def test_what_is_of_its_type_passes(sample: str) -> None:
    verdict = judged(*STREAM[sample])
    assert verdict == Verdict(True, "upload-permitted", None, "", verdict.file_type)
    assert verdict.file_type is not None


@pytest.mark.parametrize("sample", HOSTILE)
def test_what_is_not_of_its_type_is_refused(sample: str) -> None:
    name, content, rule = HOSTILE[sample]
    assert rule_of(name, content) == rule


def test_a_picture_of_endless_blocks_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "STEPS_MAX", 100)
    assert judged("a.gif", GIF).permitted
    assert judged("a.jpg", JPEG_HEAD + JPEG_SCAN + b"\xff\0" * 999 + b"\xff\xd9").permitted
    assert "more blocks" in judged("a.gif", GIF[:-2] + b"\1x" * 100 + b"\0;").message


def test_every_proof_from_front_to_back_has_a_sample_both_ways() -> None:
    kinds = [
        {POLICY.types[name.rpartition(".")[2]].proof for name, *_ in samples}
        for samples in (STREAM.values(), HOSTILE.values())
    ]
    assert kinds == [STREAMED, STREAMED]


@given(
    sample=st.sampled_from(
        [*STREAM.values(), *((name, content) for name, content, _ in HOSTILE.values())]
    ),
    seed=st.integers(0, 1 << 32),
)
def test_a_proof_does_not_depend_on_how_the_content_was_cut(
    sample: tuple[str, bytes], seed: int
) -> None:
    name, content = sample
    proving = ContentProof(POLICY.types[name.rpartition(".")[2]])
    dice, at = random.Random(seed), 0
    while at < len(content):
        size = dice.choice([0, 1, 1, 2, 3, 7, 64, 1000])
        proving.feed(content[at : at + size])
        at += size
    assert proving.verdict(POLICY, len(content)).rule == rule_of(name, content)


@given(content=st.binary(min_size=1, max_size=300), name=st.sampled_from(sorted(POLICY.types)))
def test_no_content_ends_in_anything_but_a_verdict(content: bytes, name: str) -> None:
    assert rule_of("a." + name, content) in set(Rule)


def test_json_too_long_to_parse_must_be_text_and_end_as_it_began() -> None:
    filling = b'"' + b"x" * proof.JSON_PARSED_BYTES_MAX + b'"'
    assert judged("a.json", b"[" + filling + b"]\n").permitted
    assert judged("a.jsonl", b'{"a":' + filling + b'}\n{"b": 1}\n').permitted
    whole = ContentProof(POLICY.types["jsonl"])
    whole.feed(lines := b'{"b": 1}\n{"a":' + filling + b'}\n{"b": 1}')
    assert whole.verdict(POLICY, len(lines)).permitted
    assert rule_of("a.json", b"[" + filling + b"}") == "content-mismatch"
    assert rule_of("a.json", filling) == "content-mismatch"
    assert rule_of("a.json", b"[" + filling.replace(b"xx", b"\0x") + b"]") == "content-mismatch"


def test_a_tag_without_end_is_given_up_before_it_costs_quadratic_time() -> None:
    long = proof.XML_TOKEN_BYTES_MAX
    lines = b"line of text\n" * (long // 6)
    assert judged("a.xml", b"<a>" + lines + b"</a>").permitted
    verdict = judged("a.xml", b'<a b="' + b"x" * (2 * long) + b'"/>')
    assert "more than" in verdict.message


# Archives.


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return target.getvalue()


class Unseekable(io.RawIOBase):
    """Makes zipfile write records behind its entries, as a program does that writes to a pipe."""

    def __init__(self) -> None:
        self.content = b""

    def writable(self) -> bool:
        return True

    def write(self, chunk: Any) -> int:
        self.content += bytes(chunk)
        return len(chunk)


def piped() -> bytes:
    target = Unseekable()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", b"a,b\n" * 50)
        archive.writestr("b.csv", b"a,b\n" * 50)
    return target.content


def link() -> bytes:
    entry = zipfile.ZipInfo("link")
    entry.create_system, entry.external_attr = 3, 0o120777 << 16
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(entry, b"/etc/passwd")
    return target.getvalue()


def repeated() -> bytes:
    first, second = zipped(("a.csv", b"x")), zipped(("a.csv", b"x"), ("b.csv", b"x"))
    assert len(first) < len(second)
    return second.replace(b"b.csv", b"a.csv")


def hidden_between() -> bytes:
    """An entry that stands among the others but not in the directory."""
    whole = zipped(("a.csv", b"x"), ("e.exe", b"x"), ("b.csv", b"x"))
    begins = [whole.index(b"PK\1\2"), whole.index(b"PK\1\2", whole.index(b"PK\1\2") + 1)]
    third = whole.index(b"PK\1\2", begins[1] + 1)
    directory = whole[begins[0] : begins[1]] + whole[third:-22]
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(directory), begins[0], 0)
    return whole[: begins[0]] + directory + end


def hidden_at_the_end() -> bytes:
    """Something that stands between the last entry and the directory."""
    whole = zipped(("a.csv", b"x"))
    at = whole.index(b"PK\1\2")
    moved = struct.pack("<L", at + 4)
    return whole[:at] + b"evil" + whole[at:-6] + moved + whole[-2:]


def overlapping() -> bytes:
    """Two names in the directory for one entry in the file."""
    whole = zipped(("a.csv", b"x"))
    at = whole.index(b"PK\1\2")
    directory = whole[at:-22] * 2
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(directory), at, 0)
    return whole[:at] + directory.replace(b"a.csv", b"b.csv", 1) + end


def patched(content: bytes, place: int, value: bytes, *, marks: tuple[bytes, ...]) -> bytes:
    """Overwrite a field of the headers that begin with `marks`."""
    changed = bytearray(content)
    for mark, shift in zip(marks, (0, 2), strict=False):
        at = content.index(mark) + place + shift
        changed[at : at + len(value)] = value
    return bytes(changed)


ZIP = zipped(("a.csv", b"a,b\n" * 50), ("dir/b.csv", b"x"))
STORED = zipped(("a.csv", b"a,b"), method=zipfile.ZIP_STORED)
BOTH = (b"PK\3\4", b"PK\1\2")

ZIPS_ACCEPTED: dict[str, bytes] = {
    "deflated": ZIP,
    "stored": STORED,
    "with a directory": zipped(("dir/", b""), ("dir/数.csv", b"x")),
    "written to a pipe": piped(),
    "with an empty file": zipped(("a.csv", b"")),
    "with a program in it, which is for scanners": zipped(("setup.exe", b"MZ")),
}

ZIPS_REFUSED: dict[str, tuple[bytes, Rule]] = {
    "text": (b"a,b\n" * 20, Rule.CONTENT_MISMATCH),
    "an empty archive": (zipped(), Rule.CONTENT_MISMATCH),
    "cut off": (ZIP[:-1], Rule.CONTENT_MISMATCH),
    "something before it": (b"MZ\0\0" + ZIP, Rule.CONTENT_MISMATCH),
    "something before it that looks like an entry": (ZIP[:40] + ZIP, Rule.ARCHIVE_UNSAFE),
    "something behind it": (ZIP + b"\0", Rule.CONTENT_MISMATCH),
    "a second archive behind it": (ZIP + ZIP, Rule.ARCHIVE_UNSAFE),
    "a comment": (ZIP[:-2] + b"\x16\0" + ZIP[-22:], Rule.ARCHIVE_UNSAFE),
    "one volume of two": (ZIP[:-18] + b"\1\0" + ZIP[-16:], Rule.ARCHIVE_UNSAFE),
    "an entry hidden between the others": (hidden_between(), Rule.ARCHIVE_UNSAFE),
    "something hidden before the directory": (hidden_at_the_end(), Rule.ARCHIVE_UNSAFE),
    "a stored entry of two sizes": (
        patched(STORED, 22, b"\1\1", marks=BOTH),
        Rule.ARCHIVE_UNSAFE,
    ),
    "a name that is not UTF-8": (
        zipped(("数.csv", b"x")).replace("数".encode(), b"\xff\xff\xff"),
        Rule.ARCHIVE_UNSAFE,
    ),
    "two entries in one place": (overlapping(), Rule.ARCHIVE_UNSAFE),
    "a name twice": (repeated(), Rule.ARCHIVE_UNSAFE),
    "two names for one entry": (ZIP.replace(b"a.csv", b"e.exe", 1), Rule.ARCHIVE_UNSAFE),
    "a way out": (zipped(("../a.csv", b"x")), Rule.ARCHIVE_UNSAFE),
    "an absolute name": (zipped(("/etc/a.csv", b"x")), Rule.ARCHIVE_UNSAFE),
    "a drive": (zipped(("C:a.csv", b"x")), Rule.ARCHIVE_UNSAFE),
    "a backslash": (ZIP.replace(b"dir/b", b"dir\\b"), Rule.ARCHIVE_UNSAFE),
    "a NUL in a name": (ZIP.replace(b"a.csv", b"a\0csv"), Rule.ARCHIVE_UNSAFE),
    "a link": (link(), Rule.ARCHIVE_UNSAFE),
    "encrypted": (patched(ZIP, 6, b"\1\0", marks=BOTH), Rule.ARCHIVE_UNSAFE),
    "another method": (patched(ZIP, 8, b"\x0e\0", marks=BOTH), Rule.ARCHIVE_UNSAFE),
    "two flags for one entry": (patched(ZIP, 6, b"\2\0", marks=BOTH[:1]), Rule.ARCHIVE_UNSAFE),
    "two sizes for one entry": (patched(ZIP, 22, b"\1", marks=BOTH[:1]), Rule.ARCHIVE_UNSAFE),
    "a bomb": (zipped(("a.csv", bytes(20_000_000))), Rule.ARCHIVE_UNSAFE),
    "a directory that breaks off": (ZIP.replace(b"PK\1\2", b"PK\1\3"), Rule.ARCHIVE_UNSAFE),
    "a record that lies": (
        piped().replace(b"PK\7\x08", b"PK\7\x09", 1),
        Rule.ARCHIVE_UNSAFE,
    ),
    "another number of entries": (
        ZIP[:-14] + b"\1\0\1\0" + ZIP[-10:],
        Rule.ARCHIVE_UNSAFE,
    ),
}


@pytest.mark.parametrize("sample", ZIPS_ACCEPTED)
def test_a_zip_with_one_reading_passes(sample: str) -> None:
    assert judged("a.zip", ZIPS_ACCEPTED[sample]).permitted


@pytest.mark.parametrize("sample", ZIPS_REFUSED)
def test_a_zip_with_two_readings_is_refused(sample: str) -> None:
    content, rule = ZIPS_REFUSED[sample]
    assert rule_of("a.zip", content) == rule


def content_types(main: str, more: str = "") -> bytes:
    return (
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Override '
        'PartName="/main.xml" ContentType="application/vnd.openxmlformats-officedocument.'
        f'{main}.main+xml"/>{more}</Types>'
    ).encode()


OFFICE = {
    "docx": "wordprocessingml.document",
    "xlsx": "spreadsheetml.sheet",
    "pptx": "presentationml.presentation",
}


@pytest.mark.parametrize("extension", OFFICE)
def test_an_office_document_passes_under_its_own_name_only(extension: str) -> None:
    content = zipped(
        ("[Content_Types].xml", content_types(OFFICE[extension])), ("main.xml", b"<a/>")
    )
    passed = [each for each in OFFICE if judged(f"a.{each}", content).permitted]
    assert passed == [extension]
    assert judged("a.zip", content).permitted


@pytest.mark.parametrize(
    ("members", "rule"),
    [
        ([("main.xml", b"<a/>")], Rule.CONTENT_MISMATCH),
        ([("[Content_Types].xml", b"<Types")], Rule.CONTENT_MISMATCH),
        ([("[Content_Types].xml", b"<!DOCTYPE a><a/>")], Rule.CONTENT_MISMATCH),
        (
            [
                ("[Content_Types].xml", content_types(OFFICE["docx"])),
                ("word/VBAProject.bin", b"x"),
            ],
            Rule.MACROS_NOT_ALLOWED,
        ),
        (
            [
                (
                    "[Content_Types].xml",
                    content_types(
                        OFFICE["docx"],
                        '<Override PartName="/image.png" '
                        'ContentType="application/vnd.ms-office.vbaProject"/>',
                    ),
                )
            ],
            Rule.MACROS_NOT_ALLOWED,
        ),
        (
            [
                (
                    "[Content_Types].xml",
                    b'<Types><Override PartName="/a" ContentType="application/'
                    b'vnd.ms-word.document.macroEnabled.main+xml"/></Types>',
                )
            ],
            Rule.MACROS_NOT_ALLOWED,
        ),
        ([("[Content_Types].xml", b"<a>" + b" " * 1_100_000 + b"</a>")], Rule.ARCHIVE_UNSAFE),
    ],
)
def test_a_document_that_holds_macros_or_is_none_is_refused(
    members: list[tuple[str, bytes]], rule: Rule
) -> None:
    assert rule_of("a.docx", zipped(*members)) == rule


def test_a_list_of_content_types_that_does_not_unpack_is_refused() -> None:
    content = zipped(("[Content_Types].xml", content_types(OFFICE["docx"])))
    at = content.index(b"xml", 30) + 3
    assert rule_of("a.docx", content[:at] + b"\xff" * 9 + content[at + 9 :]) == "archive-unsafe"
    stored = zipped(
        ("[Content_Types].xml", content_types(OFFICE["docx"])), method=zipfile.ZIP_STORED
    )
    assert judged("a.docx", stored).permitted
    assert rule_of("a.docx", stored.replace(b"main.xml", b"mein.xml")) == "archive-unsafe"


def tarred(
    *members: tarfile.TarInfo, kind: int = tarfile.USTAR_FORMAT, content: bytes = b"a,b\n"
) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=kind) as archive:
        for member in members:
            member.size = len(content) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return target.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, **pax: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.pax_headers = kind, "target" * (kind in b"12"), pax
    return member


def with_checksum(head: bytes) -> bytes:
    blank = head[:148] + b" " * 8 + head[156:]
    return head[:148] + b"%06o\0 " % sum(blank[:512]) + head[156:]


TAR = tarred(entry("a.csv"), entry("dir", tarfile.DIRTYPE), entry("dir/b.csv"))

TARS_ACCEPTED: dict[str, bytes] = {
    "ustar": TAR,
    "GNU": tarred(entry("a.csv"), kind=tarfile.GNU_FORMAT),
    "GNU with a long name": tarred(entry("x" * 200), kind=tarfile.GNU_FORMAT),
    "pax with a long name": tarred(entry("数" * 100), kind=tarfile.PAX_FORMAT),
    "pax with a comment": tarred(entry("a.csv", comment="x"), kind=tarfile.PAX_FORMAT),
    "ustar with a long name": tarred(entry("d" * 100 + "/" + "x" * 90)),
    "what tar makes of a directory": tarred(entry("./", tarfile.DIRTYPE), entry("./a.csv")),
    "an empty file": tarred(entry("a.csv"), content=b""),
}

TARS_REFUSED: dict[str, tuple[bytes, Rule]] = {
    "text": (b"a,b\n" * 500, Rule.CONTENT_MISMATCH),
    "short text": (b"a", Rule.CONTENT_MISMATCH),
    "nothing but zeros": (bytes(10_240), Rule.ARCHIVE_UNSAFE),
    "a wrong checksum": (b"b" + TAR[1:], Rule.CONTENT_MISMATCH),
    "a checksum that is no number": (TAR[:148] + b"x" * 8 + TAR[156:], Rule.ARCHIVE_UNSAFE),
    "a negative size": (
        with_checksum(TAR[:124] + b"-0000000004\0" + TAR[136:]),
        Rule.CONTENT_MISMATCH,
    ),
    "a size beyond the end": (
        with_checksum(TAR[:124] + b"77777777777\0" + TAR[136:]),
        Rule.ARCHIVE_UNSAFE,
    ),
    "cut off": (TAR[:600], Rule.ARCHIVE_UNSAFE),
    "without its end": (TAR[:2560], Rule.ARCHIVE_UNSAFE),
    "with half of its end": (TAR[:3072], Rule.ARCHIVE_UNSAFE),
    "something behind its end": (TAR + b"PK\3\4", Rule.TRAILING_DATA),
    "a symbolic link": (tarred(entry("a", tarfile.SYMTYPE)), Rule.ARCHIVE_UNSAFE),
    "a hard link": (tarred(entry("a", tarfile.LNKTYPE)), Rule.ARCHIVE_UNSAFE),
    "a device": (tarred(entry("a", tarfile.CHRTYPE)), Rule.ARCHIVE_UNSAFE),
    "a way out": (tarred(entry("../a.csv")), Rule.ARCHIVE_UNSAFE),
    "an absolute name": (tarred(entry("/etc/passwd")), Rule.ARCHIVE_UNSAFE),
    "an entry without a name": (tarred(entry("")), Rule.ARCHIVE_UNSAFE),
    "a long extended header": (
        tarred(entry("a.csv", comment="x" * 1_100_000), kind=tarfile.PAX_FORMAT),
        Rule.ARCHIVE_UNSAFE,
    ),
    "a way out in a long name": (
        tarred(entry("../" + "x" * 200), kind=tarfile.GNU_FORMAT),
        Rule.ARCHIVE_UNSAFE,
    ),
    "a way out in an extended header": (
        tarred(entry("../" + "x" * 200), kind=tarfile.PAX_FORMAT),
        Rule.ARCHIVE_UNSAFE,
    ),
    "a size in an extended header": (
        tarred(entry("a.csv", size="0"), kind=tarfile.PAX_FORMAT),
        Rule.ARCHIVE_UNSAFE,
    ),
    "an extended header that is none": (
        tarred(entry("a.csv", comment="xyz"), kind=tarfile.PAX_FORMAT).replace(
            b"comment=", b"comment:"
        ),
        Rule.ARCHIVE_UNSAFE,
    ),
}


@pytest.mark.parametrize("sample", TARS_ACCEPTED)
def test_a_tar_of_plain_files_passes(sample: str) -> None:
    assert judged("a.tar", TARS_ACCEPTED[sample]).permitted


@pytest.mark.parametrize("sample", TARS_REFUSED)
def test_a_tar_with_anything_else_is_refused(sample: str) -> None:
    content, rule = TARS_REFUSED[sample]
    assert rule_of("a.tar", content) == rule


@given(
    name=st.sampled_from(["a.zip", "a.docx", "a.tar"]),
    sample=st.sampled_from([ZIP, piped(), TAR, TARS_ACCEPTED["pax with a comment"]]),
    changes=st.lists(st.tuples(st.integers(0, 11_000), st.integers(0, 255)), max_size=6),
    cut=st.integers(1, 11_000),
)
def test_a_damaged_archive_ends_in_a_verdict(
    name: str, sample: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(sample)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    assert rule_of(name, bytes(damaged[:cut])) in set(Rule)


@pytest.mark.parametrize("limit", ["ENTRIES_MAX", "UNPACKED_BYTES_MAX"])
def test_an_archive_of_too_much_is_refused(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, limit, 1)
    assert rule_of("a.zip", ZIP) == "archive-unsafe"
    monkeypatch.setattr(archives, "ENTRIES_MAX", 1)
    assert rule_of("a.tar", tarred(entry("a.csv"), entry("b.csv"))) == "archive-unsafe"
