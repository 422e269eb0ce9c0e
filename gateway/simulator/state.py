"""The simulated resource: all that exists in it, and the timeline of what is still to happen.

Work that takes time is a row of events on a timeline. Nothing happens in the background: whenever
somebody observes the resource, the events that have become due are carried out in the order of
their instants, each dated by its own instant, and the invoice's sessions tick along.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from gateway.simulator.clock import MICROSECONDS, Clock
from gateway.simulator.errors import deployment_not_found, no_such_file
from gateway.simulator.exchange import EventLog, Json
from gateway.simulator.ids import Ids
from gateway.simulator.invoice import SESSION_TERMS, TOKEN_PRICES, Invoice, SessionTerms
from gateway.simulator.journal import Journal
from gateway.simulator.script import Plan
from gateway.simulator.usage import Usage
from gateway.simulator.versions import ApiVersions

_MODELS = (
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4.1",
    "gpt-4.1-mini",
    "text-embedding-3-small",
    "text-embedding-3-large",
    "text-embedding-ada-002",
)
_SNAPSHOTS = {
    "gpt-4o": "gpt-4o-2024-11-20",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
}


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    """What a simulated resource is like.

    `deployments` maps a name to its model; `run_s` is how long a polled run or a background
    response takes on the simulator's clock; with `wall_clock` false that clock stands at `start_s`
    until it is moved; `chunk_delay_s` is a pause on the wall's clock between streamed events;
    `session_terms` says by kind (`thread`, `container`) when a code-interpreter session ends.

    Raises:
        ValueError: a deployment's model has no price.
    """

    api_key: str = "azure-simulator-key"
    seed: int = 7
    deployments: Mapping[str, str] = field(default_factory=lambda: {name: name for name in _MODELS})
    wall_clock: bool = True
    start_s: int = 1_790_000_000
    run_s: float = 0.3
    api_versions: ApiVersions = field(default_factory=ApiVersions)
    chunk_delay_s: float = 0.0
    session_terms: Mapping[str, SessionTerms] = field(default_factory=lambda: dict(SESSION_TERMS))

    def __post_init__(self) -> None:
        unpriced = sorted(set(self.deployments.values()) - set(TOKEN_PRICES))
        if unpriced:
            known = ", ".join(f"`{model}`" for model in TOKEN_PRICES)
            raise ValueError(f"the invoice has no price for model `{unpriced[0]}`; it has {known}")


@dataclass(slots=True)
class StoredFile:
    """A file of the resource and its content; `expires_at_s` None keeps it for ever."""

    wire: Json
    content: bytes
    content_type: str
    expires_at_s: int | None


@dataclass(slots=True)
class Thread:
    """A thread, its messages and its runs, oldest first."""

    wire: Json
    messages: dict[str, Json] = field(default_factory=dict)
    runs: dict[str, "Run"] = field(default_factory=dict)


@dataclass(slots=True)
class Run:
    """A run: its object on the wire, its steps, and what it is still going to do.

    `life` grows whenever the run changes its course, which voids the events planned before.
    """

    wire: Json
    thread: Thread
    model: str
    surface: str
    plan: Plan
    duration_us: int
    shares: list[Usage]
    steps: list[Json] = field(default_factory=list)
    log: EventLog | None = None
    message: Json | None = None
    life: int = 0


@dataclass(slots=True)
class Container:
    """A container and its files; it expires `idle_s` after it was last used."""

    wire: Json
    idle_s: int
    last_active_s: int
    files: dict[str, Json] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class StoredResponse:
    """A response, the items it was asked with, and the container its calls showed, if any."""

    wire: Json
    input_items: list[Json]
    shown_container: str | None


class Simulator:
    """One Azure OpenAI resource, alive."""

    def __init__(self, config: SimulatorConfig) -> None:
        self.config = config
        self._waiting: list[asyncio.Future[None]] = []
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
        self._present_us = max(self._present_us, self.clock.now_us())
        while self._timeline and self._timeline[0][0] <= self._present_us:
            due_us, _, action = heapq.heappop(self._timeline)
            self.invoice.tick(due_us // MICROSECONDS)
            action(due_us)
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
        for news in waiting:
            if not news.done():
                news.get_loop().call_soon_threadsafe(_settle, news)

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


def snapshot_of(model: str) -> str:
    """Return the dated name under which answers show a model."""
    return _SNAPSHOTS.get(model, model)


def _has_expired(stored: StoredFile, now_s: int) -> bool:
    return stored.expires_at_s is not None and now_s >= stored.expires_at_s


def _settle(news: "asyncio.Future[None]") -> None:
    if not news.done():
        news.set_result(None)
