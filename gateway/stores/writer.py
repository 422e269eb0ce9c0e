"""Group commit: what is waiting is written in one transaction, and answered once it is durable.

Each job runs in a savepoint of its own, so that one that fails takes back what it wrote and nothing
else. No answer leaves before COMMIT has returned, which with ``synchronous=FULL`` is after the
fsync. If the transaction itself is lost, every job of the batch is told so.

This thread's connection is the only one that writes, and the only one that checkpoints.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress

from gateway.ports import StoreUnavailable
from gateway.stores.worker import Answer, Ticket, Worker, attempt

CHECKPOINT_PAGES = 2_000
WAL_BYTES_KEPT_MAX = 64 * 1024 * 1024


def open_writer(connection: sqlite3.Connection) -> Worker:
    """Return the worker that alone writes through `connection` and closes it at the end.

    Raises:
        StoreUnavailable: the file system cannot carry a write-ahead log.
    """
    (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":
        raise StoreUnavailable(
            f"the ledger's journal mode is `{mode}`, not `wal`; keep it on a local disk"
        )
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=OFF")
    connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES:d}")
    connection.execute(f"PRAGMA journal_size_limit={WAL_BYTES_KEPT_MAX:d}")

    def work(batch: Sequence[Ticket]) -> Sequence[Answer]:
        return commit(connection, batch)

    def finish() -> None:
        with suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()

    return Worker("ledger-writer", work=work, finish=finish)


def commit(connection: sqlite3.Connection, batch: Sequence[Ticket]) -> Sequence[Answer]:
    """Run a batch in one transaction and return its answers once they are durable."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        answers = [_in_savepoint(connection, ticket) for ticket in batch]
        connection.execute("COMMIT")
    except (sqlite3.Error, StoreUnavailable) as error:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        message = f"the ledger did not commit: {error}"
        return [Answer(ticket, error=StoreUnavailable(message)) for ticket in batch]
    for answer in answers:
        if answer.error is None and answer.ticket.committed is not None:
            answer.ticket.committed()
    return answers


def _in_savepoint(connection: sqlite3.Connection, ticket: Ticket) -> Answer:
    connection.execute("SAVEPOINT job")
    answer = attempt(ticket, connection)
    if answer.error is not None:
        if not connection.in_transaction:
            # A full or failing disk makes SQLite roll back everything, not this job alone.
            raise StoreUnavailable(str(answer.error))
        connection.execute("ROLLBACK TO job")
    connection.execute("RELEASE job")
    return answer
