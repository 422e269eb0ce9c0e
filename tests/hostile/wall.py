"""A live gateway, raw bytes against it, and the judge: the journal of the simulated Azure.

A vector says how many clean requests may arrive, mostly none. Whatever is answered otherwise must
be a refusal in Azure's shape, and the journal must show the clean request so often and nothing
else: not a byte of another path, header, form or team.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.street.living import VERSION, Street

PATIENCE_S = 30
ALLOWED_HEADERS = frozenset(
    {
        "host",
        "accept",
        "openai-beta",
        "x-ms-client-request-id",
        "aoai-evals",
        "api-key",
        "content-type",
        "content-length",
    }
)
CHAT_TARGET = b"/openai/deployments/gpt-4o/chat/completions?api-version=" + VERSION.encode()
FILES_TARGET = b"/openai/files?api-version=" + VERSION.encode()
HELLO = b'{"messages":[{"role":"user","content":"hello"}]}'
KEY, RED_KEY, FILE, RED_FILE = b"@KEY@", b"@RED-KEY@", b"@FILE@", b"@RED-FILE@"
HOST, KEY_LINE = b"Host: gateway", b"api-key: " + KEY
JSON_LINE = b"Content-Type: application/json"

_OUR_BOUNDARY = re.compile(r"boundary=[0-9a-f]{48}")
_TARGET = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+\?[A-Za-z0-9._~=&%\[\]-]+")


@dataclass(frozen=True, slots=True)
class Vector:
    """One attack in words and bytes; `arrives` is how many clean requests may come of it.

    `answers` is how many answers are waited for before we say goodbye.
    """

    words: str
    sent: bytes
    arrives: int = 0
    answers: int = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as it stood on the wire."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


@dataclass
class Wall:
    """The gateway under attack. `names` are what the marks in a vector stand for."""

    street: Street
    names: dict[bytes, bytes]
    clean: dict[bytes, list[dict[str, Any]]] = field(default_factory=dict)

    def filled(self, sent: bytes) -> bytes:
        """Return the vector's bytes with real keys and ids in the place of marks."""
        for mark, value in self.names.items():
            sent = sent.replace(mark, value)
        return sent

    async def say(self, sent: bytes, *, answers: int = 1) -> list[Answer]:
        """Send bytes over a connection of their own; return every answer until it is closed.

        Our half is closed once `answers` came: the door takes an earlier goodbye for leaving.
        """
        heard, told = b"", answers == 0
        host, port = "127.0.0.1", self.street.gateway.data_port
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(self.filled(sent))
                if told:
                    writer.write_eof()
                while part := await reader.read(65_536):
                    heard += part
                    if not told and len(list(answers_in(heard, is_whole=False))) >= answers:
                        writer.write_eof()
                        told = True
            except ConnectionError:
                assert told, heard
            finally:
                writer.close()
        return list(answers_in(heard))

    async def arrived(self, mark: int) -> list[dict[str, Any]]:
        """Return what Azure received since `mark`, having found every request canonical."""
        rows = await self.street.journal(mark)
        for row in rows:
            assert_canonical(row)
            assert self.names[RED_FILE].decode() not in json.dumps(row)
        return [comparable(row) for row in rows]

    async def clean_row(self, request: bytes) -> list[dict[str, Any]]:
        """Return what arrives of a request nobody tampered with."""
        if request not in self.clean:
            mark = await self.street.mark()
            answers = await self.say(request)
            assert [answer.status for answer in answers] in ([200], [201]), answers
            self.clean[request] = await self.arrived(mark)
            assert len(self.clean[request]) == 1
        return self.clean[request]

    async def withstands(self, vector: Vector, *, clean: bytes) -> None:
        """Send the vector; hold answers and journal against what it says of itself."""
        wanted = await self.clean_row(clean)
        mark = await self.street.mark()
        answers = await self.say(vector.sent, answers=vector.answers)
        rows = await self.arrived(mark)
        assert rows == wanted * vector.arrives, (answers, rows)
        good = [answer for answer in answers if answer.status < 400]
        assert len(good) == vector.arrives, answers
        for answer in answers[vector.arrives :]:
            assert_refusal(answer)
        assert len(answers) >= vector.answers


