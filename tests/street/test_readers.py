"""Slow readers: what is kept for one of them is bounded, and nobody else waits for him."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.hostile_server import serve
from tests.street.conftest import Opener
from tests.street.fountain import FILE, Fountain
from tests.street.living import DEADLINE_S, VERSION, Street, eventually
from tests.street.served import serving
from tests.street.wire import CHAT, CHAT_PATH, LAST_CHUNK, WITH_USAGE, asking, chat, on

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

MIB = 1024 * 1024
# What the gateway itself keeps for one reader: its reading and its writing buffer and a chunk on
# its way between them.
HELD_BYTES_MAX = 2 * MIB
# The same with what the kernel keeps on the four ends of two connections.
PULLED_BYTES_MAX = 16 * MIB
# What a process grows by when it does a thing for the first time.
ROOM_BYTES = 16 * MIB
READERS = 2
# More than the kernel takes in for a reader who reads nothing.
MANY_WORDS = 12_000
CONTENT_PATH = f"/openai/files/{FILE['id']}/content?api-version={VERSION}"

ENDLESS = {
    "download": (CONTENT_PATH, None),
    "stream": (CHAT_PATH, chat(1, **WITH_USAGE)),
    "stream-with-a-view": (CHAT_PATH, chat(1)),
}


@pytest.fixture
async def fountain() -> AsyncIterator[tuple[Fountain, str, int]]:
    """Return an upstream with plenty more, its address and its port."""
    springing = Fountain()
    async with serve(springing.play) as azure:
        yield springing, azure.url, azure.port


async def test_what_is_held_for_readers_who_stop_is_bounded_whatever_azure_has_for_them(
    tmp_path: Path, fountain: tuple[Fountain, str, int]
) -> None:
    azure, endpoint, azure_port = fountain
    async with serving(tmp_path, endpoint) as gateway, gateway.client() as client:
        files = {"file": ("table.csv", b"a,b\n1,2\n", "text/csv")}
        target = f"/openai/files?api-version={VERSION}"
        made = await client.post(target, data={"purpose": "assistants"}, files=files)
        assert made.status_code == 200, made.text
        before = gateway.forget_peak()
        for path, body in ENDLESS.values():
            first = len(azure.jets)
            async with AsyncExitStack() as stack:
                for _ in range(READERS):
                    asked = asking(gateway.port, gateway.key, path, body)
                    reader = await stack.enter_async_context(asked)
                    await reader.until(b"\r\n\r\n")
                await azure.comes_to_rest()
                taken = sum(jet.taken_bytes for jet in azure.jets[first:])
                held = taken - _queued_bytes(azure_port) - _queued_bytes(gateway.port)

                assert taken < READERS * PULLED_BYTES_MAX
                assert held < READERS * HELD_BYTES_MAX
                assert (await client.get("/gateway/v1/me")).status_code == 200
            await eventually(partial(_have_ended, azure))
        assert gateway.peak_bytes() - before < READERS * HELD_BYTES_MAX + ROOM_BYTES


async def _have_ended(azure: Fountain) -> bool:
    return all(jet.has_ended for jet in azure.jets)


def _queued_bytes(port: int) -> int:
    """Return what the kernel holds on both ends of all connections to a port of this machine."""
    queued, mark = 0, f":{port:04X}"
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        leaving, arrived = queues.split(":")
        if local.endswith(mark):
            queued += int(leaving, 16)
        elif remote.endswith(mark):
            queued += int(arrived, 16)
    return queued


async def test_a_download_whose_reader_stops_is_given_up_and_azure_hung_up_on(
    open_street: Opener, fountain: tuple[Fountain, str, int]
) -> None:
    azure, endpoint, _ = fountain
    async with open_street(endpoint=endpoint) as street:
        assert (await street.upload()).status_code == 200
        house = street.gateway.house
        house.limits = replace(house.limits, stall_s=0.2)
        async with on(street, CONTENT_PATH) as stopped:
            await stopped.until(b"\r\n\r\n")
            async with asyncio.timeout(DEADLINE_S):
                await azure.hung_up.wait()
            assert azure.given_bytes < PULLED_BYTES_MAX
            rest = await stopped.reader.read()
            assert rest
            assert not rest.endswith(LAST_CHUNK)


async def test_a_reader_who_pauses_keeps_nobody_waiting_and_gets_every_byte(
    street: Street,
) -> None:
    async with on(street, CHAT_PATH, chat(MANY_WORDS, **WITH_USAGE)) as slow:
        await slow.until(b"\r\n\r\n")
        for _ in range(5):
            answer = await street.dated("POST", CHAT, chat(3))
            assert answer.text.endswith("data: [DONE]\n\n")
        assert (await street.gateway.house.store.unsettled())[0] == 1
        events = (await slow.body()).split(b"\n\n")

    assert len(events) == MANY_WORDS + 6
    assert events[-2:] == [b"data: [DONE]", b""]
    await street.agree()


async def test_a_reader_who_stops_is_given_up_and_metered_to_the_token(street: Street) -> None:
    house = street.gateway.house
    house.limits = replace(house.limits, stall_s=0.1)
    async with on(street, CHAT_PATH, chat(MANY_WORDS)) as stopped:
        await stopped.until(b"\r\n\r\n")
        invoice = await street.agree()
        assert invoice["tokens"][0]["output_tokens"] == MANY_WORDS

        rest = await stopped.reader.read()
        assert rest
        assert not rest.endswith(LAST_CHUNK)
