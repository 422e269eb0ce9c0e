"""The real command, made to die by its own hand: at a write, or between the wire and the ledger.

    python -m tests.street.dying

reads a folder a line, serves it (`aoai-gateway serve`) in a forked process, and writes the
process's id; forking saves the imports. The process dies by SIGKILL as the folder's file `armed`
says: ``before N`` or ``after N``, at the N-th commit since it was armed, or ``wire 1``, when Azure
has begun to answer a POST. Its clock runs `HASTE` times as fast, so that nobody waits for the
settlement.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

import gateway.app
import gateway.cli
import gateway.cli.running
from gateway.stores import writer
from gateway.stores.worker import Answer, Ticket
from gateway.upstream import AzureUpstream, Reply

HASTE = 40
ARMED = "armed"
_BEGAN_NS = 1_790_000_000_000_000_000
_ROUND_NS = 10_000_000_000_000
# What `serve` imports when it is called is imported before the fork.
IMPORTED = (uvloop, gateway.cli.running)


class HastyClock:
    """The wall's clock, `HASTE` times as fast; it goes on where an earlier process left it."""

    def now(self) -> int:
        """Return microseconds since the epoch, UTC."""
        passed_ns = time.time_ns() - _BEGAN_NS
        return (_BEGAN_NS + (passed_ns % _ROUND_NS) * HASTE) // 1000


class Doom:
    """Counts what happens since the file `armed` was there, and dies when its time has come."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._armed = ""

    def happens(self, what: str) -> None:
        """Count one more of `what`; does not return if it is the one."""
        try:
            armed = Path(ARMED).read_text(encoding="ascii")
        except OSError:
            armed = ""
        if armed != self._armed:
            self._armed, self._counts = armed, {}
        if not armed:
            return
        self._counts[what] = self._counts.get(what, 0) + 1
        if armed == f"{what} {self._counts[what]}":
            os.kill(os.getpid(), signal.SIGKILL)


class _Connection:
    """A connection at whose commits the process may die."""

    def __init__(self, connection: sqlite3.Connection, doom: Doom) -> None:
        self._connection = connection
        self._doom = doom

    def execute(self, statement: str, *values: Any) -> Any:
        if statement == "COMMIT":
            self._doom.happens("before")
            done = self._connection.execute(statement)
            self._doom.happens("after")
            return done
        return self._connection.execute(statement, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def _serve(folder: str) -> None:
    os.setsid()
    os.chdir(folder)
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    doom = Doom()
    commit, send = writer.commit, AzureUpstream.send

    def dying_commit(connection: Any, batch: Sequence[Ticket]) -> Sequence[Answer]:
        return commit(_Connection(connection, doom), batch)  # type: ignore[arg-type]

    async def dying_send(self: AzureUpstream, *names: Any, **how: Any) -> Reply:
        reply = await send(self, *names, **how)
        if how["method"] == "POST":
            doom.happens("wire")
        return reply

    writer.commit = dying_commit
    AzureUpstream.send = dying_send  # type: ignore[method-assign]
    setattr(gateway.app, "WallClock", HastyClock)  # noqa: B010 the name is not exported
    gateway.cli.main(["serve", "--config", "gateway.toml"])


def main() -> None:
    """Serve each folder that is read from standard input, until its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            sys.stdin.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _serve(line.strip())
        os.write(1, b"%d\n" % child)


if __name__ == "__main__":
    main()
