"""Where a door listens: ports, paths and TLS."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from gateway.listener import Door
from tests.door.knocking import (
    CL5,
    MALFORMED,
    Recorder,
    error_of,
    opened,
    parse,
    request,
    still_serves,
    talk,
)

pytestmark = pytest.mark.anyio


async def test_a_port_that_is_taken_is_an_os_error() -> None:
    async with opened() as (door, _):
        second = Door(Recorder(), host="127.0.0.1", port=door.port)
        with pytest.raises(OSError, match="in use"):
            await second.start()
        assert await still_serves(door)


async def test_two_doors_share_one_loop() -> None:
    async with opened() as (one, seen_by_one), opened() as (other, seen_by_other):
        assert one.port != other.port
        await talk(one, request(b"/one", close=True))
        await talk(other, request(b"/other", close=True))
        assert [scope["path"] for scope in seen_by_one.scopes] == ["/one"]
        assert [scope["path"] for scope in seen_by_other.scopes] == ["/other"]


async def test_a_unix_socket_is_open_to_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    async with opened(uds=path) as (_, app):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(request(b"/admin", close=True))
        assert parse(await reader.read())[2] == b"/admin:"
        writer.close()
        assert len(app.scopes) == 1
        with pytest.raises(OSError, match="in use"):
            await Door(Recorder(), host="", port=0, uds=path).start()
    assert not path.exists()


async def test_an_app_that_fails_answers_500_and_the_door_lives_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError(scope["path"])

    caplog.set_level(logging.CRITICAL, "uvicorn.error")
    door = Door(broken, host="127.0.0.1", port=0)
    await door.start()
    for _ in range(2):
        assert parse(await talk(door, request(close=True)))[0] == 500
    await door.stop()


@pytest.mark.parametrize(
    ("sent", "check"),
    [
        (request(b"/tls", close=True), lambda answer: parse(answer)[2] == b"/tls:"),
        (request(b"/tls#", close=True), lambda answer: error_of(answer) == MALFORMED),
        (request(b"/early", CL5, method=b"POST"), lambda answer: parse(answer)[0] == 413),
    ],
    ids=["answer", "refusal", "early answer"],
)
async def test_tls_can_end_at_the_door(
    certificate: tuple[Path, Path], sent: bytes, check: Callable[[bytes], bool]
) -> None:
    cert, key = certificate
    trust = ssl.create_default_context(cafile=str(cert))
    async with opened(tls_cert=cert, tls_key=key) as (door, app):
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port, ssl=trust)
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(parse(head)[1][b"content-length"])
        assert check(head + await reader.readexactly(length))
        assert all(scope["scheme"] == "https" for scope in app.scopes)
        writer.close()
