"""Large files pass through a real gateway process and leave no trace in its memory or its spool.

The gateway is the command itself, in a process of its own, and its memory is what the kernel says
of it. Azure is a few lines that count and hash, so that nothing but the gateway could keep a file.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import httpx
import pytest

from tests.hostile_server import Caller, serve
from tests.street.living import (
    AZURE_KEY,
    START_S,
    VERSION,
    eventually,
    write_policies,
    write_settings,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

MIB = 1024 * 1024
LARGE_BYTES = 256 * MIB
GROWTH_BYTES_MAX = 64 * MIB
RECEIVE_BUFFER_BYTES = 64 * 1024
# Text whose characters have one to four bytes, in a length that no buffer's size divides, so that
# pieces end in the middle of characters.
BLOCK = ("eins, zwölf, 三, 🎲\n" * 50_000).encode()
BOUNDARY = "a-boundary-of-the-callers"


# Azure, as far as files go


@dataclass
class Vault:
    """An upstream that keeps no file: it hashes what comes, and makes up what goes."""

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
        await _answer(caller, b"application/octet-stream", b"", length=LARGE_BYTES)
        for piece in pieces(LARGE_BYTES):
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


def sha256_of(parts: Iterator[bytes]) -> str:
    """Return the SHA-256 of all parts together, in hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


# The gateway, as a process


@dataclass
class Served:
    """A gateway that somebody started on the command line."""

    process: asyncio.subprocess.Process
    folder: Path
    url: str
    key: str

    @property
    def port(self) -> int:
        """Where it serves callers."""
        return int(self.url.rpartition(":")[2])

    def client(self) -> httpx.AsyncClient:
        """Return a client with the team's key; it waits as long as the test may take."""
        return httpx.AsyncClient(base_url=self.url, headers={"api-key": self.key}, timeout=None)

    def forget_peak(self) -> int:
        """Make the peak begin anew and return the resident bytes of now."""
        self._proc("clear_refs").write_text("5", encoding="ascii")
        return self._memory("VmRSS")

    def peak_bytes(self) -> int:
        """Return the most that was resident since `forget_peak`."""
        return self._memory("VmHWM")

    async def spools_nothing(self) -> bool:
        """Return whether no file of the spool has a name or is open."""
        spool = self.folder / "spool"
        opened = []
        for descriptor in self._proc("fd").iterdir():
            with suppress(FileNotFoundError):  # Closed while we looked.
                opened.append(os.readlink(descriptor))
        return not list(spool.iterdir()) and not any(str(spool) in path for path in opened)

    def _memory(self, name: str) -> int:
        status = self._proc("status").read_text(encoding="ascii")
        return int(_found(name.encode() + rb":\s+(\d+) kB", status.encode())) * 1024

    def _proc(self, name: str) -> Path:
        return Path("/proc", str(self.process.pid), name)


@asynccontextmanager
async def serving(folder: Path, endpoint: str, *, drain_s: float = 20) -> AsyncIterator[Served]:
    """Run the real command with one team's key; it does not outlive the test."""
    write_policies(folder / "policies", {})
    write_settings(folder, endpoint)
    config = folder / "gateway.toml"
    written = config.read_text(encoding="utf-8").replace("drain_s = 20", f"drain_s = {drain_s}")
    config.write_text(written, encoding="utf-8")
    log = folder / "log"
    with log.open("wb") as output:
        issuing = await _command(folder, output, "keys", "issue", "--team", "blue")
        assert await issuing.wait() == 0
        (key,) = re.findall(r"gw-\S+", _read(log))
        process = await _command(folder, output, "serve")
        try:
            yield Served(process, folder, await _address(process, log), key)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _command(folder: Path, output: BinaryIO, *words: str) -> asyncio.subprocess.Process:
    root = str(Path(__file__).parents[2])
    environ = {"PATH": os.defpath, "PYTHONPATH": root, "AZURE_KEY": AZURE_KEY}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", *words, "--config", "gateway.toml"),
        cwd=folder,
        env=environ,
        stdout=output,
        stderr=output,
    )


async def _address(process: asyncio.subprocess.Process, log: Path) -> str:
    """Return where the process says that it serves callers."""
    found: list[str] = []

    async def has_said() -> bool:
        assert process.returncode is None, _read(log)
        found.extend(re.findall(r"serving callers on (?:http://)?([0-9.]+:\d+)", _read(log)))
        return bool(found)

    await eventually(has_said, within_s=60)
    return f"http://{found[0]}"


def _read(log: Path) -> str:
    return log.read_text(encoding="utf-8")


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


