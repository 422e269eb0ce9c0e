"""The Dockerfile, carried out without a container engine.

Its steps are done one by one, as an engine would do them, with the kernel's own means: a chroot,
and namespaces of mounts, processes and network. Only ``FROM`` is translated: to a Debian of the
same release, made on the spot, with its Python in ``/usr/local``, where the official image has it.
An instruction or a flag that this file does not know fails the test.
"""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

import pytest
from packaging.utils import canonicalize_name
from starlette.responses import Response

from gateway.listener import Door
from gateway.simulator import SimulatorConfig
from tests.conftest import needs_real
from tests.test_repository import ROOT, files_under, pins

IMAGE_ENVIRON: Final = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
# What is not of `requirements/runtime.txt`: the two that Debian's `venv` brings, and ourselves.
UNPINNED: Final = {"pip", "setuptools", "aoai-gateway"}
STEP_S: Final = 300
START_S: Final = 60
PAUSE_S: Final = 0.1

# With its first process everything in it ends, and nobody else sees its mounts.
CONTAINED: Final = ("unshare", "--mount", "--pid", "--net", "--fork", "--kill-child")
WITH_NETWORK: Final = tuple(word for word in CONTAINED if word != "--net")
# SIOCSIFFLAGS with IFF_UP: in a new network namespace even the loopback interface is down.
LOOPBACK_UP: Final = (
    "import fcntl, socket, struct; "
    "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'lo', 1))"
)
# What of pip's configuration says where packages come from. The rest is no concern of an image.
PIP_SOURCES: Final = {
    *("index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "proxy"),
    *("cert", "client-cert", "default-timeout", "timeout", "retries"),
}
CHAT: Final = (
    "import http.client, sys; port, path, key, question = sys.argv[1:]; "
    "plane = http.client.HTTPConnection('127.0.0.1', int(port)); "
    "plane.request('POST', path, question, {'api-key': key, 'content-type': 'application/json'}); "
    "reply = plane.getresponse(); print(reply.status, reply.read().decode())"
)
CHAT_PATH: Final = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
QUESTION: Final = '{"messages": [{"role": "user", "content": "Say hello."}]}'
Mounts = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction: its `word`, its ``--flags`` and the rest of the line."""

    word: str
    flags: tuple[str, ...]
    rest: str


def stages() -> list[list[Step]]:
    """Return the steps of each stage of the Dockerfile; each begins with its ``FROM``."""
    written = (ROOT / "Dockerfile").read_text()
    lines = re.sub(r"^\s*#.*\n", "", written, flags=re.MULTILINE).replace("\\\n", "").splitlines()
    found: list[list[Step]] = []
    for line in filter(str.strip, lines):
        word, flags, rest = re.findall(r"^(\w+)\s+((?:--\S+\s+)*)(.*)$", line)[0]
        if word == "FROM":
            found.append([])
        found[-1].append(Step(word, tuple(flags.split()), rest))
    return found


def last(word: str) -> str:
    """Return what the one instruction of the last stage with this word says."""
    (found,) = [step.rest for step in stages()[-1] if step.word == word]
    return found


def health_command() -> list[str]:
    """Return what the ``HEALTHCHECK`` runs."""
    words: list[str] = json.loads(last("HEALTHCHECK").removeprefix("CMD "))
    return words


def sent() -> Iterator[Path]:
    """Yield each file, relative to the project, that ``.dockerignore`` lets into the build.

    A pattern speaks of a path and all below it, and the last one that speaks of it decides.
    """
    rules = []
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = re.escape(line.lstrip("!")).replace(r"\*\*/", "(.*/)?")
            rules.append((re.compile(pattern.replace(r"\*", "[^/]*") + "(/.*)?"), line[0] == "!"))
    for folder, _, names in os.walk(ROOT):
        for path in (Path(folder, name).relative_to(ROOT) for name in names):
            spoken = [wanted for rule, wanted in rules if rule.fullmatch(path.as_posix())]
            if not spoken or spoken[-1]:
                yield path


def run(*command: str, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Return the exit code of a program of this machine, and what it said."""
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=STEP_S)
    return done.returncode, done.stdout + done.stderr


