"""Forms: one file, one name, one reading; what two servers would part differently is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.wall import FILES_TARGET, Vector, Wall, in_words, post

pytestmark = pytest.mark.anyio

MEDIA = b"Content-Type: multipart/form-data; boundary=B"
PURPOSE = b'Content-Disposition: form-data; name="purpose"\r\n\r\nassistants'
NAMED = b'Content-Disposition: form-data; name="file"; filename="a.csv"'
TYPED = b"\r\nContent-Type: text/csv"
CONTENT = b"a,b\n1,2\n"
WHOLE_FILE = NAMED + TYPED + b"\r\n\r\n" + CONTENT
EVIL = b'Content-Disposition: form-data; name="file"; filename="evil.exe"\r\n\r\nMZ'


def form(*parts: bytes, boundary: bytes = b"B") -> bytes:
    """Return a form of these parts, as a client writes it."""
    written = b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts)
    return written + b"--" + boundary + b"--\r\n"


def sending(body: bytes, media: bytes = MEDIA) -> bytes:
    return post(target=FILES_TARGET, body=body, media=media)


GOOD = form(PURPOSE, WHOLE_FILE)
CLEAN = sending(GOOD)


def named(parameters: bytes) -> bytes:
    """Return the form whose file's Content-Disposition goes on like this."""
    head = b"Content-Disposition: form-data; " + parameters
    return form(PURPOSE, head + TYPED + b"\r\n\r\n" + CONTENT)


