"""Header lines: what two servers could read differently is refused, what is not ours is dropped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.wall import (
    CHAT_TARGET,
    CLEAN_CHAT,
    HELLO,
    JSON_LINE,
    KEY,
    KEY_LINE,
    RED_FILE,
    RED_KEY,
    Vector,
    Wall,
    in_words,
    post,
    request,
)

pytestmark = pytest.mark.anyio

LENGTH = b"Content-Length: %d" % len(HELLO)
BEARER, RED_BEARER = b"Authorization: Bearer " + KEY, b"Authorization: Bearer " + RED_KEY

TWICE: dict[str, tuple[bytes, ...]] = {
    "the length, the same": (LENGTH,),
    "the length, another": (b"Content-Length: 1",),
    "the length, in another case": (b"content-LENGTH: %d" % len(HELLO),),
    "the host, the same": (b"Host: gateway",),
    "the host, another": (b"host: other.example",),
    "the coding beside a length": (b"Transfer-Encoding: chunked",),
    "the coding, empty, beside a length": (b"Transfer-Encoding:",),
    "the coding, unknown, beside a length": (b"Transfer-Encoding: x",),
    "the key, another team's": (b"api-key: " + RED_KEY,),
    "the key, another team's, in another case": (b"API-Key: " + RED_KEY,),
    "the key, empty": (b"api-key:",),
    "the key, in a list": (b"api-key: " + KEY + b", " + RED_KEY,),
    "the key and another team's as a bearer": (RED_BEARER,),
    "the key and a bearer that is empty": (b"Authorization: Bearer",),
    "the key and another scheme": (b"Authorization: Basic " + KEY,),
    "the key and another team's in two bearers": (BEARER, RED_BEARER),
    "the key and a list of bearers": (b"Authorization: Bearer " + KEY + b", Bearer " + RED_KEY,),
    "the body's encoding": (b"Content-Encoding: gzip",),
    "the body's encoding, in capitals": (b"CONTENT-ENCODING: GZIP",),
    "the body's encoding, twice": (b"Content-Encoding: gzip", b"Content-Encoding: br"),
    "the body's encoding, stacked": (b"Content-Encoding: gzip, gzip",),
    "the body's encoding, identity and another": (b"Content-Encoding: identity, gzip",),
    "the body's encoding, empty": (b"Content-Encoding:",),
    "the body's encoding, of a browser": (b"Content-Encoding: br",),
    "the body's encoding, old": (b"Content-Encoding: x-gzip",),
    "the body's encoding, unknown": (b"Content-Encoding: utf-8",),
    "the body's encoding, identity in the end": (
        b"Content-Encoding: gzip",
        b"Content-Encoding: identity",
    ),
    "the media type, the same": (JSON_LINE,),
    "the media type, another": (b"Content-Type: text/plain",),
    "the media type, of a form": (b"content-type: multipart/form-data; boundary=a",),
    "the upgrade to a socket": (b"Connection: Upgrade", b"Upgrade: websocket"),
    "the upgrade to a socket among others": (b"Upgrade: h2c, WebSocket/13",),
}

SAME_TWICE: dict[str, tuple[bytes, ...]] = {
    "the key as a bearer too": (BEARER,),
    "the key twice, the same": (KEY_LINE,),
    "the key as a bearer in another case": (b"AUTHORIZATION: bEARER " + KEY,),
    "no encoding": (b"Content-Encoding: identity",),
    "the offer of another protocol": (b"Connection: Upgrade", b"Upgrade: h2c"),
    "the offer of another protocol, alone": (b"Upgrade: TLS/1.0",),
}

NAMES: dict[str, bytes] = {
    "a length": b"Content-Length",
    "a coding": b"Transfer-Encoding",
    "a host": b"Host",
    "a key": b"api-key",
    "a credential": b"Authorization",
    "a media type": b"Content-Type",
    "an encoding": b"Content-Encoding",
    "a connection": b"Connection",
    "an expectation": b"Expect",
    "a cookie": b"Cookie",
    "a word nobody knows": b"X-Anything",
}
BROKEN: dict[str, bytes] = {
    "with a blank before the colon": b"%b : a",
    "with a tab before the colon": b"%b\t: a",
    "with a blank before its name": b" %b: a",
    "with a tab before its name": b"\t%b: a",
    "folded": b"%b: a\r\n b",
    "folded with a tab": b"%b: a\r\n\tb",
    "folded at once": b"%b:\r\n a",
    "with a NUL in its value": b"%b: a\x00b",
    "with a NUL in its name": b"\x00%b: a",
    "with a bare line feed in it": b"%b: a\nX-Other: b",
    "with a bare return in it": b"%b: a\rX-Other: b",
    "with a control character": b"%b: a\x01b",
    "without a colon": b"%b",
    "with bytes behind its name": b"%b\xa0: a",
    "within brackets": b"(%b): a",
}

TWINS: dict[str, bytes] = {
    "the key with an underscore": b"api_key: " + RED_KEY,
    "the credential of another gateway": b"X-API-Key: " + RED_KEY,
    "the key of API management": b"Ocp-Apim-Subscription-Key: " + RED_KEY,
    "the length with an underscore": b"Content_Length: 3",
    "the coding with an underscore": b"Transfer_Encoding: chunked",
    "the media type with an underscore": b"Content_Type: text/plain",
    "the encoding with an underscore": b"Content_Encoding: gzip",
    "the encoding with a dot": b"Content.Encoding: gzip",
    "the host with an underscore": b"Http_Host: other.example",
    "the key in a cookie": b"Cookie: api-key=" + RED_KEY,
    "the credential for a proxy": b"Proxy-Authorization: Bearer " + RED_KEY,
    "the forwarded host": b"X-Forwarded-Host: other.example",
    "the forwarded scheme": b"X-Forwarded-Proto: https",
    "the forwarded port": b"X-Forwarded-Port: 1",
    "the forwarded path": b"X-Forwarded-Prefix: /openai/files",
    "the forwarded address": b"X-Forwarded-For: 127.0.0.1",
    "the address of another proxy": b"X-Real-IP: 127.0.0.1",
    "the address of the client": b"True-Client-IP: 127.0.0.1",
    "all of them in one": b"Forwarded: for=127.0.0.1;host=other.example;proto=https",
    "the host of another proxy": b"X-Host: other.example",
    "the server's name": b"X-Forwarded-Server: other.example",
    "the original URL": b"X-Original-URL: /openai/files/" + RED_FILE,
    "the original URI": b"X-Original-URI: /openai/files/" + RED_FILE,
    "the rewritten URL": b"X-Rewrite-URL: /openai/files/" + RED_FILE,
    "the URI of Envoy": b"X-Envoy-Original-Path: /openai/files/" + RED_FILE,
    "the method overridden": b"X-HTTP-Method-Override: DELETE",
    "the method overridden, shorter": b"X-HTTP-Method: DELETE",
    "the method overridden, shortest": b"X-Method-Override: DELETE",
    "the team": b"X-Team-Id: red",
    "the user": b"X-Forwarded-User: admin",
    "the user of another gateway": b"X-LiteLLM-User: red",
    "the upstream's address": b"X-Azure-Endpoint: http://other.example",
    "the upstream's address for another gateway": b"X-Portkey-Custom-Host: http://other.example",
    "the resource's name": b"Azure-OpenAI-Endpoint: http://other.example",
    "the organisation": b"OpenAI-Organization: org-other",
    "the project": b"OpenAI-Project: proj_other",
    "the answer's cookie": b"Set-Cookie: a=b",
    "a range": b"Range: bytes=0-1",
    "a condition": b"If-None-Match: *",
    "an expectation of nothing": b"X-Expect: 100-continue",
    "a retry count": b"x-stainless-retry-count: 3",
    "the coding we could answer in": b"Accept-Encoding: gzip",
    "a trailer announced": b"Trailer: api-key",
    "what may be transferred": b"TE: trailers, chunked",
    "a keep-alive": b"Keep-Alive: timeout=5, max=1000",
    "a connection for a proxy": b"Proxy-Connection: keep-alive",
    "an identity for a trace": b"traceparent: 00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01",
    "a value of 8,000 bytes": b"X-Long: " + b"a" * 8000,
    "a value that is no ASCII": b"X-Name: \xc3\xa9\xff",
    "a beta with a byte that is no ASCII": b"OpenAI-Beta: assistants=v2\xff",
    "an accept with a byte that is no ASCII": b"Accept: \xe9",
    "a client's id of 2,000 bytes": b"x-ms-client-request-id: " + b"a" * 2000,
}
DROPPED_BY_HOP = (
    *(b"api-key", b"authorization", b"content-length", b"content-type", b"host", b"close, api-key"),
    *(b"transfer-encoding", b"x-ms-client-request-id, api-key", b"keep-alive, authorization"),
    *(b"cookie", b"x-forwarded-for", b"te", b"proxy-authorization", b"api-key, api-key"),
)
HOSTS: dict[str, bytes] = {
    "empty": b"",
    "of two": b"gateway, other.example",
    "with a path": b"gateway/openai/files",
    "with a query": b"gateway?a=b",
    "with a fragment": b"gateway#a",
    "with a user": b"admin@gateway",
    "with a blank": b"gateway other",
    "with a scheme": b"http://gateway",
    "with a port that is none": b"gateway:port",
    "with a port too long": b"gateway:123456",
    "with two ports": b"gateway:80:80",
    "with a backslash": b"gateway\\other",
    "with an escape": b"gateway%2fother",
    "with a semicolon": b"gateway;other",
    "with an underscore and a quote": b"gate_way'",
    "with brackets open": b"[::1",
    "with bytes that are no ASCII": "gätewäy".encode(),
    "with a way up": b"gateway/../admin",
}
OTHER_HOSTS = (b"other.example", b"127.0.0.1:1", b"[::1]:443", b"169.254.169.254", b"LOCALHOST")
MEDIA = (
    *(b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=a"),
    *(b"application/json5", b"application/jsonp", b"application/json-seq", b"text/json"),
    *(b"application/xml", b"*/*", b"json", b"", b"application", b"application/json, text/plain"),
    *(b"application/x-ndjson", b"application/json\xff", b"application /json", b"applicationjson"),
)


def vectors() -> Iterator[Vector]:
    for what, lines in TWICE.items():
        yield Vector(f"twice: {what}", post(*lines))
        yield Vector(f"twice, in front: {what}", _in_front(*lines))
    for what, lines in SAME_TWICE.items():
        yield Vector(f"twice and harmless: {what}", post(*lines), 1)
    for what, name in NAMES.items():
        for how, line in BROKEN.items():
            yield Vector(f"{what} {how}", post(line % name))
    for what, line in TWINS.items():
        yield Vector(f"dropped: {what}", post(line), 1)
    for name in DROPPED_BY_HOP:
        words = f"a connection that would drop `{name.decode()}`"
        yield Vector(words, post(b"Connection: " + name), 1)
    for what, host in HOSTS.items():
        line = b"Host: " + host
        yield Vector(f"a host {what}", _clean_with(host=line))
    for host in OTHER_HOSTS:
        yield Vector(f"the host is `{host.decode()}`", _clean_with(host=b"Host: " + host), 1)
    for media in MEDIA:
        words = f"the media type is {media!r}"
        yield Vector(words, post(media=b"Content-Type: " + media))
    yield Vector("no host", _clean_with(host=b"X-Host: gateway"))
    yield Vector("no key", request(CHAT_TARGET, JSON_LINE, LENGTH, method=b"POST", body=HELLO))
    yield Vector("a hundred and one lines", post(*[b"X-A: b"] * 101))
    yield Vector("a thousand lines", post(*[b"X-A: b"] * 1000))
    yield Vector("forty thousand bytes in a line", post(b"X-A: " + b"b" * 40_000))
    yield Vector("forty thousand bytes in a name", post(b"X" * 40_000 + b": a"))
    yield Vector("a key of 20,000 bytes", _with_key(b"gw-" + b"a" * 20_000))
    yield Vector("a key with a quote of SQL", _with_key(b"gw-a' OR '1'='1"))
    yield Vector("a key with a wildcard", _with_key(b"gw-%"))
    yield Vector("a key cut short", _with_key(KEY[:-1]))
    yield Vector("a key with a blank within", _with_key(KEY + b" " + KEY))
    yield Vector("the key of the simulator", _with_key(b"azure-simulator-key"))


def _in_front(*lines: bytes) -> bytes:
    given = (*lines, KEY_LINE, JSON_LINE, LENGTH)
    return request(CHAT_TARGET, *given, method=b"POST", body=HELLO)


def _clean_with(*, host: bytes) -> bytes:
    given = (KEY_LINE, JSON_LINE, LENGTH)
    return request(CHAT_TARGET, *given, method=b"POST", body=HELLO, host=host)


def _with_key(key: bytes) -> bytes:
    given = (b"api-key: " + key, JSON_LINE, LENGTH)
    return request(CHAT_TARGET, *given, method=b"POST", body=HELLO)


VECTORS = in_words(vectors)


@pytest.mark.parametrize("words", VECTORS)
async def test_no_header_line_reaches_azure_but_those_we_write(wall: Wall, words: str) -> None:
    await wall.withstands(VECTORS[words], clean=CLEAN_CHAT)


async def test_the_lines_azure_may_see_are_passed_on_once_and_only_where_they_are_plain(
    wall: Wall,
) -> None:
    lines = (b"OpenAI-Beta: assistants=v2", b"openai-beta: other", b"Accept: application/json")
    mark = await wall.street.mark()
    (answer,) = await wall.say(post(*lines))
    (row,) = await wall.arrived(mark)

    assert answer.status == 200
    assert ["openai-beta", "assistants=v2"] in row["headers"]
    assert ["accept", "application/json"] in row["headers"]


async def test_an_answer_names_neither_a_key_nor_a_word_the_caller_planted(wall: Wall) -> None:
    planted = b"planted-7f3a"
    for line in (b"X-Request-Id: ", b"apim-request-id: ", b"Cookie: ", b"X-Forwarded-Host: "):
        (answer,) = await wall.say(post(line + planted))
        told = answer.body + b"".join(answer.headers) + b"".join(answer.headers.values())
        assert planted not in told
        assert wall.names[KEY] not in told
