"""Refusals are counted: each once, by a reason out of a closed set."""

from __future__ import annotations

import asyncio

import pytest

from gateway.bounds import REASONS
from gateway.listener import DoorLimits
from gateway.telemetry import DOOR_REFUSALS
from tests.door.knocking import (
    CL5,
    HandTimers,
    chunked,
    dialled,
    error_of,
    opened,
    parse,
    request,
    talk,
    until,
)
from tests.door.test_bodies import REFUSED_IN_BODY
from tests.door.test_heads import REFUSED

pytestmark = pytest.mark.anyio


def reason_of(code: str) -> str:
    return "websocket" if code == "upgrade_not_supported" else code


def test_the_metric_knows_every_reason_of_the_door() -> None:
    assert set(DOOR_REFUSALS) == set(REASONS)
    assert len(REASONS) == len(DOOR_REFUSALS) == len(set(REASONS))


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refused_head_is_counted_once_by_its_code(name: str) -> None:
    sent, (_, code) = REFUSED[name]
    counted: list[str] = []
    async with opened(on_refusal=counted.append) as (door, _):
        error_of(await talk(door, sent))
        assert counted == [reason_of(code)]


@pytest.mark.parametrize("name", REFUSED_IN_BODY)
async def test_a_refused_body_is_counted_once(name: str) -> None:
    counted: list[str] = []
    async with (
        opened(on_refusal=counted.append) as (door, app),
        dialled(door) as (reader, writer),
    ):
        writer.write(chunked(b""))
        await app.arrived.wait()
        writer.write(REFUSED_IN_BODY[name])
        error_of(await reader.read())
        assert counted == ["malformed_request"]


async def test_a_connection_beyond_the_limit_is_counted() -> None:
    counted: list[str] = []
    limits = DoorLimits(connections_max=1)
    async with opened(limits, on_refusal=counted.append) as (door, _), dialled(door):
        error_of(await talk(door))
        assert counted == ["gateway_unavailable"]


@pytest.mark.parametrize("sent", [b"GET", request(b"/", CL5, method=b"POST", body=b"hel")])
async def test_a_deadline_that_passed_is_counted(sent: bytes) -> None:
    timers, counted = HandTimers(), list[str]()
    limits = DoorLimits(header_timeout_s=20, body_idle_timeout_s=20)
    async with (
        opened(limits, timers=timers, on_refusal=counted.append) as (door, _),
        dialled(door) as (reader, writer),
    ):
        writer.write(sent)
        await until(lambda: timers.left == [20])
        timers.advance(20)
        assert error_of(await reader.read()) == (408, "request_timeout")
        assert counted == ["request_timeout"]


async def test_a_body_that_breaks_behind_a_begun_answer_is_counted() -> None:
    counted: list[str] = []
    async with opened(on_refusal=counted.append) as (door, _), dialled(door) as (reader, writer):
        writer.write(chunked(b"", target=b"/stream"))
        await reader.readuntil(b"first\r\n")
        writer.write(b"oops\r\n")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        assert counted == ["malformed_request"]


async def test_what_is_dropped_behind_a_good_request_is_counted() -> None:
    counted: list[str] = []
    async with opened(on_refusal=counted.append) as (door, _):
        assert parse(await talk(door, request(b"/1") + request(b"/2")))[0] == 200
        assert counted == ["malformed_request"]


async def test_what_is_served_is_not_counted_nor_is_an_idle_end_or_an_offer() -> None:
    timers, counted = HandTimers(), list[str]()
    async with opened(timers=timers, on_refusal=counted.append) as (door, _):
        await talk(door, request(close=True))
        await talk(door, request(b"/", b"Connection: Upgrade", b"Upgrade: h2c", close=True))
        async with dialled(door) as (reader, writer):
            writer.write(request(b"/early", CL5, method=b"POST"))
            assert parse(await reader.read())[0] == 413
        async with dialled(door) as (reader, _):
            await until(lambda: timers.left == [75])
            timers.advance(75)
            assert await reader.read() == b""
        assert counted == []


async def test_open_connections_are_those_there_are() -> None:
    async with opened() as (door, _):
        assert door.connections_open == 0
        async with dialled(door) as (reader, writer), dialled(door):
            await until(lambda: door.connections_open == 2)
            writer.write(request(close=True))
            await reader.read()
            await until(lambda: door.connections_open == 1)
        await until(lambda: door.connections_open == 0)
