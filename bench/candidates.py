"""What is measured: nothing in between, nginx, and the gateway, each a process of its own.

All are pinned to the same core and stand before the same upstream. nginx does the least that a
reverse proxy can do (one worker, kept connections, no buffering, as a stream needs it, no log).
The gateway does everything: it is `aoai-gateway serve` with the shipped policies, a budget per
team and month, and its ledger in a SQLite file whose every commit is synced to disk.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench import machine
from bench.wire import MODEL

_START_S = 20.0
_STOP_S = 10.0
_KEY_FOR_UPSTREAM = "upstream-key-of-the-measurement"

_NGINX_CONFIG = """\
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
{temp_paths}
  keepalive_requests 100000000;
  upstream azure {{
    server 127.0.0.1:{upstream_port};
    keepalive 128;
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port};
    client_body_buffer_size 64k;
    location / {{
      proxy_pass http://azure;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header api-key {key};
      proxy_buffering off;
    }}
  }}
}}
"""

_GATEWAY_CONFIG = """\
policies = "policies"
[listen]
data = "127.0.0.1:{port}"
admin = "127.0.0.1:0"
[store]
url = "sqlite:///{folder}/ledger.db"
[[upstream]]
name = "azure"
kind = "azure-openai"
endpoint = "http://127.0.0.1:{upstream_port}"
api_key = "env:BENCH_UPSTREAM_KEY"
[[deployment]]
name = "{model}"
model = "{model}"
[[team]]
id = "bench"
"""

_BUDGET = """
[[budget]]
rule = "team-month-usd"
subject = "team"
period = "month"
usd = "1000000.00"
"""


class CannotStart(Exception):
    """A candidate is missing or did not come up; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that answers on `port`. `pid` is its main process."""

    name: str
    port: int
    pid: int
    api_key: str = "any"


def command_beside_python(name: str) -> str | None:
    """Return the path of a command of this environment, or of the search path, or None."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def nginx_command() -> str | None:
    """Return the path of nginx, which Debian keeps off an ordinary user's search path, or None."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def nginx_config(folder: Path, *, port: int, upstream_port: int, built_without: str) -> str:
    """Return nginx's configuration; `built_without` is what `nginx -V` says."""
    modules = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = [
        f"  {name}_temp_path {folder}/{name};"
        for name in modules
        if f"--without-http_{name}_module" not in built_without
    ]
    return _NGINX_CONFIG.format(
        folder=folder,
        port=port,
        upstream_port=upstream_port,
        key=_KEY_FOR_UPSTREAM,
        temp_paths="\n".join(paths),
    )


@contextmanager
def upstream(cores: machine.Cores) -> Iterator[Candidate]:
    """Run the stand-in for Azure on the load's core; called without a proxy, it is `direct`."""
    command = [sys.executable, "-m", "bench.upstream"]
    root = Path(__file__).resolve().parents[1]
    with _pinned(cores.load, back_to=cores.load):
        process = subprocess.Popen(
            command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    with _stopping(process):
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if not line.isdigit():
            raise CannotStart("the upstream of the measurement did not start")
        yield Candidate("direct", int(line), process.pid)


@contextmanager
def nginx(folder: Path, upstream_port: int, cores: machine.Cores) -> Iterator[Candidate]:
    """Run nginx as a bare reverse proxy.

    Raises:
        CannotStart: it is not installed, or does not come up.
    """
    command = nginx_command()
    if command is None:
        raise CannotStart("`nginx` is missing; on Debian: apt-get install nginx-light")
    said = subprocess.run([command, "-V"], capture_output=True, text=True, check=True).stderr
    port, config = _free_port(), folder / "nginx.conf"
    config.write_text(
        nginx_config(folder, port=port, upstream_port=upstream_port, built_without=said)
    )
    full = [command, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")]
    with _running("nginx", full, dict(os.environ), folder, port, cores) as process:
        yield Candidate("nginx", port, process.pid)


@contextmanager
def gateway(folder: Path, upstream_port: int, cores: machine.Cores) -> Iterator[Candidate]:
    """Run `aoai-gateway serve` with everything on, and a key for one team.

    Raises:
        CannotStart: it is not installed, or does not come up.
    """
    command = command_beside_python("aoai-gateway")
    if command is None:
        raise CannotStart("`aoai-gateway` is missing; `make bench` installs it")
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AOAIGW_")},
        "BENCH_UPSTREAM_KEY": _KEY_FOR_UPSTREAM,
    }
    subprocess.run([command, "init", str(folder)], check=True, capture_output=True, env=environ)
    port, config = _free_port(), folder / "gateway.toml"
    config.write_text(
        _GATEWAY_CONFIG.format(port=port, folder=folder, upstream_port=upstream_port, model=MODEL)
    )
    with (folder / "policies" / "budgets.toml").open("a") as budgets:
        budgets.write(_BUDGET)
    issue = [command, "keys", "issue", "--team", "bench", "--config", str(config)]
    issued = subprocess.run(issue, capture_output=True, text=True, env=environ, check=False)
    if issued.returncode:
        raise CannotStart(f"`aoai-gateway keys issue` failed: {issued.stderr.strip()}")
    serve = [command, "serve", "--config", str(config)]
    with _running("gateway", serve, environ, folder, port, cores) as process:
        yield Candidate("gateway", port, process.pid, api_key=issued.stdout.strip())


@contextmanager
def _running(
    name: str,
    command: list[str],
    environ: Mapping[str, str],
    folder: Path,
    port: int,
    cores: machine.Cores,
) -> Iterator[subprocess.Popen[bytes]]:
    log = folder / f"{name}.log"
    with log.open("wb") as said, _pinned(cores.candidate, back_to=cores.load):
        process = subprocess.Popen(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
    with _stopping(process):
        ends = time.monotonic() + _START_S
        while not _accepts(port):
            if process.poll() is not None or time.monotonic() > ends:
                words = log.read_text(errors="replace").strip()[-2000:]
                raise CannotStart(f"`{name}` did not come up: {words}")
            time.sleep(0.05)
        yield process


@contextmanager
def _pinned(core: int | None, *, back_to: int | None) -> Iterator[None]:
    """Pin to a core for as long as a child is started; it inherits the mask."""
    machine.pin(core)
    try:
        yield
    finally:
        machine.pin(back_to)


@contextmanager
def _stopping(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