def pip_sources() -> dict[str, str]:
    """Return, as variables, where this machine's pip gets packages from."""
    found = {f"{scheme}_proxy": value for scheme, value in getproxies().items()}
    _, told = run(sys.executable, "-m", "pip", "config", "list")
    options = re.findall(r"^(global|install|:env:)\.([\w-]+)=(.*)$", told, re.MULTILINE)
    # Variables win over files, and what is said for `install` over what is said for all.
    for _, key, value in sorted(options, key=lambda option: (option[0] == ":env:", option)):
        if key in PIP_SOURCES:
            found["PIP_" + key.upper().replace("-", "_")] = str(ast.literal_eval(value))
    return found


def local_sources(variables: Mapping[str, str]) -> Iterator[Path]:
    """Yield the files and folders of this machine that pip's variables speak of."""
    for name, value in sorted(variables.items()):
        for token in value.split() if name.startswith("PIP_") else ():
            path = Path(unquote(urlsplit(token).path))
            if token.startswith(("/", "file:")) and path.exists():
                # An index on disk has its files beside its pages.
                yield path.parent if "INDEX" in name else path


def make_debian(path: Path, debian: str) -> None:
    """Make a Debian with ``/usr/local/bin/python`` and `pip`, or leave the calling test out."""
    programs = {"apt-get", "debootstrap", "unshare", "nsenter"}
    found = {name for name in programs if shutil.which(name)}
    needs_real("debootstrap", found=found == programs, how="apt-get install debootstrap")
    code, _ = run(*CONTAINED, "true")
    needs_real("namespaces", found=code == 0, how="run as root, with CAP_SYS_ADMIN")
    shown = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    _, targets = run("apt-get", "indextargets", "--format", shown, "Created-By: Packages")
    mirrors = re.findall(rf"^(\S+) {debian} main$", targets, re.MULTILINE)
    needs_real("a Debian mirror", found=mirrors != [], how=f"tell apt of `{debian} main`")
    _, proxy = run("apt-config", "--format", "%v", "dump", "Acquire::http::Proxy")
    given = ["env", f"http_proxy={proxy.strip()}"] if proxy.strip() else []
    command = ["debootstrap", "--variant=minbase", "--include=python3-venv,ca-certificates"]
    code, said = run(*WITH_NETWORK, *given, *command, debian, str(path), mirrors[0])
    needs_real("a Debian mirror", found=code == 0, how=f"debootstrap says {said.splitlines()[-1:]}")
    assert Root(path).run("python3", "-m", "venv", "/usr/local") == (0, "")


@dataclass(slots=True)
class Root:
    """A stage's file system, and what its next step finds. Its user is named by number."""

    path: Path
    environ: dict[str, str] = field(default_factory=IMAGE_ENVIRON.copy)
    workdir: str = "/"
    user: str = "0"
    volume: str = ""

    def inside(self, path: str) -> Path:
        """Return where a path of the stage lies on this machine."""
        return self.path / os.path.join(self.workdir, path).lstrip("/")

    def entered(self, argv: Sequence[str], mounts: Mounts) -> list[str]:
        """Return the command that makes `mounts` and then becomes `argv` in here, as its user."""
        proc = ["mount", "-t", "proc", "proc", str(self.inside("/proc"))]
        become = ["exec", "chroot", f"--userspec={self.user}", str(self.path)]
        become += ["env", f"--chdir={self.workdir}", *argv]
        return ["sh", "-euc", "\n".join(map(shlex.join, (*mounts, proc, become)))]

    def run(self, *argv: str, mounts: Mounts = (), **variables: str) -> tuple[int, str]:
        """Return the exit code of a command in here, and what it said."""
        command = (*WITH_NETWORK, *self.entered(argv, mounts))
        return run(*command, environ={**variables, **self.environ})


