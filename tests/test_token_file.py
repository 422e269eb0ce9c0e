"""A bearer token in a file that somebody else keeps fresh."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest

from gateway.upstream import AzureUpstream, NotSent, TokenFile, UpstreamTarget

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "token"


def replaced(path: Path, text: str) -> None:
    """Put a new file in the place of the old one, as whoever keeps tokens fresh should."""
    draft = path.with_suffix(".new")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


async def shown(upstream: AzureUpstream) -> None:
    await upstream.send("a", method="GET", path="/x", query="", headers=[], body=None)


async def test_the_token_of_the_moment_is_shown_and_never_the_one_before(path: Path) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(200)

    target = UpstreamTarget("a", "https://azure.example", TokenFile(path))
    upstream = AzureUpstream({"a": target}, httpx.MockTransport(answer))
    replaced(path, "first\n")
    await shown(upstream)
    await shown(upstream)
    replaced(path, "other")
    await shown(upstream)

    assert seen == ["Bearer first", "Bearer first", "Bearer other"]


@pytest.mark.parametrize("text", [None, "", "\n", "two words", "line\nline", "t\u00f6ken"])
async def test_without_a_token_nothing_is_sent(path: Path, text: str | None) -> None:
    if text is not None:
        replaced(path, text)
    target = UpstreamTarget("a", "https://azure.example", TokenFile(path))
    upstream = AzureUpstream({"a": target}, httpx.MockTransport(lambda _: pytest.fail("sent")))
    with pytest.raises(NotSent) as caught:
        await shown(upstream)
    assert text is None or not text.strip() or text not in str(caught.value)


async def test_the_token_never_shows_itself(path: Path) -> None:
    replaced(path, "secret")
    token = TokenFile(path)
    assert token.value == "Bearer secret"
    assert "secret" not in repr(token)
    assert "secret" not in repr(UpstreamTarget("a", "https://azure.example", token))
