"""A thread that owns one connection and works off a queue of jobs.

A job is a function of the connection. The thread takes what has piled up, hands it to `work` as one
batch, and gives every caller its answer: one wake-up per batch and event loop, not one per job.

Whatever a job raises belongs to the caller who asked; the thread outlives it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from types import TracebackType
from typing import Any, TypeVar

from gateway.ports import StoreUnavailable

T = TypeVar("T")

BATCH_MAX = 256
QUEUE_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Ticket:
    """A job, who waits for it, and what else to do as soon as its batch is committed."""

    job: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any] | None = None
    committed: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a ticket: a value, or an error if there is one."""

    ticket: Ticket
    value: object = None
    error: Exception | None = None


class Worker:
    """One thread, one queue. `work` answers a batch; `finish` runs last, in the thread."""

    def __init__(
        self,
        name: str,
        *,
        work: Callable[[Sequence[Ticket]], Sequence[Answer]],
        finish: Callable[[], None],
    ) -> None:
        self._work = work
        self._finish = finish
        self._queue: SimpleQueue[Ticket | None] = SimpleQueue()
        self._closing = Lock()
        self._is_closed = False
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(
        self,
        job: Callable[[sqlite3.Connection], T],
        *,
        committed: Callable[[], None] | None = None,
    ) -> asyncio.Future[T]:
        """Queue a job and return the future of its answer. Giving up waiting does not undo it.

        Raises:
            StoreUnavailable: closed, or more than `QUEUE_MAX` jobs are waiting.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._put(Ticket(job, future, committed))
        return future

    def post(self, job: Callable[[sqlite3.Connection], object]) -> None:
        """Queue a job nobody waits for; a closed worker drops it."""
        with suppress(StoreUnavailable):
            self._put(Ticket(job))

    def close(self) -> None:
        """Finish what is queued and end the thread. Blocks; closing twice is nothing."""
        with self._closing:
            if not self._is_closed:
                self._is_closed = True
                self._queue.put(None)
        self._thread.join()

    def _put(self, ticket: Ticket) -> None:
        with self._closing:
            if self._is_closed:
                raise StoreUnavailable("the store is closed")
            if self._queue.qsize() >= QUEUE_MAX:
                raise StoreUnavailable(f"more than `{QUEUE_MAX}` jobs wait for the store")
            self._queue.put(ticket)

    def _run(self) -> None:
        batch: list[Ticket] = []
        try:
            while batch := self._drain():
                _deliver(self._work(batch))
        finally:
            with self._closing:
                self._is_closed = True
            self._give_up(batch)
            self._finish()

    def _give_up(self, batch: list[Ticket]) -> None:
        """Tell those who still wait that nobody works any more, lest they wait for ever."""
        left = list(batch)
        with suppress(Empty):
            while True:
                ticket = self._queue.get_nowait()
                left += [ticket] if ticket is not None else []
        gone = StoreUnavailable("the thread of the store has ended; start the gateway again")
        _deliver([Answer(ticket, error=gone) for ticket in left])

    def _drain(self) -> list[Ticket]:
        """Wait for one ticket, take what else is there; empty once the worker is to end."""
        first = self._queue.get()
        if first is None:
            return []
        batch = [first]
        with suppress(Empty):
            while len(batch) < BATCH_MAX:
                ticket = self._queue.get_nowait()
                if ticket is None:
                    # Nothing is queued behind the end: leave it for the next turn.
                    self._queue.put(None)
                    break
                batch.append(ticket)
        return batch


class _Caught:
    """Keeps what a job raised, for its caller."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __enter__(self) -> _Caught:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        if isinstance(error, Exception):
            self.error = error
            return True
        return False


def attempt(ticket: Ticket, connection: sqlite3.Connection) -> Answer:
    """Run one job and return its value or its error; a disk that fails is StoreUnavailable."""
    caught = _Caught()
    value: object = None
    with caught:
        value = ticket.job(connection)
    error = caught.error
    if isinstance(error, sqlite3.Error) and is_outage(error):
        unavailable = StoreUnavailable(f"the ledger cannot be used: {error}")
        unavailable.__cause__ = error
        error = unavailable
    return Answer(ticket, value, error)


def is_outage(error: sqlite3.Error) -> bool:
    """Whether an error is the disk's (locked, full, read-only, corrupt) and not the statement's."""
    statement = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError)
    return not isinstance(error, statement)


def _deliver(answers: Sequence[Answer]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[Answer]] = {}
    for answer in answers:
        if answer.ticket.future is not None:
            by_loop.setdefault(answer.ticket.future.get_loop(), []).append(answer)
    for loop, group in by_loop.items():
        # A loop that is closed has nobody left who waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, group)


def _resolve(answers: Sequence[Answer]) -> None:
    for answer in answers:
        future = answer.ticket.future
        if future is None or future.done():
            continue
        if answer.error is not None:
            future.set_exception(answer.error)
        else:
            future.set_result(answer.value)
