"""Who owns what, remembered for the hot path.

An object's owner never changes; it can only be deleted. So there is one thing to get right: a
reader that looked before a deletion must not write its answer down after it. Deletions count
`epoch` up, and what was read under an older epoch is not kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import Lock

from gateway.core.model import ObjectId

OWNERS_MAX = 100_000


class Owners:
    """A bounded map from living objects to teams, written by two threads and read by any."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._teams: dict[ObjectId, str] = {}
        self._epoch = 0

    @property
    def epoch(self) -> int:
        """How many deletions there were; to be noted before reading what is to be kept."""
        return self._epoch

    def known(self, objects: Iterable[ObjectId]) -> dict[ObjectId, str]:
        """Return the teams of those objects that are remembered."""
        teams = self._teams
        return {item: teams[item] for item in objects if item in teams}

    def keep(self, found: Mapping[ObjectId, str], *, epoch: int) -> None:
        """Remember what was read, unless something was deleted since `epoch`."""
        with self._lock:
            if epoch != self._epoch:
                return
            if len(self._teams) + len(found) > OWNERS_MAX:
                self._teams = {}
            self._teams.update(found)

    def forget(self, objects: Iterable[ObjectId]) -> None:
        """Forget deleted objects. To be called once their deletion is durable."""
        with self._lock:
            self._epoch += 1
            for item in objects:
                self._teams.pop(item, None)
