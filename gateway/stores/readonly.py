"""The ledger as reports see it: beside a running server, never in its way.

Everything here is synchronous; it is meant for the command line, not for the event loop.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeVar

from gateway.core.model import Micros, NanoUsd
from gateway.ports import KeyRecord, LedgerRow, SessionRow, StoreUnavailable
from gateway.stores import reads
from gateway.stores.connections import connect_readonly

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SpendRow:
    """What one group spent on one meter.

    `estimated_nano_usd` is the part of `nano_usd` that stands on facts which are still estimates.
    """

    group: str
    meter: str
    quantity: int
    nano_usd: NanoUsd
    estimated_nano_usd: NanoUsd


_SPEND = """
WITH standing AS (SELECT fact, confidence, max(revision) FROM postings GROUP BY fact)
SELECT
    CASE :by
        WHEN 'team' THEN line.team
        WHEN 'day' THEN date(line.at / 1000000, 'unixepoch')
        ELSE line.meter
    END AS name,
    line.meter AS meter,
    sum(line.quantity) AS quantity,
    sum(line.nano_usd) AS nano_usd,
    sum(iif(standing.confidence = 'estimated', line.nano_usd, 0)) AS estimated_nano_usd
FROM postings AS line JOIN standing USING (fact)
WHERE line.at >= :since AND line.at < :until
GROUP BY 1, 2 ORDER BY 1, 2
"""


class ReadOnlyStore:
    """Reads a ledger without ever writing, locking out or checkpointing."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> ReadOnlyStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a closed reader raises StoreUnavailable."""
        self._connection.close()

    def keys(self) -> Sequence[KeyRecord]:
        """Return all keys, oldest first."""
        return self._read(reads.keys)

    def sessions(self, *, team: str | None = None) -> Sequence[SessionRow]:
        """Return the code-interpreter sessions as they stand, newest first."""
        return self._read(lambda connection: reads.sessions(connection, team=team))

    def balances(self, account: str, at: Micros) -> Mapping[tuple[str, str], tuple[int, int]]:
        """Return ``(unit, period) -> (posted, reserved)`` in the windows that hold `at`."""
        return self._read(lambda connection: reads.balances(connection, account, at))

    def unsettled(self) -> tuple[int, Micros | None]:
        """Return how many intents are not closed, and the time of the oldest."""
        return self._read(reads.unsettled)

    def ledger(self, *, after: int = 0) -> Iterator[LedgerRow]:
        """Yield every posting in order, from number `after` + 1 on."""
        while page := self._read_page(after):
            yield from page
            after = page[-1].number

    def spend(
        self, by: Literal["team", "day", "meter"], *, since: Micros, until: Micros
    ) -> Sequence[SpendRow]:
        """Return sums over postings dated in ``[since, until)``, by group and meter.

        Days are UTC, as ``YYYY-MM-DD``.
        """
        values = {"by": by, "since": since, "until": until}
        found = self._read(lambda connection: connection.execute(_SPEND, values).fetchall())
        return [SpendRow(*row) for row in found]

    def _read_page(self, after: int) -> Sequence[LedgerRow]:
        return self._read(lambda connection: reads.ledger_page(connection, after=after))

    def _read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return question(self._connection)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"cannot read the ledger: {error}") from error


def open_reader(path: Path) -> ReadOnlyStore:
    """Return a reader of the ledger at `path`; a server may be running.

    Raises:
        StoreUnavailable: there is no such file, or it is no ledger.
    """
    return ReadOnlyStore(connect_readonly(path))
