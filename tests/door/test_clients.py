"""Who asks: the address in the scope, with and without proxies that are trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.listener import Door
from tests.door.knocking import Recorder, dialled, opened, parse, request, talk

pytestmark = pytest.mark.anyio

OURS = ["127.0.0.1", "10.0.0.0/8"]
FORWARDED = b"X-Forwarded-For: 1.1.1.1, 198.51.100.7:4711"


async def client_of(*headers: bytes, **how: Any) -> tuple[str, int]:
    async with opened(**how) as (door, app):
        assert parse(await talk(door, request(b"/", *headers, close=True)))[0] == 200
        host, port = app.scopes[0]["client"]
        return host, port


async def test_without_trusted_proxies_the_client_is_the_peer_whatever_he_says() -> None:
    host, port = await client_of(FORWARDED, b"Forwarded: for=1.1.1.1", b"X-Real-IP: 1.1.1.1")
    assert host == "127.0.0.1"
    assert port > 0


async def test_a_peer_that_is_not_trusted_is_not_believed() -> None:
    assert (await client_of(FORWARDED, trusted_proxies=["10.0.0.0/8"]))[0] == "127.0.0.1"


async def test_a_trusted_proxy_says_who_asked_it() -> None:
    assert await client_of(FORWARDED, trusted_proxies=OURS) == ("198.51.100.7", 0)


async def test_several_lines_are_one_list_in_their_order() -> None:
    lines = (FORWARDED, b"x-forwarded-for: [2001:db8::7]:99", b"X-Forwarded-For: 10.0.0.2")
    assert await client_of(*lines, trusted_proxies=OURS) == ("2001:db8::7", 0)


@pytest.mark.parametrize("told", [b"unknown", b"", b"fe80::1%eth0", b"\xff\xfe", b"a" * 8000])
async def test_what_is_no_address_leaves_the_proxy_as_the_client(told: bytes) -> None:
    host, port = await client_of(b"X-Forwarded-For: " + told, trusted_proxies=OURS)
    assert host == "127.0.0.1"
    assert port > 0


async def test_every_request_of_a_proxy_s_connection_has_its_own_client() -> None:
    async with opened(trusted_proxies=OURS) as (door, app), dialled(door) as (reader, writer):
        for last in (b"7", b"8"):
            writer.write(request(b"/" + last, b"X-Forwarded-For: 198.51.100." + last))
            await reader.readuntil(last + b":")
        assert [scope["client"][0] for scope in app.scopes] == ["198.51.100.7", "198.51.100.8"]


async def test_the_headers_of_the_scope_stay_what_stood_on_the_wire() -> None:
    async with opened(trusted_proxies=OURS) as (door, app):
        await talk(door, request(b"/", FORWARDED, close=True))
        assert (b"x-forwarded-for", FORWARDED.partition(b": ")[2]) in app.scopes[0]["headers"]


def test_what_is_no_network_cannot_be_trusted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        Door(Recorder(), host="", port=0, uds=tmp_path / "s", trusted_proxies=["proxy.example"])
