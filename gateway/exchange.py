"""One request on its way down the street, as it looks after each stage.

    Asked → Permit → Quote → Hold → Reply

Each is made from the one before it, and only there: a `Hold` needs a `Quote`, a `Quote` a
`Permit`, and nothing is sent without a `Hold`. Whoever skips a stage has nothing to give to the
next.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from gateway.core.billing import Deployment
from gateway.core.canonical import dump
from gateway.core.interpreter import SessionBound
from gateway.core.ledger import Intent, QuoteLine
from gateway.core.model import Caller, Micros, NanoUsd, Origin, Scope, Surface
from gateway.core.operations import Match, Operation
from gateway.core.versions import Route
from gateway.spool import SpoolFile

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that came in, judged and waiting in the spool, with the form's other fields."""

    fields: tuple[tuple[str, str], ...]
    filename: str
    media_type: str
    file_type: str
    file: SpoolFile


@dataclass(slots=True)
class Asked:
    """A request that was identified, matched, read and walked up to the version we send.

    `body` is the parsed document as it will be sent; nothing of the caller's own bytes is left.
    `surface` is the one it is sent to, below `root`, which need not be the one it came in on.
    `wire` is that document written, once nothing changes it any more. `unmetered` are the permitted
    features it uses that no meter here sees.
    """

    id: str
    at: Micros
    caller: Caller
    match: Match
    query: tuple[tuple[str, str], ...]
    headers: Headers
    route: Route
    upstream: str
    surface: Surface
    root: str
    body: dict[str, object] | None = None
    upload: Upload | None = None
    wire: bytes | None = None
    unmetered: set[str] = field(default_factory=set)

    def seal(self) -> None:
        """Write the body as it will be sent; from here on it is what was judged and priced."""
        self.wire = dump(self.body) if self.body is not None else None

    @property
    def operation(self) -> Operation:
        """The catalogue's row."""
        return self.match.operation

    @property
    def wants_stream(self) -> bool:
        """Whether the reply is to be an event stream."""
        return self.body is not None and self.body.get("stream") is True

    def origin(self, deployment: Deployment | None = None) -> Origin:
        """Return whose doing this request is."""
        return Origin(
            team=self.caller.team,
            key=self.caller.key,
            upstream=self.upstream,
            surface=self.surface,
            deployment=deployment.name if deployment else None,
            model=deployment.model if deployment else None,
            request=self.id,
        )

    def segment(self, name: str) -> str | None:
        """Return what a placeholder of the path stood for, or None if there is none."""
        return self.match.values.get(name)


@dataclass(frozen=True, slots=True)
class Permit:
    """Policy has nothing against the request.

    `scopes` are the threads and containers in which it could; one that Azure has yet to make goes
    by the request's id. `bounds` say what each of these may add; `memory` is the tier of a
    container that is asked for, None for the plain one.
    """

    asked: Asked
    deployment: Deployment | None = None
    tools_may_call: bool = False
    bounds: tuple[SessionBound, ...] = ()
    memory: str | None = None
    scopes: tuple[Scope, ...] = ()
    session_state: str = "none"
    hides_usage: bool = False

    @property
    def sessions(self) -> int:
        """How many sessions it could open at most."""
        return sum(bound.sessions for bound in self.bounds)


@dataclass(frozen=True, slots=True)
class Quote:
    """The most a permitted request can cost."""

    permit: Permit
    lines: tuple[QuoteLine, ...] = ()
    sessions: int = 0

    @property
    def nano_usd(self) -> NanoUsd:
        """The sum of all lines."""
        return sum(line.nano_usd for line in self.lines)


@dataclass(frozen=True, slots=True)
class Hold:
    """The promise was journalled and its claims taken; `intent` is None where nothing is billed."""

    quote: Quote
    intent: Intent | None

    @property
    def asked(self) -> Asked:
        """The request it holds for."""
        return self.quote.permit.asked


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Exactly what goes upstream."""

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes | AsyncIterator[bytes] | None
    content_length: int | None
