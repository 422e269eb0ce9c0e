"""The spool in a gateway that is used: its quota, its every ending, and a disk that fails it.

Whatever becomes of an upload, its share of the spool is free again once it is over, and of what
could not be held or judged nothing was sent.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest

from gateway.spool import Spool
from tests.street.living import VERSION, Street, eventually
from tests.street.served import Served, serving

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

MIB = 1024 * 1024
BOUNDARY = "a-boundary-of-the-callers"
TARGET = f"/openai/files?api-version={VERSION}"
TEXT = b"one line of a text\n"
CONTENT = TEXT * (2 * MIB // len(TEXT))


def _begun(size_bytes: int = len(CONTENT), *, length: int = 1 << 30) -> bytes:
    """Return the beginning of an upload's form, with so many bytes of the file."""
    names = 'name="file"; filename="text.txt"'
    fields = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants'
    fields += f"\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; {names}\r\n\r\n"
    head = f"POST {TARGET} HTTP/1.1\r\nhost: gateway\r\ncontent-length: {length}\r\n"
    head += f"content-type: multipart/form-data; boundary={BOUNDARY}\r\n"
    return f"{head}api-key: KEY\r\n\r\n{fields}".encode() + CONTENT[:size_bytes]


@asynccontextmanager
async def _uploading(
    port: int, key: str, begun: bytes
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(begun.replace(b"KEY", key.encode()))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def _on(street: Street, team: str, size_bytes: int) -> Any:
    return _uploading(street.gateway.data_port, street.keys[team], _begun(size_bytes))


async def _upload(client: httpx.AsyncClient, content: bytes = CONTENT) -> httpx.Response:
    files = {"file": ("text.txt", content, "text/plain")}
    return await client.post(TARGET, data={"purpose": "assistants"}, files=files)


async def _holds(street: Street, size_bytes: int) -> bool:
    """Return whether the spool holds so much; the form's reader may still keep a few bytes."""
    used = street.gateway.house.spool.used_bytes
    return used == 0 if not size_bytes else size_bytes - 4096 < used <= size_bytes


def _is_unavailable(answer: httpx.Response) -> bool:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code == 503 and error["code"] == "gateway_unavailable"


def _with_quota(street: Street, quota_bytes: int) -> None:
    street.gateway.house.spool = Spool(street.folder / "spool", quota_bytes)


# The quota


async def test_uploads_at_once_share_the_quota_and_no_team_takes_more_than_half(
    street: Street,
) -> None:
    _with_quota(street, 8 * MIB)
    mark = await street.mark()
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(_on(street, "blue", MIB))
        await eventually(partial(_holds, street, 3 * MIB))
        assert _is_unavailable(await _upload(street.blue))
        assert (await _upload(street.red)).status_code == 201
        async with _on(street, "red", MIB):
            await eventually(partial(_holds, street, 4 * MIB))
        await eventually(partial(_holds, street, 3 * MIB))
    await eventually(partial(_holds, street, 0))
    assert (await _upload(street.blue)).status_code == 201
    assert len(await street.journal(mark)) == 2


async def test_many_uploads_at_once_are_each_whole_or_refused_and_leave_nothing(
    street: Street,
) -> None:
    _with_quota(street, 8 * MIB)
    mark = await street.mark()
    answers = await asyncio.gather(
        *(_upload(client) for client in (street.blue, street.red) for _ in range(8))
    )
    done = [answer for answer in answers if answer.status_code == 201]
    assert all(_is_unavailable(answer) for answer in answers if answer not in done)
    assert done
    assert len(await street.journal(mark)) == len(done)
    await eventually(partial(_holds, street, 0))


# Every ending


@pytest.mark.parametrize("ending", ["sent", "refused", "malformed", "upstream-refuses", "no-reply"])
async def test_whatever_becomes_of_an_upload_its_share_is_free_again(
    street: Street, ending: str
) -> None:
    content, status = CONTENT, 201
    match ending:
        case "refused":
            content, status = CONTENT + b"\x00\x01", 415
        case "malformed":
            content, status = CONTENT + b"\xff", 415
        case "upstream-refuses":
            await _lay(street, {"kind": "status", "status": 400, "work": False})
            status = 400
        case "no-reply":
            await _lay(street, {"kind": "close"})
            status = 504
    answer = await _upload(street.blue, content)

    assert answer.status_code == status, answer.text
    await eventually(partial(_holds, street, 0))
    assert _opened(street.folder) == []


async def test_whoever_leaves_half_way_frees_his_share(street: Street) -> None:
    mark = await street.mark()
    async with _on(street, "blue", len(CONTENT)):
        await eventually(partial(_holds, street, len(CONTENT)))
        assert len(_opened(street.folder)) == 1
    await eventually(partial(_holds, street, 0))
    assert _opened(street.folder) == []
    assert await street.journal(mark) == []


async def _lay(street: Street, fault: dict[str, Any]) -> None:
    match = {"method": "POST", "path": "/openai/files"}
    laid = await street.azure.post("/simulator/faults", json={"match": match, "fault": fault})
    assert laid.status_code == 200, laid.text


def _opened(folder: Path) -> list[str]:
    """Return what this process has open in a street's spool; a nameless file has a path too."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    paths = [os.readlink(link) for link in links]
    return [path for path in paths if path.startswith(str(folder / "spool"))]


# A disk that fails


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO, errno.EMFILE]
)
@pytest.mark.parametrize("moment", ["creating", "writing"])
async def test_a_disk_that_fails_makes_the_gateway_unavailable_and_nothing_is_sent(
    street: Street, monkeypatch: pytest.MonkeyPatch, code: int, moment: str
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(code, os.strerror(code))

    mark = await street.mark()
    with monkeypatch.context() as patched:
        if moment == "creating":
            patched.setattr(tempfile, "TemporaryFile", fail)
        else:
            patched.setattr("gateway.spool._write_all", fail)
        assert _is_unavailable(await _upload(street.blue))
        await eventually(partial(_holds, street, 0))
        assert await street.journal(mark) == []
    assert (await _upload(street.blue)).status_code == 201


async def test_a_spool_whose_directory_is_gone_makes_the_gateway_unavailable(
    street: Street,
) -> None:
    spool, mark = street.folder / "spool", await street.mark()
    spool.rmdir()
    assert _is_unavailable(await _upload(street.blue))
    assert await street.journal(mark) == []
    assert (await street.upload()).status_code == 201, "a small file needs no disk"
    spool.mkdir()
    assert (await _upload(street.blue)).status_code == 201


async def test_a_file_that_cannot_be_read_back_is_not_sent_and_nothing_is_held_for_it(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int, size_bytes: int, offset: int) -> NoReturn:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    mark = await street.mark()
    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", fail)
        assert _is_unavailable(await _upload(street.blue))
    await eventually(partial(_holds, street, 0))
    assert await street.journal(mark) == []
    assert (await street.gateway.house.store.unsettled())[0] == 0


# A process


async def test_a_disk_that_is_really_full_is_survived_and_so_is_the_gateways_own_death(
    street: Street, tmp_path: Path
) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    async with serving(folder, street.simulator_url) as gateway:
        await _is_full_and_then_not(street, gateway)
        begun = _begun()
        async with _uploading(gateway.port, gateway.key, begun):
            await eventually(gateway.spools_something)
            gateway.process.send_signal(signal.SIGKILL)
            await gateway.process.wait()
        spool = folder / "spool"
        assert list(spool.iterdir()) == []
        # What a death in the blink before the name is taken away leaves, and what is not ours.
        abandoned = spool / f"aoaigw-upload-{gateway.process.pid}-x"
        foreign = spool / "aoaigw-upload.txt"
        alive = spool / f"aoaigw-upload-{os.getpid()}-x"
        link = spool / f"aoaigw-upload-{gateway.process.pid}-link"
        for each in (abandoned, foreign, alive):
            each.write_bytes(b"x")
        link.symlink_to(folder / "ledger.db")
    async with serving(folder, street.simulator_url) as gateway, gateway.client() as client:
        assert {each.name for each in spool.iterdir()} == {foreign.name, alive.name, link.name}
        assert (folder / "ledger.db").stat().st_size
        assert (await _upload(client)).status_code == 201


async def _is_full_and_then_not(street: Street, gateway: Served) -> None:
    """Let the kernel refuse to make any file larger than 4 MiB, for a while."""
    pid, mark = gateway.process.pid, await street.mark()
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    async with gateway.client() as client:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (4 * MIB, before[1]))
        assert _is_unavailable(await _upload(client, CONTENT * 3))
        assert await street.journal(mark) == []
        assert (await _upload(client)).status_code == 201
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        assert (await _upload(client, CONTENT * 3)).status_code == 201