def bound(source: Path, target: Path) -> list[str]:
    """Return the mount that shows `source` read-only at `target`, which is made if need be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    (target.mkdir if source.is_dir() else target.touch)(exist_ok=True)
    return ["mount", "-o", "bind,ro", str(source), str(target)]


def copy(source: Path, target: Path) -> None:
    """Copy a file, or what is in a folder, with owners and modes."""
    subprocess.run(["cp", "-aT", "--reflink=auto", source, target], check=True)


class Builder:
    """Builds each stage in a copy of the same Debian."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._context = folder, folder / "context"
        self._roots, self._sources = dict[str, Root](), pip_sources()
        for path in sent():
            (self._context / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, self._context / path)

    def build(self, debian: Path) -> Root:
        """Return the last stage."""
        for number, (start, *rest) in enumerate(stages()):
            root = Root(self._folder / f"stage-{number}")
            self._roots[start.rest.partition(" AS ")[2]] = root
            copy(debian, root.path)
            for step in rest:
                self._do(step, root)
        return root

    def _do(self, step: Step, root: Root) -> None:
        match step:
            case Step("ENV", (), rest):
                root.environ |= dict(word.split("=", 1) for word in shlex.split(rest))
            case Step("WORKDIR", (), rest):
                root.workdir = os.path.join(root.workdir, rest)
                root.inside(".").mkdir(parents=True, exist_ok=True)
            case Step("COPY", (), rest):
                source, target = rest.split()
                root.inside(target).parent.mkdir(parents=True, exist_ok=True)
                copy(self._context / source, root.inside(target))
            case Step("RUN", flags, rest):
                mounts = [self._mount(flag, root) for flag in flags]
                for path in local_sources(self._sources):
                    mounts.append(bound(path, root.inside(str(path))))
                code, said = root.run("/bin/sh", "-c", rest, mounts=mounts, **self._sources)
                assert code == 0, f"{rest}\n{said}"
            case Step("USER", (), rest):
                root.user = rest
            case Step("VOLUME", (), rest):
                root.volume = rest
            case Step("EXPOSE" | "HEALTHCHECK" | "CMD"):
                pass
            case _:
                pytest.fail(f"nothing here knows how to do {step}")

    def _mount(self, flag: str, root: Root) -> list[str]:
        found = re.fullmatch(r"--mount=type=bind,from=(\w+),source=(\S+),target=(\S+)", flag)
        assert found is not None, flag
        return bound(self._roots[found[1]].inside(found[2]), root.inside(found[3]))


