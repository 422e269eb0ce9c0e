"""The simulated resource: all that exists in it, and the timeline of what is still to happen.

Work that takes time is a row of events on a timeline. Nothing happens in the background: whenever
somebody observes the resource, the events that have become due are carried out in the order of
their instants, each dated by its own instant, and the invoice's sessions tick along.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from contextlib import suppress

from gateway.simulator.clock import MICROSECONDS, Clock
from gateway.simulator.config import SimulatorConfig
from gateway.simulator.errors import deployment_not_found, no_such_file
from gateway.simulator.exchange import Json
from gateway.simulator.ids import Ids
from gateway.simulator.invoice import Invoice
from gateway.simulator.journal import Journal
from gateway.simulator.mishaps import Ambushes
from gateway.simulator.objects import (
    Batch,
    Container,
    Conversation,
    StoredFile,
    StoredResponse,
    Thread,
    Upload,
    VectorStore,
)
from gateway.simulator.quota import Quota


class Simulator:
    """One Azure OpenAI resource, alive."""

    def __init__(self, config: SimulatorConfig) -> None:
        self.config = config
        self._waiting: list[asyncio.Future[None]] = []
        self._stalled: list[asyncio.Future[None]] = []
        self.reset()

    def reset(self) -> None:
        """Begin a new life: no objects, an empty invoice and journal, the clock at its start."""
        self.clock = Clock(wall=self.config.wall_clock, start_s=self.config.start_s)
        self.ids = Ids(self.config.seed)
        self.invoice = Invoice(self.config.session_terms)
        self.journal = Journal()
        self.files: dict[str, StoredFile] = {}
        self.assistants: dict[str, Json] = {}
        self.threads: dict[str, Thread] = {}
        self.containers: dict[str, Container] = {}
        self.responses: dict[str, StoredResponse] = {}
        self.vector_stores: dict[str, VectorStore] = {}
        self.uploads: dict[str, Upload] = {}
        self.conversations: dict[str, Conversation] = {}
        self.batches: dict[str, Batch] = {}
        self.ambushes = Ambushes()
        self.quota = Quota()
        self._timeline: list[tuple[int, int, Callable[[int], None]]] = []
        self._planned = itertools.count()
        self._present_us = self.clock.now_us()

    def at(self, due_us: int, action: Callable[[int], None]) -> None:
        """Plan `action` for the instant `due_us`; it is called with that instant."""
        heapq.heappush(self._timeline, (due_us, next(self._planned), action))

    def observe(self) -> int:
        """Look at the clock, carry out everything that has become due, return the instant.

        The present stays at that instant until the next look, so that one request has one date.
        """
        now_us = max(self._present_us, self.clock.now_us())
        while self._timeline and self._timeline[0][0] <= now_us:
            due_us, _, action = heapq.heappop(self._timeline)
            self._present_us = max(self._present_us, due_us)
            self.invoice.tick(due_us // MICROSECONDS)
            action(due_us)
        self._present_us = now_us
        self.invoice.tick(self._present_us // MICROSECONDS)
        return self._present_us

    async def wait_for_news(self) -> None:
        """Return when the next planned event may be due or another request was served."""
        news = asyncio.get_running_loop().create_future()
        self._waiting.append(news)
        timeout_s = None
        if self.clock.wall and self._timeline:
            wait_us = max(0, self._timeline[0][0] - self.clock.now_us())
            timeout_s = wait_us / MICROSECONDS
        with suppress(TimeoutError):
            await asyncio.wait_for(news, timeout_s)
        with suppress(ValueError):
            self._waiting.remove(news)

    def announce_news(self) -> None:
        """Wake every stream that waits for events."""
        waiting, self._waiting = self._waiting, []
        _wake(waiting)

    async def wait_for_release(self) -> None:
        """Return when the replies that stall are released."""
        released = asyncio.get_running_loop().create_future()
        self._stalled.append(released)
        await released

    def release(self) -> int:
        """Let every reply that stalls go on, and return how many there were."""
        stalled, self._stalled = self._stalled, []
        _wake(stalled)
        return len(stalled)

    @property
    def present_us(self) -> int:
        """The instant last observed, in microseconds."""
        return self._present_us

    def now_s(self) -> int:
        """Return the instant last observed, in whole seconds."""
        return self._present_us // MICROSECONDS

    def model_of(self, deployment: object) -> str:
        """Return the model behind a deployment.

        Raises:
            Fault: 404, there is no such deployment.
        """
        model = self.config.deployments.get(deployment) if isinstance(deployment, str) else None
        if model is None:
            raise deployment_not_found()
        return model

    def file(self, file_id: object) -> StoredFile:
        """Return a file that exists and has not expired.

        Raises:
            Fault: 404.
        """
        stored = self.files.get(file_id) if isinstance(file_id, str) else None
        if stored is None or _has_expired(stored, self.now_s()):
            raise no_such_file(str(file_id))
        return stored

    def live_files(self) -> list[StoredFile]:
        """Return all files that have not expired, oldest first."""
        now_s = self.now_s()
        return [stored for stored in self.files.values() if not _has_expired(stored, now_s)]

    def store_file(
        self,
        content: bytes,
        *,
        filename: str,
        purpose: str,
        content_type: str,
        surface: str,
        at_s: int,
        expires_in_s: int | None = None,
    ) -> StoredFile:
        """Keep a file and return it; dated surfaces name it `assistant-...`, v1 `file-...`."""
        file_id = self.ids.mixed("file-" if surface == "v1" else "assistant-")
        expires_at_s = None if expires_in_s is None else at_s + expires_in_s
        wire: Json = {
            "object": "file",
            "id": file_id,
            "purpose": purpose,
            "filename": filename or f"{file_id}.png",
            "bytes": len(content),
            "created_at": at_s,
            "status": "processed",
            "status_details": None,
        }
        if surface == "v1" or expires_at_s is not None:
            wire["expires_at"] = expires_at_s
        stored = StoredFile(wire, content, content_type, expires_at_s)
        self.files[file_id] = stored
        return stored


def _has_expired(stored: StoredFile, now_s: int) -> bool:
    return stored.expires_at_s is not None and now_s >= stored.expires_at_s


def _wake(waiting: "list[asyncio.Future[None]]") -> None:
    for news in waiting:
        if not news.done():
            news.get_loop().call_soon_threadsafe(_settle, news)


def _settle(news: "asyncio.Future[None]") -> None:
    if not news.done():
        news.set_result(None)
