"""The ledger in one SQLite file, for one process.

Writes go through the one writer (`writer.py`) and are durable when their call returns. Reads go
through a second, read-only connection in a thread of its own, so that they never wait for an fsync;
since a write is answered after its COMMIT, whoever wrote reads what was written.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from gateway.core.ledger import Booking, Claim, Intent, OverCap, Posting
from gateway.core.model import Micros, ObjectId, ObjectKind, Scope
from gateway.core.sessions import Call
from gateway.ports import Clock, Decision, KeyRecord, LedgerRow, SessionRow, Store, StoreUnavailable
from gateway.stores import bookings, intents, reads, records
from gateway.stores.connections import StoreBusy, connect, connect_readonly, lock
from gateway.stores.owners import Owners
from gateway.stores.schema import migrate
from gateway.stores.worker import Answer, Ticket, Worker, attempt
from gateway.stores.writer import open_writer

__all__ = ["SqliteStore", "StoreBusy", "open_store"]

T = TypeVar("T")

_SCHEME = "sqlite:///"


class SqliteStore(Store):
    """The Store on one SQLite file. Open it with `open_store`."""

    def __init__(
        self, path: Path, *, writer: Worker, reader: Worker, lock_descriptor: int, clock: Clock
    ) -> None:
        self._path = path
        self._writer = writer
        self._reader = reader
        self._lock_descriptor: int | None = lock_descriptor
        self._clock = clock
        self._boot = secrets.token_hex(8)
        self._owners = Owners()

    def describe(self) -> Mapping[str, str]:
        """Return what the ledger is kept in, for the log and the console."""
        return {
            "engine": "sqlite",
            "sqlite_version": sqlite3.sqlite_version,
            "path": str(self._path),
            "boot": self._boot,
        }

    async def reserve(self, intent: Intent, claims: Sequence[Claim]) -> OverCap | None:
        """See `Store.reserve`. A caller who is cancelled while waiting leaves nothing held.

        Raises:
            ValueError: there is an intent of that id.
        """
        journalled: list[str] = []

        def job(connection: sqlite3.Connection) -> None:
            intents.reserve(connection, intent, claims, boot=self._boot)
            journalled.append(intent.id)

        def undo(connection: sqlite3.Connection) -> None:
            for request in journalled:
                intents.void(connection, request, at=now)

        try:
            await self._writer.submit(job)
        except intents.NotReserved as refused:
            return refused.over
        except asyncio.CancelledError:
            # Nobody has been told of the hold, so nothing was sent and nobody would ever close it.
            now = self._clock.now()
            self._writer.post(undo)
            raise
        return None

    async def defer(self, intent: Intent, booking: Booking) -> None:
        """See `Store.defer`."""
        now, deleted = self._clock.now(), booking.deleted

        def job(connection: sqlite3.Connection) -> None:
            intents.reserve(connection, intent, (), boot=self._boot)
            bookings.book(connection, booking, recorded_at=now)

        await self._writer.submit(job, committed=lambda: self._owners.forget(deleted))

    async def book(self, booking: Booking) -> Sequence[Posting]:
        """See `Store.book`. Giving up waiting does not undo a booking.

        Raises:
            KeyError: there are no terms for the kind of a scope.
            ValueError: there is no intent of that id.
        """
        now = self._clock.now()
        deleted = booking.deleted
        return await self._writer.submit(
            lambda connection: bookings.book(connection, booking, recorded_at=now),
            committed=(lambda: self._owners.forget(deleted)) if deleted else None,
        )

    async def decide(self, decision: Decision) -> None:
        """See `Store.decide`."""
        await self._writer.submit(lambda connection: records.decide(connection, decision))

    async def owners(self, objects: Iterable[ObjectId]) -> Mapping[ObjectId, str]:
        """See `Store.owners`. What was read once is remembered until it is deleted."""
        wanted = set(objects)
        known = self._owners.known(wanted)
        missing = wanted - known.keys()
        if not missing:
            return known
        epoch = self._owners.epoch
        found = await self._read(lambda connection: reads.owners(connection, missing))
        self._owners.keep(found, epoch=epoch)
        return known | found

    async def owned(
        self, *, upstream: str, kind: ObjectKind, team: str
    ) -> Sequence[tuple[str, Micros]]:
        """See `Store.owned`."""
        return await self._read(
            lambda connection: reads.owned(connection, upstream=upstream, kind=kind, team=team)
        )

    async def calls(self, scope: Scope) -> Sequence[Call]:
        """See `Store.calls`."""
        return await self._read(lambda connection: reads.calls(connection, scope))

    async def intent(self, request: str) -> Intent | None:
        """See `Store.intent`."""
        return await self._read(lambda connection: reads.intent(connection, request))

    async def intent_of_run(self, *, upstream: str, run: str) -> Intent | None:
        """See `Store.intent_of_run`."""
        return await self._read(
            lambda connection: reads.intent_of_run(connection, upstream=upstream, run=run)
        )

    async def intent_of_response(self, *, upstream: str, response: str) -> Intent | None:
        """See `Store.intent_of_response`."""
        return await self._read(
            lambda connection: reads.intent_of_response(
                connection, upstream=upstream, response=response
            )
        )

    async def containers_of(self, *, upstream: str, response: str) -> Sequence[str]:
        """See `Store.containers_of`."""
        return await self._read(
            lambda connection: reads.containers_of(connection, upstream=upstream, response=response)
        )

    async def containers_in(self, *, upstream: str, conversation: str, limit: int) -> Sequence[str]:
        """See `Store.containers_in`."""
        return await self._read(
            lambda connection: reads.containers_in(
                connection, upstream=upstream, conversation=conversation, limit=limit
            )
        )

    async def due(self, *, at: Micros, limit: int) -> Sequence[Intent]:
        """See `Store.due`."""
        return await self._read(lambda connection: reads.due(connection, at=at, limit=limit))

    async def orphans(self) -> Sequence[Intent]:
        """See `Store.orphans`."""
        return await self._read(lambda connection: reads.orphans(connection, boot=self._boot))

    async def unsettled_on(
        self, *, upstream: str, thread: str | None = None, response: str | None = None
    ) -> Sequence[Intent]:
        """See `Store.unsettled_on`."""
        return await self._read(
            lambda connection: reads.unsettled_on(
                connection, upstream=upstream, thread=thread, response=response
            )
        )

    async def unsettled(self) -> tuple[int, Micros | None]:
        """See `Store.unsettled`."""
        return await self._read(reads.unsettled)

    async def add_key(self, record: KeyRecord) -> None:
        """See `Store.add_key`.

        Raises:
            ValueError: there is a key of that public part.
        """
        await self._writer.submit(lambda connection: records.add_key(connection, record))

    async def revoke_key(self, public: str, at: Micros) -> bool:
        """See `Store.revoke_key`."""
        return await self._writer.submit(
            lambda connection: records.revoke_key(connection, public, at)
        )

    async def keys(self) -> Sequence[KeyRecord]:
        """See `Store.keys`."""
        return await self._read(reads.keys)

    async def balances(self, account: str, at: Micros) -> Mapping[tuple[str, str], tuple[int, int]]:
        """See `Store.balances`. Every unit and period is there; untouched is ``(0, 0)``."""
        return await self._read(lambda connection: reads.balances(connection, account, at))

    async def ledger(self, *, after: int = 0) -> AsyncIterator[LedgerRow]:
        """See `Store.ledger`. Read page by page; what is posted meanwhile is yielded too."""
        while page := await self._ledger_page(after):
            for row in page:
                yield row
            after = page[-1].number

    async def postings_of_request(self, request: str) -> Sequence[LedgerRow]:
        """See `Store.postings_of_request`."""
        return await self._read(lambda connection: reads.postings_of_request(connection, request))

    async def sessions(self, *, team: str | None = None) -> Sequence[SessionRow]:
        """See `Store.sessions`."""
        return await self._read(lambda connection: reads.sessions(connection, team=team))

    async def open_sessions(self, at: Micros) -> Mapping[str, int]:
        """See `Store.open_sessions`."""
        return await self._read(lambda connection: reads.open_sessions(connection, at))

    async def probe(self) -> None:
        """See `Store.probe`. The file's header has a number for us to write, which nobody reads."""
        await self._writer.submit(lambda connection: connection.execute("PRAGMA user_version = 1"))

    async def close(self) -> None:
        """See `Store.close`. The reader goes first, so that the last one out may checkpoint."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._reader.close()
        self._writer.close()
        descriptor, self._lock_descriptor = self._lock_descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    async def _ledger_page(self, after: int) -> Sequence[LedgerRow]:
        return await self._read(lambda connection: reads.ledger_page(connection, after=after))

    async def _read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        return await self._reader.submit(question)


async def open_store(url: str, *, clock: Clock) -> Store:
    """Return the store at `url`: what follows ``sqlite:///`` is the path of its file.

    So ``sqlite:///ledger.db`` lies in the working directory, ``sqlite:////var/lib/ledger.db`` does
    not. The directory must be there; the file is made when it is not.

    Raises:
        StoreBusy: another process serves it.
        StoreUnavailable: it cannot be opened, or a newer release has written it.
        ValueError: the URL is no store of ours.
    """
    path = _path_of(url)
    return await asyncio.to_thread(_open, path, clock)


def _path_of(url: str) -> Path:
    if url.startswith(("postgresql://", "postgres://")):
        raise ValueError("a `postgresql://` store is not there yet; use `sqlite:///PATH`")
    path = url.removeprefix(_SCHEME)
    if path == url or not path or path == ":memory:" or "?" in path:
        raise ValueError("a store is `sqlite:///PATH`, a file and nothing behind it")
    return Path(path)


def _open(path: Path, clock: Clock) -> SqliteStore:
    descriptor = lock(path)
    try:
        writer = _open_writer(path)
        try:
            reader = _open_reader(path)
        except StoreUnavailable:
            writer.close()
            raise
    except StoreUnavailable:
        os.close(descriptor)
        raise
    return SqliteStore(path, writer=writer, reader=reader, lock_descriptor=descriptor, clock=clock)


def _open_writer(path: Path) -> Worker:
    connection = connect(path)
    try:
        migrate(connection)
        return open_writer(connection)
    except sqlite3.Error as error:
        connection.close()
        raise StoreUnavailable(f"cannot use the ledger `{path}`: {error}") from error
    except StoreUnavailable:
        connection.close()
        raise


def _open_reader(path: Path) -> Worker:
    connection = connect_readonly(path)

    def work(batch: Sequence[Ticket]) -> Sequence[Answer]:
        return [attempt(ticket, connection) for ticket in batch]

    return Worker("ledger-reader", work=work, finish=connection.close)
