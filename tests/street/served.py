"""The gateway as somebody runs it: the command, in a process of its own, told of by the kernel."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import httpx

from tests.street.living import AZURE_KEY, eventually, write_policies, write_settings


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

    async def spools_something(self) -> bool:
        """Return whether an upload lies on the spool's disk."""
        return not await self.spools_nothing()

    def _memory(self, name: str) -> int:
        status = self._proc("status").read_text(encoding="ascii")
        return int(re.findall(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)[0]) * 1024

    def _proc(self, name: str) -> Path:
        return Path("/proc", str(self.process.pid), name)


@asynccontextmanager
async def serving(
    folder: Path,
    endpoint: str,
    *,
    drain_s: float = 20,
    policies: Mapping[str, str] | None = None,
) -> AsyncIterator[Served]:
    """Run the real command with one team's key; it does not outlive the test.

    `policies` are as `living` takes them; a folder that was served from before is taken as it is.
    """
    if not (folder / "policies").exists():
        write_policies(folder / "policies", policies or {})
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
