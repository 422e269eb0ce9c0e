"""Large files pass through a real gateway process and leave no trace in its memory or its spool.

The gateway is the command itself, in a process of its own, and its memory is what the kernel says
of it. Azure is a few lines that count and hash, so that nothing but the gateway could keep a file.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import httpx
import pytest

from tests.hostile_server import Caller, serve
from tests.street.living import START_S, VERSION, eventually
from tests.street.served import Served, serving
from tests.street.wire import asking

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

MIB = 1024 * 1024
# The largest file that the shipped policy permits and Azure takes, and the largest that comes back.
UPLOAD_BYTES = 512 * MIB
DOWNLOAD_BYTES = 1024 * MIB
SHARED_BYTES = 64 * MIB
PAUSED_BYTES = 64 * MIB
GROWTH_BYTES_MAX = 64 * MIB
# Text whose characters have one to four bytes, in a length that no buffer's size divides, so that
# pieces end in the middle of characters.
BLOCK = ("eins, zwölf, 三, 🎲\n" * 50_000).encode()
BOUNDARY = "a-boundary-of-the-callers"


# Azure, as far as files go


@dataclass
class Vault:
    """An upstream that keeps no file: it hashes what comes, and makes up what goes."""

    given_bytes: int = DOWNLOAD_BYTES
    arrived: dict[str, str] = field(default_factory=dict)
    sent_bytes: int = 0

    async def play(self, caller: Caller) -> None:
        """Answer uploads and downloads on one connection until it ends."""
        while True:
            head = await caller.head()
            if head.startswith(b"POST /openai/files?"):
                await self._take(caller, head)
            else:
                assert b"/content?" in head.partition(b"\r\n")[0]
                await self._give(caller)

    async def _take(self, caller: Caller, head: bytes) -> None:
        left = int(_found(rb"content-length: (\d+)", head))
        tail = b"\r\n--" + _found(rb"boundary=(\S+)", head) + b"--\r\n"
        part = b""
        while b'filename="' not in part:
            part = await caller.reader.readuntil(b"\r\n\r\n")
            left -= len(part)
        digest, left = hashlib.sha256(), left - len(tail)
        while left:
            chunk = await caller.reader.read(min(left, MIB))
            assert chunk
            digest.update(chunk)
            left -= len(chunk)
        assert await caller.reader.readexactly(len(tail)) == tail
        name = f"assistant-{len(self.arrived)}"
        self.arrived[name] = digest.hexdigest()
        file = {"object": "file", "id": name, "created_at": START_S, "purpose": "assistants"}
        await _answer(caller, b"application/json", json.dumps(file).encode())

    async def _give(self, caller: Caller) -> None:
        await _answer(caller, b"application/octet-stream", b"", length=self.given_bytes)
        for piece in pieces(self.given_bytes):
            await caller.send(piece)
            self.sent_bytes += len(piece)


def _found(pattern: bytes, head: bytes) -> bytes:
    found = re.search(pattern, head, re.IGNORECASE)
    assert found is not None
    return found[1]


async def _answer(
    caller: Caller, media_type: bytes, body: bytes, *, length: int | None = None
) -> None:
    size = len(body) if length is None else length
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
    await caller.send(head % (media_type, size) + body)


def pieces(size_bytes: int) -> Iterator[bytes]:
    """Yield a text of exactly `size_bytes`, made up on the fly; it may end in spaces."""
    whole, rest = divmod(size_bytes, len(BLOCK))
    yield from itertools.repeat(BLOCK, whole)
    yield b" " * rest


@cache
def sha256_of_text(size_bytes: int) -> str:
    """Return the SHA-256 of the text of that size, in hexadecimal."""
    digest = hashlib.sha256()
    for piece in pieces(size_bytes):
        digest.update(piece)
    return digest.hexdigest()


# Uploads


def _form(size_bytes: int) -> Iterator[bytes]:
    field_ = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants'
    names = 'name="file"; filename="large.txt"'
    file = f"\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; {names}\r\n\r\n"
    yield (field_ + file).encode()
    yield from pieces(size_bytes)
    yield f"\r\n--{BOUNDARY}--\r\n".encode()


async def _stream(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def _upload(client: httpx.AsyncClient, size_bytes: int, *, with_length: bool = True) -> str:
    """Upload a text and return the file's id."""
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    if with_length:
        headers["content-length"] = str(sum(map(len, _form(size_bytes))))
    target = f"/openai/files?api-version={VERSION}"
    answer = await client.post(target, headers=headers, content=_stream(_form(size_bytes)))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


