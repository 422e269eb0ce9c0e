"""A mocked network in the place of the real one."""

from __future__ import annotations

import httpx
import pytest
import respx

from gateway.upstream import MaybeSent, NotSent
from tests.transport.facing import OK, SECRET, ask, azure, facing, pieces, replying

pytestmark = pytest.mark.anyio

HOST = "https://x.openai.azure.com"


def router() -> respx.MockRouter:
    return respx.MockRouter(assert_all_called=False)


async def test_a_test_puts_respx_in_the_place_of_the_network() -> None:
    mock = router()
    route = mock.post(f"{HOST}/openai/v1/responses", params={"api-version": "preview"}).respond(
        201, headers=[("X-B", "1"), ("x-b", "2")], content=b"made"
    )
    upstream = azure(HOST, httpx.MockTransport(mock.async_handler))
    for body in (b'{"a":1}', pieces(b'{"a"', b":1}")):
        reply = await ask(
            upstream, path="/openai/v1/responses", query="api-version=preview", body=body
        )
        assert (reply.status, await reply.read(4)) == (201, b"made")
        assert [value for name, value in reply.headers if name == b"x-b"] == [b"1", b"2"]
        sent = route.calls.last.request
        assert sent.content == b'{"a":1}'
        assert sent.headers["api-key"] == SECRET
    await upstream.aclose()


async def test_a_host_that_is_not_mocked_fails() -> None:
    mock = router()
    mock.get(f"{HOST}/known").respond(200)
    upstream = azure("https://other.openai.azure.com", httpx.MockTransport(mock.async_handler))
    with pytest.raises(AssertionError, match="not mocked"):
        await ask(upstream, "GET", path="/known")


@pytest.mark.parametrize("fault", [NotSent("no"), MaybeSent("perhaps")])
async def test_a_mocked_network_raises_our_faults(fault: Exception) -> None:
    mock = router()
    mock.get(f"{HOST}/a").mock(side_effect=fault)
    upstream = azure(HOST, httpx.MockTransport(mock.async_handler))
    with pytest.raises(type(fault)):
        await ask(upstream, "GET", path="/a")


async def test_a_global_respx_does_not_reach_the_real_transport() -> None:
    async with facing(replying(OK)) as (upstream, server):
        with respx.mock(assert_all_called=False) as mock:
            mock.route().respond(500)
            assert (await ask(upstream)).status == 200
    assert len(server.requests) == 1