@dataclass(frozen=True, slots=True)
class Container:
    """A running image, seen from outside; `log` is the file its first process writes to."""

    unshare: subprocess.Popen[bytes]
    environ: Mapping[str, str]
    log: Path

    def pid(self) -> int:
        """Return the first process, as this machine numbers it; 0 before there is one."""
        parent = self.unshare.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return int(children[0]) if children else 0

    def status(self, name: str) -> list[str]:
        """Return, in words, a line of what the kernel says of the first process."""
        text = Path(f"/proc/{self.pid()}/status").read_text()
        return str(re.findall(rf"^{name}:(.*)$", text, re.MULTILINE)[0]).split()

    @contextmanager
    def start(self, *argv: str, user: str = "") -> Iterator[subprocess.Popen[str]]:
        """Start a command beside the first process, as its user if none is named."""
        ids = [user or self.status(name)[0] for name in ("Uid", "Gid")]
        target = ["nsenter", f"--target={self.pid()}", "--mount", "--pid", "--net", "--root"]
        target += ["--wd", f"--setuid={ids[0]}", f"--setgid={ids[1]}"]
        pipe, command = subprocess.PIPE, [*target, *argv]
        with subprocess.Popen(command, env=self.environ, stdout=pipe, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    def execute(self, *argv: str, user: str = "") -> tuple[int, str]:
        """Return the exit code of a command, and what it said."""
        with self.start(*argv, user=user) as process:
            said, _ = process.communicate(timeout=START_S)
        return process.returncode, said

    def wait_until_healthy(self) -> None:
        """Return once the health check passes."""
        until = time.monotonic() + START_S
        while self.pid() == 0 or self.execute(*health_command())[0] != 0:
            assert self.unshare.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(PAUSE_S)

    def stop(self) -> int:
        """Send SIGTERM, as engines do to stop a container, and return the exit code."""
        os.kill(self.pid(), signal.SIGTERM)
        return self.unshare.wait(START_S)


@contextmanager
def running(root: Root, folder: Path, variables: Mapping[str, str]) -> Iterator[Container]:
    """Run an image with a read-only root, a volume, a ``/tmp`` in memory and only a loopback."""
    volume, top, log = folder / "volume", str(root.path), folder / "log"
    copy(root.inside(root.volume), volume)
    mounts = [
        [sys.executable, "-c", LOOPBACK_UP],
        ["mount", "--bind", top, top],
        ["mount", "-o", "remount,bind,ro", top],
        ["mount", "--bind", str(volume), str(root.inside(root.volume))],
        *(["mount", "-t", "tmpfs", "tmpfs", str(root.inside(at))] for at in ("/tmp", "/dev/shm")),
    ]
    environ = {**root.environ, **variables}
    command = [*CONTAINED, *root.entered(json.loads(last("CMD")), mounts)]
    with (
        log.open("wb") as written,
        subprocess.Popen(command, env=environ, stdout=written, stderr=written) as unshare,
    ):
        container = Container(unshare, environ, log)
        try:
            yield container
        finally:
            # A process that changed its user no longer dies with its parent.
            if unshare.poll() is None:
                os.kill(container.pid() or unshare.pid, signal.SIGKILL)


def test_the_build_is_sent_what_the_wheel_needs_and_nothing_that_git_ignores() -> None:
    folders = ("requirements", "gateway", "policies", "dashboards")
    needed = {path.relative_to(ROOT) for name in folders for path in files_under(ROOT / name)}
    assert set(sent()) == {Path("pyproject.toml"), *needed}


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["", "0.0.0.0", "127.0.0.1"])
@pytest.mark.parametrize(("status", "code"), [(204, 0), (503, 1)])
async def test_the_health_check_asks_the_admin_plane_wherever_it_listens(
    host: str, status: int, code: int
) -> None:
    door = Door(Response(status_code=status), host=host or "127.0.0.1", port=0)
    await door.start()
    # Engines hand their own proxy on to every container; it knows nothing of a loopback in there.
    environ = {"AOAIGW_LISTEN_ADMIN": f"{host}:{door.port}", "http_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, *health_command()[1:]]
    process = await asyncio.create_subprocess_exec(*command, env=environ)
    found = await process.wait()
    await door.stop()
    assert found == code


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is gone afterwards: pytest would keep the last three, a gigabyte each."""
    with tempfile.TemporaryDirectory(prefix="image-") as path:
        yield Path(path)


# One test, because with several workers a fixture would build the image on each of them.
@pytest.mark.timeout(900)
def test_the_image_serves_without_privileges_from_a_read_only_root(folder: Path) -> None:
    (debian,) = {re.findall(r"^python:3\.11-slim-(\w+)", start.rest)[0] for start, *_ in stages()}
    make_debian(folder / "debian", debian)
    image = Builder(folder).build(folder / "debian")
    _, said = image.run("pip", "list", "--format=freeze")
    packages = re.findall(r"^([\w.-]+)==(\S+)$", said, re.MULTILINE)
    installed = {canonicalize_name(name): version for name, version in packages}
    assert set(installed) >= UNPINNED, said
    assert {i for i in installed.items() if i[0] not in UNPINNED} <= pins("runtime").items()
    assert not list(image.inside("/tmp").iterdir())

    azure = "http://127.0.0.1:8090"
    variables = {"AZURE_OPENAI_ENDPOINT": azure, "AZURE_OPENAI_API_KEY": SimulatorConfig().api_key}
    with running(image, folder, variables) as container:
        container.wait_until_healthy()
        assert container.status("Uid") == [last("USER")] * 4
        assert "0" not in container.status("Gid")
        for path, code in (("/usr", 1), ("/var/lib", 1), ("/tmp", 0), (".", 0)):
            assert container.execute("test", "-w", path, user="0")[0] == code, path
        _, key = container.execute("aoai-gateway", "keys", "issue", "--team", "default")
        # What plays Azure runs beside it: from in there nothing else can be reached.
        with container.start("aoai-gateway", "simulator", "--port=8090") as simulator:
            assert simulator.stdout is not None
            assert simulator.stdout.readline().split() == ["endpoint", azure]
            port = last("EXPOSE").split()[0]
            asked = (CHAT, port, CHAT_PATH, key.strip(), QUESTION)
            assert container.execute("python", "-c", *asked)[1].startswith("200 ")
        code, ledger = container.execute("aoai-gateway", "ledger", "--format", "jsonl")
        assert {json.loads(line)["team"] for line in ledger.splitlines()} == {"default"}, code
        assert container.stop() == 0, container.log.read_text()
