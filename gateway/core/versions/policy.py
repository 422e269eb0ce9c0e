"""Which api-version is sent for the one a client names.

Azure has three faces. On the dated one every call names an api-version, and versions are retired
under clients that cannot all be changed in time; so the organisation keeps a table: what is known,
what is sent instead, what is refused, what is meant when nothing is named. On `/openai/v1/` no
version is sent at all, and Azure refuses a dated one there; clients that add it anyway are
repaired. On Foundry projects the version is one of a handful, all of the same shapes.

What has no row in the table is refused, with the neighbours that would do: a mistyped version would
otherwise be answered by Azure with a bare "Resource not found".

A request is only ever walked up to a newer shape. Where the table would send a version from before
a change that the client's version already has, the operations concerned are refused.

Source: Azure OpenAI, "API version lifecycle" (2026): `/openai/v1/` takes `v1` or `preview` and
refuses dated versions; the page also mentions `latest`. Azure AI Agents SDK, KnownVersions: the
three of Foundry.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from gateway.core.errors import Code, Refusal
from gateway.core.model import Surface
from gateway.core.versions.assistants_v2 import ASSISTANTS_V2
from gateway.core.versions.change import Change, day
from gateway.core.versions.repair import REPAIR_MIXED_ASSISTANTS

CHANGES: tuple[Change, ...] = (ASSISTANTS_V2, REPAIR_MIXED_ASSISTANTS)
"""Every change there is, oldest first; repairs come after the changes of their day."""

V1_VERSIONS = ("v1", "preview", "latest")
FOUNDRY_VERSIONS = ("v1", "2025-05-01", "2025-05-15-preview")

_DATED = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
_PRINTABLE = re.compile(r"[0-9A-Za-z._-]{1,32}")


@dataclass(frozen=True, slots=True)
class KnownVersion:
    """A dated version a client may name. `sunset` is the ISO date on which Azure ends or ended it,
    None where no date was published."""

    name: str
    sunset: str | None = None
    retired: bool = False


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """The organisation's table; `api_versions.toml` read and checked.

    `default` is meant when the client names none on the dated surface. `pin`, if set, is sent
    upstream whatever the client names, unless that is refused; else `map` says what is sent for a
    client's version, and a version without an entry is sent as it is. `floor` names the oldest
    version an operation may be sent with; older ones are raised to it.
    """

    default: str
    pin: str | None
    known: Mapping[str, KnownVersion]
    map: Mapping[str, str]
    refuse: frozenset[str]
    floor: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """The way from the version a client speaks to the version sent, for one operation.

    `sent` is None where no api-version is sent. `changes` are those to walk, oldest first.
    `rewritten` is whether what is sent differs from what the client named or, naming none, meant.
    """

    client: str
    sent: str | None
    changes: tuple[Change, ...]
    sunset: str | None
    retired: bool
    rewritten: bool


def route(
    policy: VersionPolicy,
    surface: Surface,
    asked: str | None,
    operation: str,
    *,
    is_carried: bool = False,
) -> Route:
    """Return how a call that names the api-version `asked` is sent; an empty one names none.

    A dated call that `is_carried` to a Foundry project is walked up to the newest shape, which is
    that of projects, and sent with their version.

    Raises:
        Refusal: the version is unknown, refused, or newer than a change that the version sent
            does not have.
    """
    named = asked or None
    if named is not None and named in policy.refuse:
        raise _refusal(
            "api-versions.refuse",
            f"api-version `{named}` is refused here",
            f"use {_either(_nearby(policy, named))}",
        )
    match surface:
        case Surface.V1:
            return _stripped(named)
        case Surface.FOUNDRY:
            return _foundry(named)
        case Surface.DATED:
            return _dated(policy, named, operation, is_carried=is_carried)
        case _:
            assert_never(surface)


def _stripped(named: str | None) -> Route:
    if named is None or named in V1_VERSIONS:
        return _unwalked(named or "v1", sent=None, rewritten=False)
    if _DATED.fullmatch(named):
        return _unwalked(named, sent=None, rewritten=True)
    raise _refusal(
        "api-versions.known",
        f"{_shown(named)} is not known on `/openai/v1/`",
        f"leave it out or use {_either(V1_VERSIONS)}",
    )


def _foundry(named: str | None) -> Route:
    if named is None or named in FOUNDRY_VERSIONS:
        version = named or FOUNDRY_VERSIONS[0]
        return _unwalked(version, sent=version, rewritten=False)
    raise _refusal(
        "api-versions.known",
        f"{_shown(named)} is not known on Foundry projects",
        f"use {_either(FOUNDRY_VERSIONS)}",
    )


def _unwalked(client: str, *, sent: str | None, rewritten: bool) -> Route:
    return Route(
        client=client, sent=sent, changes=(), sunset=None, retired=False, rewritten=rewritten
    )


def _dated(policy: VersionPolicy, named: str | None, operation: str, *, is_carried: bool) -> Route:
    client = named or policy.default
    known = policy.known.get(client)
    if known is None:
        raise _unknown(policy, client)
    sent = policy.pin or policy.map.get(client, client)
    floor = policy.floor.get(operation)
    if floor is not None and day(sent) < day(floor):
        sent = floor
    if is_carried:
        sent = max(policy.known, key=day)
    concerned = tuple(change for change in CHANGES if operation in change.operations)
    for change in concerned:
        if change.is_undone(client=client, sent=sent):
            raise _refusal(
                "api-versions.upwards",
                f"api-version `{client}` is sent as `{sent}` here, which lacks the change "
                f"`{change.name}` of `{change.since}`, so `{operation}` cannot be carried",
                f"name `{sent}`, or have the gateway send `{change.since}` or later",
            )
    return Route(
        client=client,
        sent=FOUNDRY_VERSIONS[0] if is_carried else sent,
        changes=tuple(change for change in concerned if change.applies(client=client, sent=sent)),
        sunset=known.sunset,
        retired=known.retired,
        rewritten=is_carried or sent != client,
    )


def _unknown(policy: VersionPolicy, named: str) -> Refusal:
    if named in V1_VERSIONS:
        return _refusal(
            "api-versions.known",
            f"api-version `{named}` belongs to `/openai/v1/` and is unknown on this path",
            f"call `/openai/v1/` or use a dated one such as {_either(_nearby(policy, named))}",
        )
    return _refusal(
        "api-versions.known",
        f"{_shown(named)} is not known here",
        f"known nearby: {_either(_nearby(policy, named))}",
    )


def _nearby(policy: VersionPolicy, named: str) -> tuple[str, ...]:
    """Return the versions to recommend: the neighbours of a dated one, else the default."""
    if not _DATED.match(named):
        return (policy.default,)
    usable = sorted(
        known.name
        for known in policy.known.values()
        if not known.retired and known.name not in policy.refuse
    )
    place = bisect_left(usable, named)
    return tuple(usable[max(0, place - 1) : place + 1]) or (policy.default,)


def _refusal(rule: str, fault: str, way_out: str) -> Refusal:
    return Refusal(
        Code.UNSUPPORTED_API_VERSION,
        f"{fault} (rule `{rule}`); {way_out}",
        param="api-version",
        rule=rule,
    )


def _shown(named: str) -> str:
    # A query may hold anything, a mispasted key included; only what could be a version is echoed.
    return f"api-version `{named}`" if _PRINTABLE.fullmatch(named) else "the api-version"


def _either(names: tuple[str, ...]) -> str:
    return " or ".join(f"`{name}`" for name in names)
