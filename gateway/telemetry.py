"""What Prometheus is told. It decides nothing, and nothing waits for it.

Every label comes from a closed set: the catalogue's operations, the teams of the configuration, the
codes of `core.errors`, the meters, the known api-versions. An id, a file name, a model somebody
typed or a message is never a label; what is not known is called ``other``.

Prometheus cannot see the first step of a counter that was not there before: ``increase()`` of a
series that appears with the value 1 is 0. For requests that does not matter, for a session that
costs money it does. So the money of every team that is named at the start stands at zero before
anything is posted.

These numbers are floats and begin again at zero with every start of the process. They are for
looking at; what is owed is in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

from gateway.core.model import Confidence, Meter, ScopeKind

OTHER = "other"
FAULTS = ("not_sent", "maybe_sent", "reply_broken")
"""Every kind of failure on the way to Azure, as `upstream_fault` is told it."""

DOOR_REFUSALS = (
    "gateway_unavailable",
    "headers_too_large",
    "malformed_request",
    "method_not_allowed",
    "request_timeout",
    "target_too_long",
    "websocket",
)
"""Every reason for which the door itself refuses, as `door_refused` is told it."""

_LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Telemetry:
    """The gateway's metrics on a registry of their own.

    `versions` and `deployments` are the names that may become labels. The counters of money of
    `teams` and of faults of `upstreams` stand at zero from the start.
    """

    def __init__(
        self,
        *,
        versions: Iterable[str] = (),
        deployments: Iterable[str] = (),
        teams: Iterable[str] = (),
        upstreams: Iterable[str] = (),
        registry: CollectorRegistry | None = None,
    ) -> None:
        # Else each series comes with a second one that says when it began, which nobody asks.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry if registry is not None else CollectorRegistry()
        self._versions = frozenset(versions)
        self._deployments = frozenset(deployments)
        self._seen_teams = set(teams)
        self._declare(self.registry)
        for team in self._seen_teams:
            self._start_at_zero(team)
        for upstream, kind in product(upstreams, FAULTS):
            self._faults.labels(upstream, kind)
        for reason in DOOR_REFUSALS:
            self._door_refusals.labels(reason)

    def show_open_sessions(self, by_team: Mapping[str, int]) -> None:
        """Set how many sessions are open now; a team that is not named has none."""
        for team in self._seen_teams - by_team.keys():
            self.open_sessions.labels(team).set(0)
        for team, number in by_team.items():
            self.open_sessions.labels(team).set(number)
        self._seen_teams |= by_team.keys()

    def _start_at_zero(self, team: str) -> None:
        for scope in ScopeKind:
            self._opened.labels(team, scope)
            self._reversed.labels(team, scope)
        for meter, confidence in product(Meter, Confidence):
            self._spend.labels(team, meter, confidence)
        for meter in Meter:
            self._credited.labels(team, meter)

    def _declare(self, registry: CollectorRegistry) -> None:
        def counter(name: str, says: str, *labels: str) -> Counter:
            return Counter(name, says, labels, registry=registry)

        self._requests = counter(
            "aoaigw_requests_total",
            "Requests answered, by operation and class of status.",
            "team",
            "operation",
            "status",
        )
        self._duration = Histogram(
            "aoaigw_request_duration_seconds",
            "From the request's head to the reply's last byte.",
            ("operation",),
            buckets=_LATENCY_S,
            registry=registry,
        )
        self._refusals = counter(
            "aoaigw_refusals_total",
            "Requests the gateway itself refused, by code and rule.",
            "team",
            "code",
            "rule",
        )
        self._door_refusals = counter(
            "aoaigw_door_refusals_total",
            "What the door refused before it could become a request, by reason.",
            "reason",
        )
        self._tokens = counter(
            "aoaigw_tokens_total",
            "Tokens posted to the ledger, by meter; corrections downwards are counted apart.",
            "team",
            "deployment",
            "meter",
        )
        self._tokens_credited = counter(
            "aoaigw_tokens_credited_total",
            "Tokens taken back by corrections downwards.",
            "team",
            "deployment",
            "meter",
        )
        self._unmetered = counter(
            "aoaigw_unmetered_requests_total",
            "Requests that used a permitted feature whose cost is not metered here.",
            "team",
            "feature",
        )
        self._opened = counter(
            "aoaigw_sessions_opened_total",
            "Code-interpreter sessions posted to the ledger.",
            "team",
            "scope",
        )
        self._reversed = counter(
            "aoaigw_sessions_reversed_total",
            "Code-interpreter sessions taken back because of late news.",
            "team",
            "scope",
        )
        self._spend = counter(
            "aoaigw_spend_nano_usd_total",
            "Money posted to the ledger, in 10^-9 USD; corrections downwards are counted apart.",
            "team",
            "meter",
            "confidence",
        )
        self._credited = counter(
            "aoaigw_spend_credited_nano_usd_total",
            "Corrections downwards, in 10^-9 USD.",
            "team",
            "meter",
        )
        self._versions_seen = counter(
            "aoaigw_api_versions_total",
            "Requests by the api-version the client named and what was sent.",
            "team",
            "asked",
            "sent",
        )
        self._uploads = counter(
            "aoaigw_uploads_total",
            "Uploads judged, by verdict, rule and file type.",
            "team",
            "verdict",
            "rule",
            "type",
        )
        self._faults = counter(
            "aoaigw_upstream_faults_total", "Failures on the way to Azure.", "upstream", "kind"
        )
        self._settled = counter(
            "aoaigw_settlements_total",
            "Intents closed, by who closed them and how.",
            "by",
            "state",
        )
        self._lost_creations = counter(
            "aoaigw_creations_lost_total",
            "Objects that may be at Azure although no answer named them; they have no owner.",
            "team",
            "operation",
        )
        self.unsettled = Gauge(
            "aoaigw_unsettled_intents", "Intents that are not closed.", registry=registry
        )
        self.unsettled_age = Gauge(
            "aoaigw_unsettled_age_seconds",
            "Age of the oldest intent that is not closed.",
            registry=registry,
        )
        self.open_sessions = Gauge(
            "aoaigw_sessions_open",
            "Code-interpreter sessions that are open now.",
            ("team",),
            registry=registry,
        )
        self.in_flight = Gauge(
            "aoaigw_requests_in_flight", "Requests on the street now.", registry=registry
        )
        self.connections_open = Gauge(
            "aoaigw_connections_open",
            "Connections of callers that are open now, idle ones too.",
            registry=registry,
        )

    def answered(self, *, team: str, operation: str, status: int, seconds: float) -> None:
        """A request was answered to its last byte."""
        self._requests.labels(team, operation, f"{status // 100}xx").inc()
        self._duration.labels(operation).observe(seconds)

    def refused(self, *, team: str, code: str, rule: str) -> None:
        """The gateway itself refused a request."""
        self._refusals.labels(team, code, rule).inc()

    def unmetered(self, *, team: str, feature: str) -> None:
        """A request used a permitted feature whose cost stands on Azure's bill alone."""
        self._unmetered.labels(team, feature).inc()

    def door_refused(self, reason: str) -> None:
        """The door refused what did not become a request; `reason` is one of `DOOR_REFUSALS`."""
        self._door_refusals.labels(reason if reason in DOOR_REFUSALS else OTHER).inc()

    def posted(
        self,
        *,
        team: str,
        deployment: str | None,
        meter: str,
        scope: str | None,
        quantity: int,
        nano_usd: int,
        confidence: str,
    ) -> None:
        """A line was posted to the ledger; a correction downwards has negative amounts."""
        if meter == Meter.CODE_INTERPRETER_SESSION:
            counts = self._opened if quantity >= 0 else self._reversed
            counts.labels(team, scope or OTHER).inc(abs(quantity))
        else:
            tokens = self._tokens if quantity >= 0 else self._tokens_credited
            name = deployment if deployment in self._deployments else None
            tokens.labels(team, name or OTHER, meter).inc(abs(quantity))
        if nano_usd >= 0:
            self._spend.labels(team, meter, confidence).inc(nano_usd)
        else:
            self._credited.labels(team, meter).inc(-nano_usd)

    def version(self, *, team: str, asked: str | None, sent: str | None) -> None:
        """A request named an api-version (or none), and one was sent (or none)."""
        self._versions_seen.labels(team, self._known(asked), self._known(sent)).inc()

    def _known(self, version: str | None) -> str:
        if not version:
            return "none"
        return version if version in self._versions else OTHER

    def uploaded(self, *, team: str, verdict: str, rule: str, file_type: str | None) -> None:
        """An upload was judged."""
        self._uploads.labels(team, verdict, rule, file_type or OTHER).inc()

    def upstream_fault(self, *, upstream: str, kind: str) -> None:
        """Azure could not be reached, or a reply broke; `kind` is one of `FAULTS`."""
        self._faults.labels(upstream, kind if kind in FAULTS else OTHER).inc()

    def lost_creation(self, *, team: str, operation: str) -> None:
        """A creation was never answered: what it made, if anything, has no owner."""
        self._lost_creations.labels(team, operation).inc()

    def closed(self, *, by: str, state: str) -> None:
        """An intent was closed, by the `street` or by the `settlement`."""
        self._settled.labels(by, state).inc()