@pytest.fixture
async def vault() -> AsyncIterator[tuple[Vault, str]]:
    """Return an upstream for files, and its address."""
    kept = Vault()
    async with serve(kept.play) as server:
        yield kept, server.url


async def test_an_upload_of_512_mib_arrives_byte_for_byte_and_memory_stays_small(
    tmp_path: Path, vault: tuple[Vault, str]
) -> None:
    azure, endpoint = vault
    async with serving(tmp_path, endpoint) as gateway, gateway.client() as client:
        await _upload(client, 2 * MIB)
        before = gateway.forget_peak()
        name = await _upload(client, UPLOAD_BYTES)

        assert gateway.peak_bytes() - before < GROWTH_BYTES_MAX
        assert azure.arrived[name] == sha256_of_text(UPLOAD_BYTES)
        await eventually(gateway.spools_nothing)


async def test_four_uploads_at_once_of_unsaid_length_share_the_same_small_memory(
    tmp_path: Path, vault: tuple[Vault, str]
) -> None:
    azure, endpoint = vault
    async with serving(tmp_path, endpoint) as gateway, gateway.client() as client:
        await _upload(client, 2 * MIB)
        before = gateway.forget_peak()
        names = await asyncio.gather(
            *(_upload(client, SHARED_BYTES, with_length=False) for _ in range(4))
        )

        assert gateway.peak_bytes() - before < GROWTH_BYTES_MAX
        assert {azure.arrived[name] for name in names} == {sha256_of_text(SHARED_BYTES)}
        await eventually(gateway.spools_nothing)


async def test_an_upload_whose_caller_leaves_half_way_is_forgotten_and_goes_nowhere(
    tmp_path: Path, vault: tuple[Vault, str]
) -> None:
    azure, endpoint = vault
    async with serving(tmp_path, endpoint) as gateway:
        form = b"".join(_form(8 * MIB))
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        head = f"POST /openai/files?api-version={VERSION} HTTP/1.1\r\nhost: gateway\r\n"
        head += f"api-key: {gateway.key}\r\ncontent-length: {len(form)}\r\n"
        head += f"content-type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
        writer.write(head.encode() + form[: len(form) // 2])
        await eventually(gateway.spools_something)
        writer.transport.abort()
        await eventually(gateway.spools_nothing)
    assert azure.arrived == {}


# Downloads


async def _download(gateway: Served, name: str) -> str:
    """Return the hash of a file's content, read as fast as it comes."""
    digest = hashlib.sha256()
    target = f"/openai/files/{name}/content?api-version={VERSION}"
    async with gateway.client() as client, client.stream("GET", target) as answer:
        assert answer.status_code == 200
        async for chunk in answer.aiter_raw():
            digest.update(chunk)
    return digest.hexdigest()


async def test_a_download_of_1_gib_passes_byte_for_byte_in_small_memory(
    tmp_path: Path, vault: tuple[Vault, str]
) -> None:
    _, endpoint = vault
    async with serving(tmp_path, endpoint) as gateway:
        async with gateway.client() as client:
            name = await _upload(client, 2 * MIB)
        before = gateway.forget_peak()
        got = await _download(gateway, name)

        assert gateway.peak_bytes() - before < GROWTH_BYTES_MAX
        assert got == sha256_of_text(DOWNLOAD_BYTES)


async def test_a_reader_who_pauses_again_and_again_gets_every_byte(
    tmp_path: Path, vault: tuple[Vault, str]
) -> None:
    azure, endpoint = vault
    azure.given_bytes = PAUSED_BYTES
    async with serving(tmp_path, endpoint) as gateway:
        async with gateway.client() as client:
            name = await _upload(client, 2 * MIB)
        path = f"/openai/files/{name}/content?api-version={VERSION}"
        async with asking(gateway.port, gateway.key, path) as reader:
            await reader.until(b"\r\n\r\n")
            digest = hashlib.sha256()
            for _ in range(3):
                digest.update(await reader.chunk())
                await _at_rest(azure)
                assert azure.sent_bytes < PAUSED_BYTES // 2
            while chunk := await reader.chunk():
                digest.update(chunk)

    assert digest.hexdigest() == sha256_of_text(PAUSED_BYTES)


async def _at_rest(azure: Vault) -> None:
    """Return once Azure's end could send nothing for a while; a slow machine only looks early."""
    still, last = 0, -1
    while still < 20:
        still = still + 1 if azure.sent_bytes == last else 0
        last = azure.sent_bytes
        await asyncio.sleep(0.02)
