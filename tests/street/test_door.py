"""The door in front of the street: whose key was refused, what is counted, and what stays here."""

from __future__ import annotations

import asyncio
import logging
import socket

import httpx
import pytest

from tests.street.conftest import Opener
from tests.street.living import VERSION, Street

pytestmark = pytest.mark.anyio

TRUSTING = {"AOAIGW_LISTEN_TRUSTED_PROXIES": "127.0.0.1,10.0.0.0/8"}
FORWARDING = {
    "forwarded": "for=198.51.100.7",
    "true-client-ip": "198.51.100.7",
    "via": "1.1 proxy.example",
    "x-client-ip": "198.51.100.7",
    "x-forwarded-for": "198.51.100.7",
    "x-forwarded-host": "evil.example",
    "x-forwarded-proto": "https",
    "x-original-url": "/openai/files",
    "x-real-ip": "198.51.100.7",
}
WRONG = "gw-" + "a" * 12 + "-" + "b" * 39
HAND_MADE = (
    "GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close, Upgrade\r\nUpgrade: {protocol}\r\n"
    "api-key: {key}\r\n\r\n"
)


async def knocked(street: Street, target: str, protocol: str) -> bytes:
    """Return all that the data plane says to a request of our own making."""
    sent = HAND_MADE.format(target=target, protocol=protocol, key=street.keys["blue"])
    reader, writer = await asyncio.open_connection("127.0.0.1", street.gateway.data_port)
    writer.write(sent.encode())
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize("target", [f"/openai/files?api-version={VERSION}", "/gateway/v1/me"])
async def test_a_refused_key_is_written_down_with_the_address_it_came_from(
    open_street: Opener, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway")
    async with open_street(environ=TRUSTING) as street, httpx.AsyncClient() as stranger:
        headers = {"api-key": WRONG, "x-forwarded-for": "203.0.113.9\t, 198.51.100.7:80, 10.0.0.1"}
        answer = await stranger.get(street.url + target, headers=headers)
        assert answer.status_code == 401
        (told,) = [record for record in caplog.records if "refused" in record.getMessage()]
        request_id = answer.headers["x-request-id"]
        wanted = f"a key was refused (client 198.51.100.7, request {request_id})"
        assert (told.levelno, told.getMessage()) == (logging.INFO, wanted)
        assert WRONG not in caplog.text
        assert "203.0.113.9" not in caplog.text


async def test_without_trusted_proxies_the_log_names_the_peer(
    street: Street, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway")
    async with httpx.AsyncClient() as stranger:
        headers = {"api-key": WRONG, "x-forwarded-for": "198.51.100.7"}
        await stranger.get(f"{street.url}/openai/files?api-version={VERSION}", headers=headers)
    assert "a key was refused (client 127.0.0.1, request gw-" in caplog.text
    assert "198.51.100.7" not in caplog.text


async def test_other_refusals_do_not_speak_of_a_key(
    street: Street, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway")
    assert (await street.dated("GET", "/nothing")).status_code == 404
    assert "a key was refused" not in caplog.text


@pytest.mark.parametrize("environ", [None, TRUSTING], ids=["alone", "behind a proxy"])
async def test_where_a_request_came_from_never_goes_on_to_azure(
    open_street: Opener, environ: dict[str, str] | None
) -> None:
    async with open_street(environ=environ) as street:
        mark = await street.mark()
        target = f"/openai/threads?api-version={VERSION}"
        await street.blue.post(target, headers=FORWARDING, json={})
        (sent,) = [row for row in await street.journal(mark) if row["method"] == "POST"]
        assert {name.lower() for name, _ in sent["headers"]} & FORWARDING.keys() == set()
        assert "198.51.100.7" not in str(sent)


async def test_a_websocket_is_closed_and_counted_and_any_other_offer_is_served(
    street: Street,
) -> None:
    refused = await knocked(street, "/openai/v1/realtime?model=gpt-realtime", "websocket")
    assert refused.startswith(b"HTTP/1.1 400 ")
    assert b'"upgrade_not_supported"' in refused
    assert (await knocked(street, "/gateway/v1/me", "h2c")).startswith(b"HTTP/1.1 200 ")
    metrics = await street.metrics()
    assert 'aoaigw_door_refusals_total{reason="websocket"} 1.0' in metrics
    assert 'aoaigw_door_refusals_total{reason="malformed_request"} 0.0' in metrics


async def test_open_connections_are_shown(street: Street) -> None:
    address = ("127.0.0.1", street.gateway.data_port)
    with socket.create_connection(address), socket.create_connection(address):
        assert (await street.dated("GET", "/nothing")).status_code == 404
        assert "aoaigw_connections_open 3.0" in await street.metrics()
