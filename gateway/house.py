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
from gateway.core.catalogue import CATALOGUE
from gateway.core.operations import Catalogue
from gateway.policies import Policies
from gateway.ports import Clock, Store
from gateway.spool import Spool
from gateway.tasks import Tasks
from gateway.telemetry import Telemetry
from gateway.upstream import AzureUpstream


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides: policies, prices, and where deployments are.

    `stateful` names the upstream that holds files, threads, responses and containers.
    """

    policies: Policies
    rates: Rates
    deployments: Mapping[str, Deployment]
    stateful: str

    def deployment(self, name: str) -> Deployment:
        """Return a deployment; one that is not listed is taken for the model it is named after."""
        known = self.deployments.get(name)
        return known or Deployment(name, name, "global-standard", self.stateful)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much and how long: bytes of a body, seconds of waiting."""

    request_bytes_max: int = 16 * 1024 * 1024
    settle_timeout_s: float = 10
    stall_s: float = 60


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