HARMLESS: dict[str, bytes] = {
    "the file first": form(WHOLE_FILE, PURPOSE),
    "names without quotes": named(b"name=file; filename=a.csv"),
    "a name said twice alike": named(b"name=file; filename=a.csv; filename*=utf-8''a.csv"),
    "a name said twice alike, escaped": named(
        b"name=file; filename=a.csv; filename*=UTF-8'en'%61%2Ecsv"
    ),
    "a name in an encoded word": named(b'name="file"; filename="=?utf-8?Q?a.csv?="'),
    "a name in base64": named(b'name="file"; filename="=?UTF-8?B?YS5jc3Y=?="'),
    "header names in other cases": GOOD.replace(b"Content-D", b"CONTENT-d"),
    "no last line end": GOOD[:-2],
    "a length of its own": GOOD.replace(TYPED, TYPED + b"\r\nContent-Length: 8"),
    "a parameter of the media type": GOOD.replace(b"text/csv", b"text/csv; charset=utf-8"),
    "a field with a media type": GOOD.replace(
        b'"purpose"\r\n', b'"purpose"\r\nContent-Type: text/plain; charset=utf-8\r\n'
    ),
}
NAMES: dict[str, bytes] = {
    "two file names": b'name="file"; filename="a.csv"; filename="evil.exe"',
    "two file names, the good one last": b'name="file"; filename="evil.exe"; filename="a.csv"',
    "two file names alike": b'name="file"; filename="a.csv"; filename="a.csv"',
    "two file names in two cases": b'name="file"; filename="a.csv"; FILENAME="evil.exe"',
    "two field names": b'name="file"; name="purpose"; filename="a.csv"',
    "filename* that disagrees": b'name="file"; filename="a.csv"; filename*=utf-8\'\'evil.exe',
    "filename* that disagrees, first": (
        b'name="file"; filename*=utf-8\'\'evil.exe; filename="a.csv"'
    ),
    "filename* alone": b"name=\"file\"; filename*=utf-8''a.csv",
    "filename* twice": b"name=file; filename=a.csv; filename*=utf-8''a.csv; filename*=utf-8''b.exe",
    "filename* in UTF-16": b"name=file; filename=a.csv; filename*=utf-16''a.csv",
    "filename* in UTF-7": b"name=file; filename=a.csv; filename*=utf-7''a.csv",
    "filename* without a charset": b"name=file; filename=a.csv; filename*=a.csv",
    "filename* in quotes that disagree": b"name=file; filename=a.csv; filename*=\"utf-8''b.exe\"",
    "filename* that does not decode": b"name=file; filename=a.csv; filename*=utf-8''%ff.csv",
    "filename* with a NUL": b"name=file; filename=a.csv; filename*=utf-8''a.exe%00.csv",
    "name*": b"name=file; name*=utf-8''purpose; filename=a.csv",
    "a name in pieces": b'name="file"; filename*0="evil"; filename*1=".exe"',
    "a name in pieces beside one": b'name="file"; filename="a.csv"; filename*0="evil.exe"',
    "a name in encoded pieces": b"name=\"file\"; filename*0*=utf-8''evil; filename*1=.exe",
    "a blank before the equals sign": b'name="file"; filename ="a.csv"',
    "a blank behind the equals sign": b'name="file"; filename= "a.csv"',
    "a tab in a key": b'name="file"; file\tname="a.csv"',
    "no semicolon": b'name="file" filename="a.csv"',
    "two semicolons": b'name="file";; filename="a.csv"',
    "a semicolon at the end": b'name="file"; filename="a.csv";',
    "a comma instead": b'name="file", filename="a.csv"',
    "a parameter nobody knows": b'name="file"; filename="a.csv"; size=8',
    "a parameter without a value": b'name="file"; filename="a.csv"; filename',
    "a quote not closed": b'name="file"; filename="a.csv',
    "a quote closed too early": b'name="file"; filename="a.csv"evil.exe',
    "a quote in a name": b'name="file"; filename="a"evil.exe".csv"',
    "single quotes": b"name='file'; filename='a.csv'",
    "a quote opened late": b'name="file"; filename=a".csv"',
    "a bare name with a blank": b'name="file"; filename=a b.csv',
    "a bare name with a semicolon": b'name="file"; filename=a.csv;evil.exe',
    "a bare name that is no ASCII": 'name="file"; filename=ä.csv'.encode(),
    "an empty name": b'name="file"; filename=""',
    "no name at all": b'name="file"; filename=',
    "an empty field name": b'name=""; filename="a.csv"',
    "no field name": b'filename="a.csv"',
    "no file name": b'name="file"',
    "a file under another name": b'name="files"; filename="a.csv"',
    "a file in a list": b'name="file[]"; filename="a.csv"',
    "a file in capitals": b'name="File"; filename="a.csv"',
    "a file with a blank in its field": b'name="file "; filename="a.csv"',
    "a file with a NUL in its field": b'name="file\x00"; filename="a.csv"',
    "a file that is a purpose": b'name="purpose"; filename="a.csv"',
    "a path": b'name="file"; filename="../a.csv"',
    "a path from the root": b'name="file"; filename="/etc/a.csv"',
    "a path of Windows": b'name="file"; filename="C:\\\\a.csv"',
    "an escaped path": b'name="file"; filename="..%2fa.csv"',
    "an escaped backslash": b'name="file"; filename="..%5ca.csv"',
    "an escaped NUL": b'name="file"; filename="evil.exe%00.csv"',
    "a NUL": b'name="file"; filename="evil.exe\x00.csv"',
    "a return": b'name="file"; filename="evil.exe\r.csv"',
    "a line feed": b'name="file"; filename="evil.exe\n.csv"',
    "a line end written as HTML does": b'name="file"; filename="a%0D%0AX: b.csv"',
    "a line end in other escapes": b'name="file"; filename="a%0d%0aX: b.csv"',
    "a tab within": b'name="file"; filename="a\tb.csv"',
    "an extension escaped": b'name="file"; filename="a.csv%2eexe"',
    "an extension escaped twice": b'name="file"; filename="a.csv%252eexe"',
    "a dot at the end": b'name="file"; filename="a.csv."',
    "a blank at the end": b'name="file"; filename="a.csv "',
    "dots at the end": b'name="file"; filename="a.csv..."',
    "a stream of Windows": b'name="file"; filename="a.csv::$DATA"',
    "a program": b'name="file"; filename="a.exe"',
    "a program in capitals": b'name="file"; filename="a.EXE"',
    "a program behind a table": b'name="file"; filename="a.csv.exe"',
    "no extension": b'name="file"; filename="acsv"',
    "nothing but an extension": b'name="file"; filename=".csv"',
    "a fullwidth dot": 'name="file"; filename="a．csv"'.encode(),
    "an extension in another alphabet": 'name="file"; filename="a.сsv"'.encode(),
    "a zero-width space in the extension": 'name="file"; filename="a.c\u200bsv"'.encode(),
    "a mark that turns the text": 'name="file"; filename="a\u202evsc.exe.csv"'.encode(),
    "a line separator": 'name="file"; filename="a\u2028.csv"'.encode(),
    "bytes that are no UTF-8": b'name="file"; filename="a\xff.csv"',
    "an overlong slash": b'name="file"; filename="a\xc0\xaf.csv"',
    "an encoded word beside text": b'name="file"; filename="=?utf-8?Q?evil.exe?=.csv"',
    "an encoded word in UTF-7": b'name="file"; filename="=?utf-7?Q?a.csv?="',
    "an encoded word that does not decode": b'name="file"; filename="=?utf-8?B?*?="',
    "an encoded word with a path": b'name="file"; filename="=?utf-8?Q?=2E=2E=2Fa.csv?="',
    "an encoded word with a NUL": b'name="file"; filename="=?utf-8?Q?e.exe=00.csv?="',
    "an encoded word in an encoded word": (
        b'name="file"; filename="=?utf-8?Q?=3D=3Futf-8=3FQ=3Fa=3F=3D.csv?="'
    ),
    "an escaped quote in an encoded word": b'name="file"; filename="=?utf-8?Q?a=2522.csv?="',
    "a name of 300 bytes": b'name="file"; filename="' + b"a" * 300 + b'.csv"',
    "a name of 5,000 bytes": b'name="file"; filename="' + b"a" * 5000 + b'.csv"',
}
HEADS: dict[str, bytes] = {
    "a transfer encoding": b"Content-Transfer-Encoding: base64",
    "a transfer encoding that does nothing": b"Content-Transfer-Encoding: binary",
    "a content encoding": b"Content-Encoding: gzip",
    "a charset for all": b"Content-Charset: utf-16",
    "a header of its own": b"X-Anything: a",
    "an id": b"Content-ID: <a>",
    "a description": b"Content-Description: evil.exe",
    "a location": b"Content-Location: /evil.exe",
    "a range": b"Content-Range: bytes 0-1/2",
    "a second disposition": b'Content-Disposition: form-data; name="file"; filename="evil.exe"',
    "a second disposition in another case": b'content-disposition: form-data; name="x"',
    "a second media type": b"Content-Type: text/html",
    "a folded header": b" folded: a",
    "a header folded with a tab": b"\tfolded: a",
    "a header without a colon": b"hello",
    "a header without a name": b": a",
    "a header that is empty": b"Content-Length:",
    "a length too long": b"Content-Length: 9",
    "a length too short": b"Content-Length: 7",
    "a negative length": b"Content-Length: -8",
    "a length twice": b"Content-Length: 8\r\nContent-Length: 8",
    "a NUL in a header": b"Content-Length: 8\x00",
    "a line feed in a header": b"Content-Length: 8\nX: a",
    "a return in a header": b"Content-Length: 8\rX: a",
    "a header of 5,000 bytes": b"Content-Length: " + b"0" * 5000 + b"8",
    "a key that is no ASCII": "Cöntent-Length: 8".encode(),
    "a hundred headers": b"\r\n".join(b"X-%d: a" % number for number in range(100)),
}
TYPES = (
    *(b"multipart/mixed; boundary=C", b"multipart/form-data; boundary=C", b"message/rfc822"),
    *(b"Multipart/Mixed", b"message/http", b"application/x-msdownload", b"text", b"text/", b"/csv"),
    *(b"text/csv, text/html", b"text/csv; charset", b"text/csv;", b"text/csv\x00", b"text /csv"),
    *(b'text/csv; a="b', b"text/html\xff", b"image/png", b"*/*", b"text/csv; name=evil.exe x"),
)
FRAMES: dict[str, bytes] = {
    "nothing": b"",
    "no part": b"--B--\r\n",
    "no file": form(PURPOSE),
    "no purpose": form(WHOLE_FILE),
    "a preamble": b"preamble\r\n" + GOOD,
    "a preamble with a file": b"--X\r\n" + EVIL + b"\r\n" + GOOD,
    "a line end first": b"\r\n" + GOOD,
    "a blank first": b" " + GOOD,
    "an epilogue": GOOD + b"epilogue",
    "an epilogue with a file": GOOD + form(EVIL),
    "an epilogue after a blank line": GOOD + b"\r\n",
    "a NUL at the end": GOOD + b"\x00",
    "two ends": GOOD + b"--B--\r\n",
    "no end": GOOD.removesuffix(b"--B--\r\n"),
    "half an end": GOOD.removesuffix(b"-\r\n"),
    "an end with a blank": GOOD.removesuffix(b"\r\n") + b" \r\n",
    "an end with a line feed": GOOD.removesuffix(b"\r\n") + b"\n",
    "line feeds alone": GOOD.replace(b"\r\n", b"\n"),
    "returns alone": GOOD.replace(b"\r\n", b"\r"),
    "a line feed after the boundary": GOOD.replace(b"--B\r\n", b"--B\n"),
    "a line feed after the head": GOOD.replace(b"csv\r\n\r\n", b"csv\n\n"),
    "a blank after the boundary": GOOD.replace(b"--B\r\n", b"--B \r\n"),
    "a tab after the second boundary": GOOD.replace(b"ts\r\n--B", b"ts\r\n--B\t"),
    "a letter after the boundary": GOOD.replace(b"ts\r\n--B", b"ts\r\n--Bx"),
    "one hyphen too many": GOOD.replace(b"ts\r\n--B", b"ts\r\n---B"),
    "one hyphen too few": GOOD.replace(b"ts\r\n--B", b"ts\r\n-B"),
    "the boundary in another case": GOOD.replace(b"ts\r\n--B", b"ts\r\n--b"),
    "no line end before the boundary": GOOD.replace(b"ts\r\n--B", b"ts--B"),
    "a file twice": form(PURPOSE, WHOLE_FILE, WHOLE_FILE),
    "a good file and a bad one": form(PURPOSE, WHOLE_FILE, EVIL),
    "a bad file and a good one": form(PURPOSE, EVIL, WHOLE_FILE),
    "a bad file under another name": form(PURPOSE, WHOLE_FILE, EVIL.replace(b"file", b"more", 1)),
    "a purpose twice": form(PURPOSE, PURPOSE, WHOLE_FILE),
    "two purposes": form(PURPOSE, WHOLE_FILE, PURPOSE.replace(b"assistants", b"batch")),
    "a purpose nobody listed": form(PURPOSE.replace(b"assistants", b"evil"), WHOLE_FILE),
    "a purpose with a line end": form(PURPOSE + b"\r\n", WHOLE_FILE),
    "a purpose with a blank": form(PURPOSE + b" ", WHOLE_FILE),
    "an empty purpose": form(PURPOSE.removesuffix(b"assistants"), WHOLE_FILE),
    "a purpose that is no UTF-8": form(PURPOSE + b"\xff", WHOLE_FILE),
    "a purpose of 70,000 bytes": form(PURPOSE * 800, WHOLE_FILE),
    "a field nobody knows": form(PURPOSE, PURPOSE.replace(b"purpose", b"model"), WHOLE_FILE),
    "the charset of all": form(PURPOSE.replace(b"purpose", b"_charset_"), PURPOSE, WHOLE_FILE),
    "the method overridden": form(PURPOSE.replace(b"purpose", b"_method"), PURPOSE, WHOLE_FILE),
    "twenty parts": form(
        *[PURPOSE.replace(b"purpose", b"f%d" % number) for number in range(20)], WHOLE_FILE
    ),
    "a part without a head": form(PURPOSE, b"\r\n" + CONTENT),
    "a part that is empty": form(PURPOSE, b"", WHOLE_FILE),
    "a part that is an attachment": GOOD.replace(b'form-data; name="f', b'attachment; name="f'),
    "a part that is a file": GOOD.replace(b'form-data; name="f', b'file; name="f'),
    "a nested form": form(
        PURPOSE,
        NAMED
        + b"\r\nContent-Type: multipart/mixed; boundary=C\r\n\r\n"
        + form(EVIL, boundary=b"C"),
    ),
    "another boundary": GOOD.replace(b"--B", b"--C"),
    "a boundary that is longer": GOOD.replace(b"--B", b"--BB"),
    "a program for a table": GOOD.replace(CONTENT, b"MZ\x90\x00\x03\x00\x00\x00"),
    "a table with a NUL": GOOD.replace(CONTENT, b"a,b\x00\n"),
    "an empty file": GOOD.replace(CONTENT, b""),
    "JSON": b'{"purpose":"assistants"}',
}
BOUNDARIES = (
    *(
        b"",
        b"; boundary=",
        b'; boundary=""',
        b"; boundary=B; boundary=C",
        b"; boundary=C; boundary=B",
    ),
    *(b"; boundary=B; boundary=B", b"; boundary*=utf-8''B", b"; boundary*0=B", b"; boundary=B,C"),
    *(
        b'; boundary="B',
        b'; boundary="B"C',
        b"; boundary='B'",
        b'; boundary="B "',
        b"; boundary =B",
    ),
    *(b"; boundary= B", b";; boundary=B", b"; boundary=B;", b" boundary=B", b"; Boundary=b"),
    *(b"; boundary=" + b"B" * 71, b"; boundary=\xc3\xa4", b"; boundary=B\x0bC", b"; boundary=B@"),
    *(b"; boundary=B; a=b", b"; charset=utf-8; charset=utf-8; boundary=B", b"; boundary=--B"),
    *(b'; boundary="B\\"', b'; boundary="\\B"', b", multipart/form-data; boundary=B", b"; bound=B"),
)


