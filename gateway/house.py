"""Everything the street is built from, in one place.

`rules` and `ring` are replaced as a whole when the policy is reloaded or a key changes; a request
that is on its way keeps what it began with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.booking import Bookkeeper
from gateway.core.billing import Deployment, Rates
from gateway.core.callers import KeyRing
from gateway.core.catalogue import CATALOGUE, is_carried
from gateway.core.errors import Code, Refusal
from gateway.core.model import Origin, Surface
from gateway.core.operations import ROOTS, Catalogue, Match
from gateway.policies import Policies
from gateway.ports import Clock, Store
from gateway.spool import Spool
from gateway.tasks import Tasks
from gateway.telemetry import Telemetry
from gateway.upstream import AzureUpstream


@dataclass(frozen=True, slots=True)
class Way:
    """Where a request goes: to which upstream, on which of its surfaces, below which path."""

    upstream: str
    surface: Surface
    root: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides: policies, prices, and where deployments are.

    `stateful` names the upstream that holds files, threads, responses and containers; `projects`
    the one that holds those of each Foundry project. `dated_project` is the project to which dated
    calls of assistants, threads and files are carried, None where Azure still answers them itself.
    """

    policies: Policies
    rates: Rates
    deployments: Mapping[str, Deployment]
    stateful: str
    projects: Mapping[str, str] = field(default_factory=dict)
    dated_project: str | None = None

    def deployment(self, name: str) -> Deployment:
        """Return a deployment; one that is not listed is taken for the model it is named after."""
        known = self.deployments.get(name)
        return known or Deployment(name, name, "global-standard", self.stateful)

    def way_of(self, match: Match) -> Way:
        """Return where a request goes.

        Raises:
            Refusal: 404, no upstream here stands for the project in the path, or the project to
                which dated calls are carried has no such operation.
        """
        operation, project = match.operation, match.values.get("project")
        if project is None and self.dated_project is not None and is_carried(operation):
            project = self.dated_project
        if project is None:
            return Way(self.stateful, operation.surface, ROOTS[operation.surface])
        upstream = self.projects.get(project)
        if upstream is None:
            raise Refusal(
                Code.UNKNOWN_OPERATION,
                f"no upstream of this gateway is the project `{project}`; its operators name the "
                "projects in `gateway.toml`",
                param="project",
                rule="project-not-served",
            )
        return Way(upstream, Surface.FOUNDRY, _root_of_project(project))

    def root_of(self, origin: Origin) -> str:
        """Return the path below which Azure keeps what a piece of work made.

        Raises:
            LookupError: it was made in a project that is not configured any more.
        """
        if origin.surface is not Surface.FOUNDRY:
            return ROOTS[origin.surface]
        for project, upstream in self.projects.items():
            if upstream == origin.upstream:
                return _root_of_project(project)
        raise LookupError(f"upstream `{origin.upstream}` is no project any more")


def _root_of_project(project: str) -> str:
    return ROOTS[Surface.FOUNDRY].replace("{project}", project)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much and how long: bytes of a body, seconds of waiting.

    A caller who takes none of his bytes for `stall_s` is given up. After one who left, a reply that
    tells what was billed is read for `leaver_s` and `leaver_bytes_max` more: as long as Azure may
    be silent, and as much as the meter reads of one document.
    """

    request_bytes_max: int = 16 * 1024 * 1024
    settle_timeout_s: float = 10
    stall_s: float = 60
    leaver_s: float = 600
    leaver_bytes_max: int = 32 * 1024 * 1024


@dataclass(slots=True)
class House:
    """The assembled parts. `ring` and `rules` may be replaced while it runs."""

    store: Store
    upstream: AzureUpstream
    clock: Clock
    spool: Spool
    telemetry: Telemetry
    bookkeeper: Bookkeeper
    rules: Rules
    ring: KeyRing
    limits: Limits = field(default_factory=Limits)
    catalogue: Catalogue = field(default_factory=lambda: Catalogue(CATALOGUE))
    tasks: Tasks = field(default_factory=Tasks)