@pytest.mark.parametrize("with_length", [True, False], ids=["with-length", "chunked"])
async def test_an_upload_of_256_mib_arrives_byte_for_byte_and_memory_stays_small(
    tmp_path: Path, vault: tuple[Vault, str], with_length: bool
) -> None:
    azure, endpoint = vault
    async with serving(tmp_path, endpoint) as gateway, gateway.client() as client:
        await _upload(client, 2 * MIB)
        before = gateway.forget_peak()
        name = await _upload(client, LARGE_BYTES, with_length=with_length)

        assert gateway.peak_bytes() - before < GROWTH_BYTES_MAX
        assert azure.arrived[name] == sha256_of(pieces(LARGE_BYTES))
        await eventually(gateway.spools_nothing)


async def test_four_uploads_at_once_share_the_same_small_memory(
    tmp_path: Path, vault: tuple[Vault, str]
) -> None:
    azure, endpoint = vault
    async with serving(tmp_path, endpoint) as gateway, gateway.client() as client:
        await _upload(client, 2 * MIB)
        before = gateway.forget_peak()
        names = await asyncio.gather(*(_upload(client, LARGE_BYTES // 4) for _ in range(4)))

        assert gateway.peak_bytes() - before < GROWTH_BYTES_MAX
        assert {azure.arrived[name] for name in names} == {sha256_of(pieces(LARGE_BYTES // 4))}
        await eventually(gateway.spools_nothing)


async def test_an_upload_whose_caller_leaves_half_way_is_forgotten_and_goes_nowhere(
    tmp_path: Path, vault: tuple[Vault, str]
) -> None:
    azure, endpoint = vault
    async with serving(tmp_path, endpoint) as gateway:
        form = b"".join(_form(8 * MIB))
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        head = _head(gateway, "POST", "/openai/files")
        head += f"content-length: {len(form)}\r\n"
        head += f"content-type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
        writer.write(head.encode() + form[: len(form) // 2])

        async def is_spooled() -> bool:
            return not await gateway.spools_nothing()

        await eventually(is_spooled)
        writer.transport.abort()
        await eventually(gateway.spools_nothing)
    assert azure.arrived == {}


# Downloads


def _head(gateway: Served, method: str, path: str) -> str:
    return (
        f"{method} {path}?api-version={VERSION} HTTP/1.1\r\nhost: gateway\r\n"
        f"api-key: {gateway.key}\r\n"
    )


async def _download(gateway: Served, name: str) -> str:
    """Return the hash of a file's content, read as fast as it comes."""
    digest = hashlib.sha256()
    target = f"/openai/files/{name}/content?api-version={VERSION}"
    async with gateway.client() as client, client.stream("GET", target) as answer:
        assert answer.status_code == 200
        async for chunk in answer.aiter_raw():
            digest.update(chunk)
    return digest.hexdigest()


async def test_a_download_of_256_mib_passes_in_small_memory(
    tmp_path: Path, vault: tuple[Vault, str]
) -> None:
    _, endpoint = vault
    async with serving(tmp_path, endpoint) as gateway:
        async with gateway.client() as client:
            name = await _upload(client, 2 * MIB)
        before = gateway.forget_peak()
        got = await _download(gateway, name)

        assert got == sha256_of(pieces(LARGE_BYTES))
        assert gateway.peak_bytes() - before < GROWTH_BYTES_MAX


async def test_while_a_reader_pauses_nothing_more_is_taken_from_azure(
    tmp_path: Path, vault: tuple[Vault, str]
) -> None:
    azure, endpoint = vault
    async with serving(tmp_path, endpoint) as gateway:
        async with gateway.client() as client:
            name = await _upload(client, 2 * MIB)
        before = gateway.forget_peak()
        # A buffer that is set does not grow: what the kernel takes in stays far from the whole.
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", gateway.port))
        reader, writer = await asyncio.open_connection(sock=connection, limit=RECEIVE_BUFFER_BYTES)
        head = _head(gateway, "GET", f"/openai/files/{name}/content") + "connection: close\r\n\r\n"
        writer.write(head.encode())
        await reader.readuntil(b"\r\n\r\n")

        digest = hashlib.sha256()
        for _ in range(3):
            digest.update(await _chunk(reader))
            await _at_rest(azure)
            assert azure.sent_bytes < LARGE_BYTES // 2
        while chunk := await _chunk(reader):
            digest.update(chunk)
        writer.close()

        assert digest.hexdigest() == sha256_of(pieces(LARGE_BYTES))
        assert gateway.peak_bytes() - before < GROWTH_BYTES_MAX


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    """Return the next chunk of a chunked body; the last one is empty."""
    size = int(await reader.readline(), 16)
    return (await reader.readexactly(size + 2))[:-2]


async def _at_rest(azure: Vault) -> None:
    """Return once Azure's end could send nothing for a while; a slow machine only looks early."""
    still, last = 0, -1
    while still < 20:
        still = still + 1 if azure.sent_bytes == last else 0
        last = azure.sent_bytes
        await asyncio.sleep(0.02)