def vectors() -> Iterator[Vector]:
    for what, body in HARMLESS.items():
        yield Vector(what, sending(body), 1)
    for what, parameters in NAMES.items():
        yield Vector(f"the name: {what}", sending(named(parameters)))
    for what, line in HEADS.items():
        yield Vector(f"a part with {what}", sending(GOOD.replace(TYPED, TYPED + b"\r\n" + line)))
        front = form(PURPOSE, line + b"\r\n" + WHOLE_FILE)
        yield Vector(f"a part that begins with {what}", sending(front))
        field = form(PURPOSE.replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n"), WHOLE_FILE)
        if what != "a second media type":  # There it is the first one, and is dropped.
            yield Vector(f"a field with {what}", sending(field))
    for media in TYPES:
        body = GOOD.replace(TYPED, b"\r\nContent-Type: " + media)
        yield Vector(f"a part of the type {media!r}", sending(body))
    for what, body in FRAMES.items():
        yield Vector(f"framed: {what}", sending(body))
    for said in BOUNDARIES:
        words = f"the form's type ends in {said[:24]!r} of {len(said)}"
        yield Vector(words, sending(GOOD, b"Content-Type: multipart/form-data" + said))
    for kind in (
        b"multipart/mixed",
        b"multipart/related",
        b"multipart/x",
        b"form-data",
        b"text/csv",
    ):
        words = f"the form's type is {kind!r}"
        yield Vector(words, sending(GOOD, b"Content-Type: " + kind + b"; boundary=B"))


VECTORS = in_words(vectors)


@pytest.mark.parametrize("words", VECTORS)
async def test_no_form_reaches_azure_that_two_servers_could_part_differently(
    wall: Wall, words: str
) -> None:
    await wall.withstands(VECTORS[words], clean=CLEAN)


async def test_a_refused_file_leaves_nothing_in_the_spool_and_no_hold(wall: Wall) -> None:
    for words in ("framed: an epilogue with a file", "framed: a good file and a bad one"):
        await wall.withstands(VECTORS[words], clean=CLEAN)

    assert wall.street.gateway.house.spool.used_bytes == 0
    assert await wall.street.reserved() == {}
