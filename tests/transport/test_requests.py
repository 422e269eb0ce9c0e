"""What Azure sees of a request: what was rendered, and nothing added but host, key and length."""

from __future__ import annotations

import pytest

from gateway.upstream import AzureTransport, AzureUpstream, Credential, UpstreamTarget
from tests.transport.facing import OK, SECRET, ask, azure, facing, pieces, replying

pytestmark = pytest.mark.anyio


async def test_a_request_goes_out_with_nothing_added_but_host_key_and_length() -> None:
    headers = [(b"content-type", b"application/json"), (b"x-ms-client-request-id", b"7")]
    async with facing(replying(OK)) as (upstream, server):
        reply = await ask(
            upstream,
            path="/openai/deployments/gpt/chat/completions",
            query="api-version=2024-10-21",
            headers=headers,
            body=b'{"a":1}',
        )
        assert await reply.read(2) == b"ok"
    assert server.requests == [
        b"POST /openai/deployments/gpt/chat/completions?api-version=2024-10-21 HTTP/1.1\r\n"
        b"host: 127.0.0.1:%d\r\n"
        b"content-type: application/json\r\n"
        b"x-ms-client-request-id: 7\r\n"
        b"api-key: not-for-anybody\r\n"
        b"content-length: 7\r\n"
        b"\r\n"
        b'{"a":1}' % server.port
    ]


@pytest.mark.parametrize(
    ("method", "body", "tail"),
    [
        ("GET", None, b""),
        ("HEAD", None, b""),
        ("DELETE", None, b"content-length: 0\r\n"),
        ("POST", None, b"content-length: 0\r\n"),
        ("POST", b"", b"content-length: 0\r\n"),
    ],
)
async def test_a_request_without_a_body_says_so(
    method: str, body: bytes | None, tail: bytes
) -> None:
    async with facing(replying(b"HTTP/1.1 204 No Content\r\n\r\n")) as (upstream, server):
        reply = await ask(upstream, method, body=body)
        assert (reply.status, await reply.read(0)) == (204, b"")
    assert server.requests == [
        b"%s /openai/files HTTP/1.1\r\nhost: 127.0.0.1:%d\r\napi-key: not-for-anybody\r\n%s\r\n"
        % (method.encode(), server.port, tail)
    ]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/a%2Fb", ""),
        ("/a%2fb//c", "x=%2f&y=a+b%20c"),
        ("/a", "include[]=one&include[]=two&include%5B%5D=three"),
        ("/a:b;c=d,e", "filter='x'&q=(1)*~!$|^"),
        ("/a/%2e%2e/b", "a=?/b&c"),
    ],
)
async def test_a_target_goes_out_byte_for_byte(path: str, query: str) -> None:
    async with facing(replying(OK)) as (upstream, server):
        await (await ask(upstream, "GET", path=path, query=query)).read(2)
    target = f"{path}?{query}" if query else path
    assert server.requests[0].startswith(b"GET %s HTTP/1.1\r\n" % target.encode())


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("", ""),
        ("a", ""),
        ("/a/../b", ""),
        ("/a/./b", ""),
        ("/a?b", ""),
        ("/a?b", "c"),
        ("/a#b", ""),
        ("/a", "b#c"),
        ("/a b", ""),
        ("/a\r\nb", ""),
        ("/ä", ""),
        ("/a", "b=ä"),
    ],
)
async def test_a_target_that_would_be_rewritten_is_not_sent(path: str, query: str) -> None:
    async with facing(replying(OK)) as (upstream, server):
        with pytest.raises(ValueError, match="request target is not canonical"):
            await ask(upstream, "GET", path=path, query=query)
    assert server.connections == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[
            (name, b"1")
            for name in (
                b"api-key",
                b"Authorization",
                b"connection",
                b"content-length",
                b"Cookie",
                b"expect",
                b"host",
                b"te",
                b"transfer-encoding",
                b"upgrade",
                b"two words",
                b"a:b",
                b"a\r\nb",
                b"",
            )
        ],
        (b"x-a", b"1\r\nx-b: 2"),
        (b"x-a", b"\xff"),
        (b"x-a", b"\x00"),
    ],
)
async def test_a_header_that_is_ours_or_malformed_is_not_sent(name: bytes, value: bytes) -> None:
    async with facing(replying(OK)) as (upstream, server):
        with pytest.raises(ValueError, match="header `"):
            await ask(upstream, headers=[(name, value)])
    assert server.connections == 0


async def test_an_iterator_of_known_length_goes_out_with_its_length() -> None:
    async with facing(replying(OK)) as (upstream, server):
        await (await ask(upstream, body=pieces(b"ab", b"", b"cde"), content_length=5)).read(2)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.endswith(b"content-length: 5")
    assert b"transfer-encoding" not in head.lower()
    assert body == b"abcde"


async def test_an_iterator_of_unknown_length_goes_out_in_chunks() -> None:
    async with facing(replying(OK)) as (upstream, server):
        await (await ask(upstream, body=pieces(b"ab", b"", b"cde"))).read(2)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.lower().endswith(b"transfer-encoding: chunked")
    assert b"content-length" not in head.lower()
    assert body == b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"


@pytest.mark.parametrize("size", [32 * 1024, 32 * 1024 + 1, 3_000_000])
async def test_a_large_body_arrives_whole(size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    async with facing(replying(OK)) as (upstream, server):
        await (await ask(upstream, body=body[:size])).read(2)
        await (await ask(upstream, body=b"again")).read(2)
    assert server.requests[0].partition(b"\r\n\r\n")[2] == body[:size]
    assert (len(server.requests), server.connections) == (2, 1)


async def test_a_target_may_have_a_path_of_its_own() -> None:
    async with facing(replying(OK)) as (_, server):
        upstream = azure(f"{server.url}/api/projects/p", AzureTransport())
        await (await ask(upstream, "GET", path="/threads", query="api-version=v1")).read(2)
        with pytest.raises(ValueError, match="not canonical"):
            await ask(upstream, "GET", path="x/threads")
        await upstream.aclose()
    assert server.requests[0].startswith(b"GET /api/projects/p/threads?api-version=v1 HTTP/1.1\r\n")
    assert len(server.requests) == 1


async def test_the_credential_in_force_is_asked_for_at_every_request() -> None:
    async with facing(replying(OK)) as (_, server):
        targets = {"one": UpstreamTarget("one", server.url, Credential("api-key", "old"))}
        upstream = AzureUpstream(targets, AzureTransport())
        await (await ask(upstream)).read(2)
        bearer = Credential("authorization", "Bearer new")
        targets["one"] = UpstreamTarget("one", server.url, bearer)
        await (await ask(upstream)).read(2)
        with pytest.raises(KeyError):
            await upstream.send("two", method="GET", path="/", query="", headers=[], body=None)
        await upstream.aclose()
    assert b"\r\napi-key: old\r\n" in server.requests[0]
    assert b"\r\nauthorization: Bearer new\r\n" in server.requests[1]
    assert b"api-key" not in server.requests[1]


def test_a_credential_is_not_shown() -> None:
    target = UpstreamTarget("one", "https://x.openai.azure.com", Credential("api-key", SECRET))
    assert SECRET not in f"{target} {target!r} {target.credential}"
