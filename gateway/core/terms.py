"""The terms of sessions: what one is and costs, by kind of scope, region and day.

Terms are data, and a session keeps those under which it opened: its price and its length are of
the day on which it began, so a new price never touches an old session. An entry is in force from
its day on, until the next one for the same kind and region. What is older than the first entry has
the terms of the first.

The region is that of the upstream, for a thread or a container lives in a resource, not in a
deployment. An entry that names regions comes before one that names none, from its day on.

The price is per session or per minute. By the minute, a session is charged for every minute that
was begun from its opening to its last call, and no fewer than the minimum; so the amount grows
while calls become known, and only a later reading of Azure's terms could make it smaller. Whether
the idle minutes after the last call are charged as well, nobody states. What such a session can
come to is bounded by its whole active time.

Source: Azure OpenAI, "Code Interpreter" (2025, 2026): per session. OpenAI, pricing page (June
2026): containers per minute with a minimum of five, by memory tier of 1, 4, 16 or 64 GB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gateway.core.model import SECOND, Micros, NanoUsd, Scope, ScopeKind, SessionTerms

MINUTE: Micros = 60 * SECOND

PLAIN_MEMORY = "1g"
MEMORY_TIERS = ("4g", "16g", "64g")
"""What a container may have instead of the plain gigabyte, each at its own price."""

EVERYWHERE = ""
"""Stands for all regions that no entry names."""

Schedule = tuple[SessionTerms, ...]
"""The terms of one kind of scope in one region, in order of their days; never empty."""


@dataclass(frozen=True, slots=True)
class Terms:
    """All terms, by kind of scope and region, and the region of each upstream."""

    schedules: Mapping[tuple[ScopeKind, str], Schedule]
    regions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def everywhere(cls, terms: Mapping[ScopeKind, SessionTerms]) -> Terms:
        """Return terms that are the same in all regions and were always in force."""
        return cls({(kind, EVERYWHERE): (each,) for kind, each in terms.items()})

    def placed(self, regions: Mapping[str, str]) -> Terms:
        """Return the same terms for upstreams in these regions."""
        return replace(self, regions={name: each.lower() for name, each in regions.items()})

    def of(self, kind: ScopeKind, upstream: str) -> Schedule:
        """Return the terms of a kind of scope at an upstream.

        Raises:
            KeyError: there are none; a scope without terms must never be booked.
        """
        region = self.regions.get(upstream, EVERYWHERE)
        return self.schedules.get((kind, region)) or self.schedules[kind, EVERYWHERE]

    def of_scope(self, scope: Scope) -> Schedule:
        """Return the terms of a scope; raises as `of` does."""
        return self.of(scope.kind, scope.upstream)

    def tiers(self, upstream: str, at: Micros) -> frozenset[str]:
        """Return the memory tiers that have a price at `at`, whether the container shows or not."""
        kinds = (ScopeKind.CONTAINER, ScopeKind.RESPONSE)
        priced = [frozenset(in_force(self.of(kind, upstream), at).memory) for kind in kinds]
        return frozenset[str].intersection(*priced)


def in_force(schedule: Schedule, at: Micros) -> SessionTerms:
    """Return the terms of a session that opens at `at`."""
    found = schedule[0]
    for terms in schedule[1:]:
        if terms.valid_from > at:
            break
        found = terms
    return found


def in_force_within(schedule: Schedule, since: Micros, until: Micros) -> Schedule:
    """Return all terms under which a session could open from `since` to `until`."""
    return (
        in_force(schedule, since),
        *(terms for terms in schedule[1:] if since < terms.valid_from <= until),
    )


def amount(terms: SessionTerms, memory: str | None, lasted_us: Micros) -> NanoUsd:
    """Return what a session costs whose last call was `lasted_us` after its opening."""
    rate = _rate(terms, memory)
    if not terms.per_minute:
        return rate
    return rate * max(terms.minutes_min, lasted_us // MINUTE + 1)


def amount_max(terms: SessionTerms, memory: str | None) -> NanoUsd:
    """Return the most that a session can come to, whatever is called in it."""
    return amount(terms, memory, max(terms.active_us - 1, 0))


def price_id(terms: SessionTerms, memory: str | None) -> str:
    """Return the name of the price, which tells the tier where it is not the plain one."""
    return terms.price_id if memory in (None, PLAIN_MEMORY) else f"{terms.price_id}/{memory}"


def _rate(terms: SessionTerms, memory: str | None) -> NanoUsd:
    """Return the price of a tier; one that has lost its price costs as much as the dearest."""
    if memory is None or memory == PLAIN_MEMORY:
        return terms.nano_usd
    dearest = max(terms.nano_usd, *terms.memory.values()) if terms.memory else terms.nano_usd
    return terms.memory.get(memory, dearest)
