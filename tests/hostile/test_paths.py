"""Paths: one spelling of each, and no other leads anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.wall import (
    CHAT_TARGET,
    CLEAN_CHAT,
    CLEAN_FILE,
    FILE,
    KEY_LINE,
    RED_FILE,
    Vector,
    Wall,
    in_words,
    post,
    request,
)
from tests.street.living import VERSION

pytestmark = pytest.mark.anyio

QUERY = b"?api-version=" + VERSION.encode()

TRICKS: dict[str, bytes] = {
    "an empty segment": b"/",
    "two empty segments": b"//",
    "a dot": b"/.",
    "two dots": b"/..",
    "three dots": b"/...",
    "dots and a semicolon": b"/..;",
    "dots with a parameter": b"/..;a=b",
    "a dot and a semicolon": b"/.;",
    "a bare semicolon": b";",
    "a path parameter": b";v=1",
    "a session id": b";jsessionid=1",
    "a comma": b",",
    "an escaped dot": b"/%2e",
    "two escaped dots": b"/%2e%2e",
    "one dot plain and one escaped": b"/.%2e",
    "two dots escaped in two cases": b"/%2E%2e",
    "two dots escaped twice": b"/%252e%252e",
    "two dots escaped three times": b"/%25252e%25252e",
    "an escaped slash": b"%2f",
    "an escaped slash in capitals": b"%2F",
    "a slash escaped twice": b"%252f",
    "an escaped backslash": b"%5c",
    "a backslash escaped twice": b"%255c",
    "a backslash": b"\\",
    "dots and a backslash": b"/..\\",
    "an escaped way up": b"%2f%2e%2e%2f",
    "an escaped way up with backslashes": b"%5c%2e%2e%5c",
    "an escaped NUL": b"%00",
    "a NUL escaped twice": b"%2500",
    "a NUL": b"\x00",
    "an escaped line end": b"%0d%0a",
    "an escaped line end and a header": b"%0d%0aapi-key:%20a",
    "an escaped line feed": b"%0a",
    "an escaped tab": b"%09",
    "a tab": b"\t",
    "an escaped blank": b"%20",
    "a plus": b"+",
    "an escaped question mark": b"%3f",
    "an escaped hash": b"%23",
    "an escaped semicolon": b"%3b",
    "an escaped letter": b"%61",
    "an escaped letter, twice": b"%2561",
    "an escape of IIS": b"%u002f",
    "a dot in an overlong form": b"%c0%ae",
    "a slash in an overlong form": b"%c0%af",
    "a slash in a longer overlong form": b"%e0%80%af",
    "a slash in the longest overlong form": b"%f0%80%80%af",
    "an overlong slash in raw bytes": b"\xc0\xaf",
    "a fullwidth slash": "／".encode(),
    "a fullwidth slash, escaped": b"%ef%bc%8f",
    "a fullwidth dot, escaped": b"%ef%bc%8e",
    "a division slash": "∕".encode(),
    "a zero-width space": b"%e2%80%8b",
    "a letter with an accent": "é".encode(),
    "a byte that is no UTF-8": b"\xff",
    "a half escape": b"%2",
    "a percent sign": b"%",
    "an escape that is none": b"%zz",
    "a fragment": b"#",
    "a fragment with a path": b"#/openai/files",
    "an at sign": b"@other",
    "a colon": b":8080",
    "a bar": b"|",
    "a quote": b"'",
    "a double quote": b'"',
    "an angle bracket": b"<a>",
    "a brace": b"{file}",
    "an asterisk": b"*",
    "a caret": b"^",
    "a backtick": b"`id`",
    "a dollar sign": b"$(id)",
}

PLACES: dict[str, bytes] = {
    "behind the whole path": b"/openai/files/" + FILE + b"!",
    "before the id": b"/openai/files!/" + FILE,
    "within a word": b"/openai/fi!les/" + FILE,
    "before the surface": b"!/openai/files/" + FILE,
    "before somebody else's id": b"/openai/files/" + FILE + b"!/" + RED_FILE,
}

OTHERS: dict[str, bytes] = {
    "somebody else's file": b"/openai/files/" + RED_FILE,
    "the content of somebody else's file": b"/openai/files/" + RED_FILE + b"/content",
    "the surface in capitals": b"/OPENAI/files/" + FILE,
    "the surface as its name is written": b"/OpenAI/files/" + FILE,
    "a word in capitals": b"/openai/FILES/" + FILE,
    "an id in capitals": b"/openai/files/FILE-0001",
    "an empty segment before another word": b"//files/" + FILE,
    "an empty segment first and one within": b"//openai//files/" + FILE,
    "a host in an empty segment": b"//other.example/openai/files/" + FILE,
    "the absolute form": b"http://gateway/openai/files/" + FILE,
    "the absolute form of another host": b"http://other.example/openai/files/" + FILE,
    "the absolute form with a user": b"http://gateway@other.example/openai/files/" + FILE,
    "the absolute form with a port": b"http://gateway:80/openai/files/" + FILE,
    "the absolute form of another scheme": b"file:///openai/files/" + FILE,
    "the absolute form in capitals": b"HTTP://GATEWAY/openai/files/" + FILE,
    "the authority form": b"gateway:443",
    "the asterisk form": b"*",
    "no slash at all": b"openai/files/" + FILE,
    "a question mark at once": b"?/openai/files/" + FILE,
    "an id of 129 characters": b"/openai/files/" + b"a" * 129,
    "an id of 7,000 characters": b"/openai/files/" + b"a" * 7000,
    "a target of 9,000 bytes": b"/openai/files/" + b"a" * 9000,
    "two thousand segments": b"/openai" + b"/a" * 2000,
    "a deployment that is dots": b"/openai/deployments/../files/" + FILE,
    "a deployment that begins with a dot": b"/openai/deployments/.a/embeddings",
    "the control plane of the simulator": b"/simulator/journal",
    "the metrics": b"/metrics",
    "the surface of v1 below that of dates": b"/openai/v1/v1/files/" + FILE,
    "the surface twice": b"/openai/openai/files/" + FILE,
    "our own surface in front": b"/gateway/v1/openai/files/" + FILE,
    "a proxy's route": b"/v1/proxy/openai/files/" + FILE,
    "an old alias": b"/v1/files/" + FILE,
    "an operation nobody listed": b"/openai/files/" + FILE + b"/permissions",
}


def vectors() -> Iterator[Vector]:
    for where, place in PLACES.items():
        for what, trick in TRICKS.items():
            target = place.replace(b"!", trick) + QUERY
            # The one kindness of this surface, and in this place it is spelled like a trick.
            kind = trick == b"/" and place.startswith(b"!")
            yield Vector(f"{what}, {where}", request(target, KEY_LINE), int(kind))
    for words, path in OTHERS.items():
        yield Vector(words, request(path + QUERY, KEY_LINE))


VECTORS = in_words(vectors)


@pytest.mark.parametrize("words", VECTORS)
async def test_no_other_spelling_of_a_path_leads_to_azure(wall: Wall, words: str) -> None:
    await wall.withstands(VECTORS[words], clean=CLEAN_FILE)


@pytest.mark.parametrize("what", TRICKS)
async def test_a_deployment_cannot_be_spelled_away_either(wall: Wall, what: str) -> None:
    target = CHAT_TARGET.replace(b"gpt-4o", b"gpt-4o" + TRICKS[what])
    await wall.withstands(Vector(what, post(target=target)), clean=CLEAN_CHAT)