def assert_refusal(answer: Answer) -> None:
    """Hold that an answer is a refusal of ours in Azure's shape, and no fault."""
    assert 400 <= answer.status < 500, answer
    error = json.loads(answer.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["code"]
    assert not error["message"].endswith(".")
    assert b"apim-request-id" not in answer.headers


def assert_canonical(row: dict[str, Any]) -> None:
    """Hold that a request is one the gateway wrote itself: path, query and headers."""
    assert _TARGET.fullmatch(row["target"]), row["target"]
    path, _, query = row["target"].partition("?")
    assert "%" not in path
    assert query.count("api-version=") == (0 if path.startswith("/openai/v1/") else 1)
    names = [name for name, _ in row["headers"]]
    assert len(names) == len(set(names))
    assert set(names) <= ALLOWED_HEADERS
    assert ["api-key", "present"] in row["headers"]


def comparable(row: dict[str, Any]) -> dict[str, Any]:
    """Return a journal's row without its number and the boundary, new every time, of its form."""
    kept = {name: row[name] for name in ("method", "target", "json", "form", "body_bytes")}
    if row["form"] is None:
        kept["body_sha256"] = row["body_sha256"]
    kept["headers"] = [[name, _OUR_BOUNDARY.sub("", value)] for name, value in row["headers"]]
    return kept


def answers_in(heard: bytes, *, is_whole: bool = True) -> Iterator[Answer]:
    """Yield every final answer in what a connection brought; if `is_whole`, none is cut short."""
    while heard:
        head, gap, rest = heard.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        headers = {name.lower(): value for name, value in (_field(line) for line in lines)}
        status = int(first.split(b" ")[1]) if gap else 0
        found = (b"", rest) if 0 < status < 200 else _body(headers, rest)
        if not gap or found is None:
            assert not is_whole, heard
            return
        body, heard = found
        if status >= 200:
            yield Answer(status, headers, body)


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b": ")
    return name, value


def _body(headers: dict[bytes, bytes], rest: bytes) -> tuple[bytes, bytes] | None:
    """Return the body and what follows it, or None if it is not all there."""
    if headers.get(b"transfer-encoding") != b"chunked":
        size = int(headers.get(b"content-length", b"0"))
        return (rest[:size], rest[size:]) if len(rest) >= size else None
    body = b""
    while b"\r\n" in rest:
        line, _, rest = rest.partition(b"\r\n")
        size = int(line, 16)
        if len(rest) < size + 2:
            return None
        body, rest = body + rest[:size], rest[size + 2 :]
        if size == 0:
            return body, rest
    return None


def request(
    target: bytes, *lines: bytes, method: bytes = b"GET", body: bytes = b"", host: bytes = HOST
) -> bytes:
    """Return a request of these header lines and no other but Host; the body is not measured."""
    head = b"\r\n".join((method + b" " + target + b" HTTP/1.1", host, *lines))
    return head + b"\r\n\r\n" + body


def post(
    *more: bytes, target: bytes = CHAT_TARGET, body: bytes = HELLO, media: bytes = JSON_LINE
) -> bytes:
    """Return a whole POST of team blue with its length, and `more` header lines."""
    length = b"Content-Length: %d" % len(body)
    return request(target, KEY_LINE, media, length, *more, method=b"POST", body=body)


CLEAN_CHAT = post()
CLEAN_FILE = request(b"/openai/files/" + FILE + b"?api-version=" + VERSION.encode(), KEY_LINE)


def in_words(vectors: Callable[[], Iterator[Vector]]) -> dict[str, Vector]:
    """Return vectors by their words, having found at least sixty, all different."""
    made = list(vectors())
    found = {vector.words: vector for vector in made}
    assert len(found) == len(made), [v.words for v in made if found[v.words] is not v]
    by_bytes = {vector.sent: vector for vector in made}
    assert len(by_bytes) == len(made), [v.words for v in made if by_bytes[v.sent] is not v]
    assert len(found) >= 60
    return found
