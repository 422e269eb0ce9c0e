"""What exists in a resource: files, threads, runs, containers, responses, as they are kept."""

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.simulator.exchange import EventLog, Json
from gateway.simulator.script import Plan
from gateway.simulator.usage import Usage


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
    """A response, the items it was asked with, and the container its calls showed, if any.

    `replay` returns its events, which a later reader may ask for again.
    """

    wire: Json
    input_items: list[Json]
    shown_container: str | None
    replay: Callable[[], EventLog]


@dataclass(slots=True)
class FileBatch:
    """Files that were added to a vector store together, by their ids."""

    wire: Json
    file_ids: list[str]


@dataclass(slots=True)
class VectorStore:
    """A vector store: its object without the counts, its files' objects and its batches."""

    wire: Json
    files: dict[str, Json] = field(default_factory=dict)
    batches: dict[str, FileBatch] = field(default_factory=dict)


@dataclass(slots=True)
class Upload:
    """A file that comes in parts; `parts` by their ids, in the order in which they came."""

    wire: Json
    mime_type: str
    surface: str
    parts: dict[str, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Conversation:
    """A conversation and its items, oldest first."""

    wire: Json
    items: dict[str, Json] = field(default_factory=dict)


@dataclass(slots=True)
class Batch:
    """A batch, and the surface it was created on, which names its files."""

    wire: Json
    surface: str
