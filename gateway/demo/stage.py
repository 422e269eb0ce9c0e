"""The stage: a simulated Azure, a gateway in front of it, and the folder an operator would write.

The gateway is the real one, assembled by `gateway.app` from a real `gateway.toml` and real policy
files; keys are issued through its control socket, as `aoai-gateway keys issue` does. Only the
folder is made for the occasion and goes away with it.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.app import Gateway, running
from gateway.control import control_socket_path
from gateway.policies import load_policies
from gateway.remote import issue_remotely
from gateway.settings import load_settings
from gateway.simulator import LiveSimulator
from gateway.starter import write_starter

HOST: Final = "127.0.0.1"
CALLERS_PORT: Final = 8080
OPERATORS_PORT: Final = 8081
TEAMS: Final = ("analytics", "research")
ANALYTICS_SESSIONS_PER_DAY: Final = 2

_CONFIG = """\
policies = "policies"
drain_s = 2

[listen]
data = "{host}:{callers}"
admin = "{host}:{operators}"

[store]
url = "sqlite:///{database}"

[[upstream]]
name = "azure"
kind = "azure-openai"
endpoint = "{azure}"
api_key = "env:AZURE_OPENAI_API_KEY"

[[deployment]]
name = "gpt-4o"
model = "gpt-4o"
type = "global-standard"

[[deployment]]
name = "gpt-4o-mini"
model = "gpt-4o-mini"
type = "global-standard"

[[deployment]]
name = "text-embedding-3-small"
model = "text-embedding-3-small"
type = "global-standard"

[[team]]
id = "analytics"
name = "Analytics"

[[team]]
id = "research"
name = "Research"
"""
_DATABASE = "aoai-gateway.db"
_CAP = f"""
# Analytics is trying things out: two sessions a day will do.
[[cap]]
rule = "analytics-day"
subject = "team"
team = "analytics"
period = "day"
sessions = {ANALYTICS_SESSIONS_PER_DAY}
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where everything is. Addresses end without a slash; `keys` holds one key for each team.

    `notes` says what is not where it was looked for.
    """

    url: str
    admin_url: str
    azure_url: str
    azure_key: str
    config: Path
    database: Path
    keys: Mapping[str, str]
    notes: tuple[str, ...] = ()


@asynccontextmanager
async def set_stage(folder: Path, azure: LiveSimulator) -> AsyncIterator[Stage]:
    """Run a gateway in front of `azure` for as long as the context lasts; it lives in `folder`.

    It listens on the usual ports where they are free.
    """
    write_starter(folder)
    with (folder / "policies" / "code_interpreter.toml").open("a", encoding="utf-8") as policy:
        policy.write(_CAP)
    database = folder / _DATABASE
    async with AsyncExitStack() as stack:
        gateway = await _start(stack, folder, azure)
        keys = {
            team: (await asyncio.to_thread(issue_remotely, control_socket_path(database), team)).key
            for team in TEAMS
        }
        yield Stage(
            url=f"http://{HOST}:{gateway.data_port}",
            admin_url=f"http://{HOST}:{gateway.admin_port}",
            azure_url=azure.url,
            azure_key=azure.simulator.config.api_key,
            config=folder / "gateway.toml",
            database=database,
            keys=keys,
            notes=(
                *_note("callers", wanted=CALLERS_PORT, got=gateway.data_port),
                *_note("operators", wanted=OPERATORS_PORT, got=gateway.admin_port),
            ),
        )


async def _start(stack: AsyncExitStack, folder: Path, azure: LiveSimulator) -> Gateway:
    callers, operators = _free(CALLERS_PORT), _free(OPERATORS_PORT)
    try:
        return await _start_on(stack, folder, azure, callers=callers, operators=operators)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
    # Somebody took a port after it was looked at.
    return await _start_on(stack, folder, azure, callers=0, operators=0)


async def _start_on(
    stack: AsyncExitStack, folder: Path, azure: LiveSimulator, *, callers: int, operators: int
) -> Gateway:
    config = folder / "gateway.toml"
    config.write_text(
        _CONFIG.format(
            host=HOST, callers=callers, operators=operators, database=_DATABASE, azure=azure.url
        ),
        encoding="utf-8",
    )
    environ = {"AZURE_OPENAI_API_KEY": azure.simulator.config.api_key}
    settings = load_settings(config, environ)
    policies = load_policies(settings.policies_dir, [team.id for team in settings.teams])
    return await stack.enter_async_context(running(settings, policies))


def _free(port: int) -> int:
    """Return `port` if nobody listens on it, else 0: the system then finds one."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return 0
    return port


def _note(who: str, *, wanted: int, got: int) -> tuple[str, ...]:
    if got == wanted:
        return ()
    return (f"port {wanted} is busy, {who} are served on {got} instead",)
