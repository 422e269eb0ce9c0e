"""Work that outlives the exchange that began it, held so that it is neither lost nor forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

Result = TypeVar("Result")


class Tasks:
    """A set of running tasks; a reference is kept until each is done."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[object]] = set()

    def start(self, work: Coroutine[object, object, Result]) -> asyncio.Task[Result]:
        """Start `work` and keep it; the returned task may be awaited or forgotten."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def join(self, timeout_s: float) -> int:
        """Wait for everything that runs; return how many were still running at the end."""
        if not self._running:
            return 0
        _, late = await asyncio.wait(set(self._running), timeout=timeout_s)
        return len(late)
