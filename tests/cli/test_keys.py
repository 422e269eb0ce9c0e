"""Keys from the command line: through a running gateway, and without one."""

from __future__ import annotations

import socket
import stat
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from gateway.control import (
    WallClock,
    control_app,
    control_socket_path,
    issue_key,
)
from gateway.core.callers import KeyRing
from gateway.ports import KeyRecord
from gateway.stores import open_store
from tests.cli.acting import PEPPER, Ran, running, started


def test_without_a_gateway_keys_are_issued_listed_and_revoked_in_the_ledger_itself(
    run: Callable[..., Ran], database: Path
) -> None:
    issued = run("keys", "issue", "--team", "blue")
    assert issued.code == 0
    key = issued.out.strip()
    public = key.split("-")[1]
    assert issued.err == f"key `{public}` of team `blue`; it is not shown again\n"
    listed = run("keys", "list")
    assert [line.split()[:2] for line in listed.out.splitlines()] == [
        ["KEY", "TEAM"],
        [public, "blue"],
    ]
    assert listed.out.splitlines()[1].endswith(" -")
    assert key not in listed.out
    assert run("keys", "revoke", public).code == 0
    assert not run("keys", "list").out.splitlines()[1].endswith(" -")
    again = run("keys", "revoke", public)
    assert (again.code, again.err) == (
        1,
        f"aoai-gateway: there is no key `{public}` that could be revoked\n",
    )
    assert key.encode() not in database.read_bytes()


def test_a_key_for_an_unknown_team_is_refused_with_the_known_ones(
    run: Callable[..., Ran], database: Path
) -> None:
    message = "aoai-gateway: team `bleu` is not one of `blue`, `green`\n"
    offline = run("keys", "issue", "--team", "bleu")
    assert (offline.code, offline.out, offline.err) == (2, "", message)
    with running(database):
        online = run("keys", "issue", "--team", "bleu")
    assert (online.code, online.out, online.err) == (2, "", message)


def test_only_a_public_part_can_be_revoked(run: Callable[..., Ran], config: Path) -> None:
    ran = run("keys", "revoke", "gw-abc/../x y")
    assert ran.code == 2
    assert "x y" not in ran.err


def test_a_running_gateway_issues_and_revokes_and_knows_it_at_once(
    run: Callable[..., Ran], database: Path
) -> None:
    with running(database) as served:
        issued = run("keys", "issue", "--team", "green")
        assert issued.code == 0
        key = issued.out.strip()
        headers = [(b"api-key", key.encode())]
        assert served.rings[-1].identify(headers, WallClock().now()).team == "green"
        public = key.split("-")[1]
        assert public in run("keys", "list").out
        assert run("keys", "revoke", public).code == 0
        assert served.changes == 2
        again = run("keys", "revoke", public)
        assert (again.code, again.err) == (
            1,
            f"aoai-gateway: there is no key `{public}` that could be revoked\n",
        )
        assert served.changes == 2


def test_only_the_gateways_own_user_may_open_the_control_socket(database: Path) -> None:
    with running(database):
        mode = control_socket_path(database).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_a_socket_left_behind_by_a_dead_gateway_stops_nobody(
    run: Callable[..., Ran], database: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(control_socket_path(database)))
    assert run("keys", "issue", "--team", "blue").code == 0
    with running(database):
        assert run("keys", "issue", "--team", "blue").code == 0


def test_a_ledger_that_is_served_without_a_socket_is_busy(
    run: Callable[..., Ran], database: Path
) -> None:
    with running(database):
        control_socket_path(database).unlink()
        ran = run("keys", "issue", "--team", "blue")
    assert (ran.code, ran.out) == (1, "")
    assert f"another process serves the ledger `{database}`" in ran.err


async def test_the_control_socket_answers_only_what_it_knows(tmp_path: Path) -> None:
    store = await open_store(f"sqlite:///{tmp_path}/x.db", clock=WallClock())
    changes: list[int] = []

    async def on_change() -> None:
        changes.append(1)

    application = control_app(store, on_change, WallClock(), PEPPER, ["blue"])
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        for body in (b"", b"{", b"[]", b'{"team": 3}', b'{"team": "blue", "admin": true}', b"\xff"):
            reply = await client.post("/keys", content=body)
            assert reply.status_code == 400
        assert (await client.get("/")).status_code == 404
        assert (await client.delete("/keys/abcdefghijkl")).status_code == 404
        assert changes == []
        issued = await client.post("/keys", json={"team": "blue"})
        assert issued.status_code == 201
        assert set(issued.json()) == {"public", "key"}
        listed = (await client.get("/keys")).json()["keys"]
        assert [set(row) for row in listed] == [{"public", "team", "created_at", "revoked_at"}]
        await store.close()
        assert (await client.get("/keys")).status_code == 503
        assert (await client.post("/keys", json={"team": "blue"})).status_code == 503
    assert changes == [1]


async def test_an_issued_key_opens_the_ring_and_hides_itself(tmp_path: Path) -> None:
    store = await open_store(f"sqlite:///{tmp_path}/x.db", clock=WallClock())
    issued = await issue_key(store, "blue", clock=WallClock(), pepper=PEPPER, teams=["blue"])
    (record,) = await store.keys()
    await store.close()
    assert isinstance(record, KeyRecord)
    ring = KeyRing([record], PEPPER)
    caller = ring.identify([(b"api-key", issued.key.encode())], record.created_at)
    assert (caller.team, caller.key) == ("blue", issued.public)
    assert issued.key not in repr(issued)


def test_a_served_gateway_takes_keys_from_the_command_line_and_stops_when_told(
    run: Callable[..., Ran], database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOT_SET_HERE", "set-here")
    monkeypatch.setenv("AOAIGW_LISTEN_DATA", "127.0.0.1:0")
    monkeypatch.setenv("AOAIGW_LISTEN_ADMIN", "127.0.0.1:0")
    with started("serve", folder=database.parent, until="serving callers on") as (process, said):
        port = int(said.split("127.0.0.1:")[1].split(",")[0])
        key = run("keys", "issue", "--team", "blue").out.strip()
        address = f"http://127.0.0.1:{port}/gateway/v1/me"
        with httpx.Client(trust_env=False) as client:
            assert client.get(address).status_code == 401
            known = client.get(address, headers={"api-key": key})
            assert (known.status_code, known.json()["team"]) == (200, "blue")
            assert run("keys", "revoke", key.split("-")[1]).code == 0
            assert client.get(address, headers={"api-key": key}).status_code == 401
        second = run("serve")
        assert (second.code, second.out) == (1, "")
        assert f"another process serves the ledger `{database}`" in second.err
        process.terminate()
        assert process.wait(timeout=60) == 0
