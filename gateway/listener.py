"""The door: what may reach the street at all.

Whoever frames the same bytes another way than we do sees another request. So the door answers what
is ambiguous itself, in Azure's error shape, and closes. Bytes behind a complete request wait
unparsed until it is answered. What a peer can make us wait for has a deadline, what it can make us
keep a limit. An answer given before the request was read to its end lingers: we close our half and
discard, within limits, what still comes, because closing over unread bytes resets the connection
and can take the answer with it (RFC 9112 section 9.6).

How one connection is read stands in `visitor`, what it may send in `bounds`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.bounds import DoorLimits, Timers
from gateway.core.proxies import Proxies
from gateway.visitor import LINGER_S, Terms, Visitor

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["Door", "DoorLimits", "unix_address"]

_LIMITS = DoorLimits()
# As many may wait to be let in; a caller beyond that tries again after a second.
_WAITING_MAX = 1024


class Door:
    """Serves an ASGI app on one socket until told to stop.

    `port` is the real one once started. Signals, lifespan and logging stay the caller's. With `uds`
    it listens on that path instead (mode 0600); with `tls_cert` and `tls_key` it speaks TLS.
    `trusted_proxies` are addresses or networks whose `X-Forwarded-For` is believed: the client in
    the scope is then who asked them. `on_refusal` hears one of `bounds.REASONS` for every refusal.
    Deadlines pass by the running loop, unless `timers` lets them pass by hand.

    Raises:
        ValueError: one of `trusted_proxies` is neither an address nor a network.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        port: int,
        limits: DoorLimits = _LIMITS,
        tls_cert: Path | None = None,
        tls_key: Path | None = None,
        drain_s: float = 30,
        uds: Path | None = None,
        trusted_proxies: Iterable[str] = (),
        on_refusal: Callable[[str], None] = lambda _: None,
        timers: Timers | None = None,
    ) -> None:
        self.port = port
        self._host, self._uds, self._drain_s = host, uds, drain_s
        self._terms = Terms(limits, Proxies(trusted_proxies), timers or _LoopTimers(), on_refusal)
        self._config = Config(
            app,
            interface="asgi3",
            ws="none",
            lifespan="off",
            proxy_headers=False,
            access_log=False,
            log_config=None,
            workers=1,
            ssl_certfile=tls_cert,
            ssl_keyfile=tls_key,
        )
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    @property
    def connections_open(self) -> int:
        """How many connections there are now, idle ones too."""
        return len(self._state.connections)

    async def start(self) -> None:
        """Return once bound and accepting.

        Raises:
            OSError: the port or path is taken, or a TLS file cannot be read.
        """
        if not self._config.loaded:
            self._config.load()
        tls = self._config.ssl
        loop = asyncio.get_running_loop()
        limits = self._terms.limits

        def visit() -> Visitor:
            return Visitor(self._config, self._state, self._terms)

        how: dict[str, Any] = {"ssl": tls, "backlog": _WAITING_MAX}
        if tls is not None:
            how["ssl_handshake_timeout"] = limits.header_timeout_s
            how["ssl_shutdown_timeout"] = limits.unread_timeout_s
        if self._uds is None:
            self._server = await loop.create_server(visit, self._host, self.port, **how)
            self.port = self._server.sockets[0].getsockname()[1]
        else:
            self._server = await loop.create_unix_server(visit, sock=_bind_unix(self._uds), **how)
        self._tell_date()

    async def stop(self) -> None:
        """Accept nothing more, let exchanges finish within `drain_s`, close the rest."""
        if self._server is None:
            return
        self._server.close()
        if self._uds is not None:
            self._uds.unlink(missing_ok=True)
        connections, tasks = self._state.connections, self._state.tasks
        for visitor in list(connections):
            visitor.shutdown()
        try:
            async with asyncio.timeout(self._drain_s):
                while connections:
                    self._terms.gone.clear()
                    await self._terms.gone.wait()
                while tasks:
                    await asyncio.wait(tasks)
        except TimeoutError:
            for visitor in list(connections):
                visitor.transport.abort()
            for task in list(tasks):
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=LINGER_S)
        self._date_timer.cancel()
        await self._server.wait_closed()
        self._server = None

    def _tell_date(self) -> None:
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        self._date_timer = asyncio.get_running_loop().call_later(1, self._tell_date)


class _LoopTimers:
    """The running loop's own clock and deadlines."""

    def time(self) -> float:
        return asyncio.get_running_loop().time()

    def plan(self, delay_s: float, act: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(delay_s, act)


def _bind_unix(path: Path) -> socket.socket:
    """Return a socket bound to `path` with mode 0600, replacing one that nobody listens on."""
    with socket.socket(socket.AF_UNIX) as probe, unix_address(path) as address:
        if probe.connect_ex(address) == 0:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), str(path))
    if path.is_socket():
        path.unlink()
    with contextlib.ExitStack() as on_failure:
        bound = on_failure.enter_context(socket.socket(socket.AF_UNIX))
        # Linux takes the path's mode from the unbound socket, so it is never open to others.
        os.fchmod(bound.fileno(), 0o600)
        with unix_address(path) as address:
            bound.bind(address)
        on_failure.pop_all()
    return bound


@contextlib.contextmanager
def unix_address(path: Path) -> Iterator[str]:
    """Yield an address for `path` that fits into the 108 bytes the kernel allows for one."""
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
