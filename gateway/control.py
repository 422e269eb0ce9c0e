"""The control socket: how the command line changes keys while the gateway runs.

A SQLite ledger has one process that writes. Commands that write therefore speak to that process,
over a Unix socket beside the database. Who may open the socket (mode 0600: the user the gateway
runs as) may issue and revoke keys; there is no other credential. When no gateway runs, the
commands open the ledger themselves, with the same functions.

    POST   /keys           {"team": "blue"}  ->  201 {"public": "…", "key": "gw-…"}, shown this once
    GET    /keys           200 {"keys": [{"public", "team", "created_at", "revoked_at"}]}
    DELETE /keys/{public}  204, or 404 if there is none or it was revoked before
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.core.callers import ENTROPY_BYTES, digest, mint
from gateway.core.model import Micros
from gateway.faults import listed
from gateway.listener import unix_address
from gateway.ports import Clock, KeyRecord, Store, StoreUnavailable

OnChange = Callable[[], Awaitable[None]]


class WallClock:
    """The system's clock."""

    def now(self) -> Micros:
        """Return microseconds since the epoch, UTC."""
        return time.time_ns() // 1000


class UnknownTeam(ValueError):
    """A key was asked for a team that the settings do not name."""


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key. `key` is shown once and kept nowhere."""

    public: str
    key: str

    def __repr__(self) -> str:
        return f"IssuedKey(public={self.public!r})"


async def issue_key(
    store: Store, team: str, *, clock: Clock, pepper: bytes, teams: Collection[str]
) -> IssuedKey:
    """Return a new key of a team; its digest is durable in the store by then.

    Raises:
        UnknownTeam: `team` is not one of `teams`.
        StoreUnavailable: the key does not count, because it could not be kept.
    """
    if team not in teams:
        raise UnknownTeam(f"team `{team[:64]}` is not one of {listed(sorted(teams))}")
    public, key = mint(secrets.token_bytes(ENTROPY_BYTES))
    record = KeyRecord(public=public, digest=digest(key, pepper), team=team, created_at=clock.now())
    await store.add_key(record)
    return IssuedKey(public=public, key=key)


def control_app(
    store: Store, on_change: OnChange, clock: Clock, pepper: bytes, teams: Collection[str]
) -> Starlette:
    """Return the application behind the control socket.

    `on_change` is awaited after every change and before its answer, so that a key that was answered
    for works (or does not work any more) on the next request.
    """

    async def issue(request: Request) -> Response:
        team = await _team(request)
        if team is None:
            return _fault(400, 'the body must be `{"team": "ID"}`')
        try:
            issued = await issue_key(store, team, clock=clock, pepper=pepper, teams=teams)
        except UnknownTeam as error:
            return _fault(400, str(error))
        await on_change()
        return JSONResponse({"public": issued.public, "key": issued.key}, status_code=201)

    async def show(_: Request) -> Response:
        rows = [
            {
                "public": record.public,
                "team": record.team,
                "created_at": record.created_at,
                "revoked_at": record.revoked_at,
            }
            for record in await store.keys()
        ]
        return JSONResponse({"keys": rows})

    async def revoke(request: Request) -> Response:
        public = str(request.path_params["public"])
        if not await store.revoke_key(public, clock.now()):
            return _fault(404, f"there is no key `{public[:64]}` that could be revoked")
        await on_change()
        return Response(status_code=204)

    async def unavailable(_: Request, __: Exception) -> Response:
        return _fault(503, "the ledger is not available; nothing was changed for certain")

    return Starlette(
        routes=[
            Route("/keys", issue, methods=["POST"]),
            Route("/keys", show, methods=["GET"]),
            Route("/keys/{public}", revoke, methods=["DELETE"]),
        ],
        exception_handlers={StoreUnavailable: unavailable},
    )


def control_socket_path(database: Path) -> Path:
    """Return where the control socket of a database lies."""
    return database.with_name(database.name + ".sock")


def connect_control(path: Path, *, timeout_s: float) -> socket.socket:
    """Return a connection to the gateway that listens at `path`.

    Raises:
        FileNotFoundError, ConnectionRefusedError: no gateway runs there.
        OSError: it cannot be reached for another reason.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    try:
        with unix_address(path) as address:
            connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


async def _team(request: Request) -> str | None:
    try:
        body = await request.json()
    except (JSONDecodeError, UnicodeDecodeError):
        return None
    team = body.get("team") if isinstance(body, dict) and len(body) == 1 else None
    return team if isinstance(team, str) else None


def _fault(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message}}, status_code=status)
