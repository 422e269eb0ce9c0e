"""The commands that issue, list and revoke keys: through the running gateway, or without one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.common import (
    FAULTY,
    ConfigOption,
    Failure,
    database_of,
    open_report,
    read_settings,
)

if TYPE_CHECKING:
    from gateway.control import IssuedKey
    from gateway.ports import Store
    from gateway.settings import Settings


def keys_issue(
    team: Annotated[str, typer.Option(metavar="ID", help="The team that the key speaks for.")],
    config: ConfigOption = None,
) -> None:
    """Issue a key and print it, this once.

    Only its digest is kept. A running gateway accepts it at once.

    \b
    Example:
      aoai-gateway keys issue --team blue
    """
    from gateway.control import UnknownTeam, control_socket_path
    from gateway.remote import NotRunning, RemoteRefusal, issue_remotely

    settings = read_settings(config, is_serving=False)
    database = database_of(settings)
    try:
        issued = issue_remotely(control_socket_path(database), team)
    except RemoteRefusal as error:
        raise Failure(str(error), FAULTY) from error
    except NotRunning:
        try:
            issued = _issue_here(settings, team)
        except UnknownTeam as error:
            raise Failure(str(error), FAULTY) from error
    print(issued.key)
    print(f"key `{issued.public}` of team `{team}`; it is not shown again", file=sys.stderr)


def keys_list(config: ConfigOption = None) -> None:
    """List all keys by their public part, with team and dates.

    \b
    Example:
      aoai-gateway keys list
    """
    from gateway.reports import keys_report

    with open_report(config) as reader:
        print(keys_report(reader.keys()), end="")


def keys_revoke(
    public: Annotated[str, typer.Argument(help="The public part, as `keys list` shows it.")],
    config: ConfigOption = None,
) -> None:
    """Revoke a key.

    A running gateway refuses it from the next request on.

    \b
    Example:
      aoai-gateway keys revoke abcdefghijkl
    """
    from gateway.control import control_socket_path
    from gateway.core.callers import is_public
    from gateway.remote import NotRunning, RemoteRefusal, revoke_remotely

    if not is_public(public):
        raise Failure("a key is named by its public part, 12 letters and digits", FAULTY)
    settings = read_settings(config, is_serving=False)
    try:
        revoke_remotely(control_socket_path(database_of(settings)), public)
    except RemoteRefusal as error:
        raise Failure(str(error)) from error
    except NotRunning:
        _revoke_here(settings, public)
    print(f"key `{public}` is revoked", file=sys.stderr)


def _issue_here(settings: Settings, team: str) -> IssuedKey:
    """Issue a key with the ledger in our own hands, because no gateway runs."""
    import asyncio

    from gateway.control import WallClock, issue_key
    from gateway.settings import load_pepper

    async def issue() -> IssuedKey:
        pepper = load_pepper(settings)
        store = await _open(settings)
        try:
            teams = [known.id for known in settings.teams]
            return await issue_key(store, team, clock=WallClock(), pepper=pepper, teams=teams)
        finally:
            await store.close()

    return asyncio.run(issue())


def _revoke_here(settings: Settings, public: str) -> None:
    import asyncio

    from gateway.control import WallClock

    async def revoke() -> bool:
        store = await _open(settings)
        try:
            return await store.revoke_key(public, WallClock().now())
        finally:
            await store.close()

    if not asyncio.run(revoke()):
        raise Failure(f"there is no key `{public}` that could be revoked")


async def _open(settings: Settings) -> Store:
    from gateway.control import WallClock
    from gateway.stores import open_store

    return await open_store(settings.store_url, clock=WallClock())
