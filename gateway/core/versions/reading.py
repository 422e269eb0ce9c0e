"""A version policy from a parsed `api_versions.toml`.

Everything wrong with the file is reported at once, since the person who edits it would otherwise
find the second fault only after the first. A wrong entry is never skipped: a refusal that silently
does not apply is worse than a file that is not taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date

from gateway.core.versions.policy import V1_VERSIONS, KnownVersion, VersionPolicy

_NAME = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
_TOP = frozenset({"default", "pin", "map", "refuse", "floor", "version"})
_VERSION = frozenset({"name", "sunset", "retired"})


def read_policy(document: Mapping[str, object]) -> VersionPolicy:
    """Return the policy that the parsed TOML `document` describes.

    Raises:
        ValueError: it is not a policy; the message has a line for every fault.
    """
    faults = [f"unknown key `{key}`" for key in document if key not in _TOP]
    rows, mapped, refuse = _rows(document), document.get("map", {}), document.get("refuse", [])
    faults.extend(fault for row in rows for fault in _row_faults(row))
    names = [row.get("name") for row in rows]
    if not rows:
        faults.append("no `[[version]]` at all")
    faults.extend(f"version `{name}` is listed twice" for name in _repeated(names))
    if not isinstance(mapped, dict):
        faults.append("`map` must be a table of version to version")
        mapped = {}
    if not isinstance(refuse, list):
        faults.append("`refuse` must be a list of versions")
        refuse = []
    floor = document.get("floor", {})
    if not isinstance(floor, dict):
        faults.append("`floor` must be a table of operation to version")
        floor = {}
    faults.extend(
        f"`floor` of `{operation}` is `{version}`, which is no listed version"
        for operation, version in floor.items()
        if version not in names
    )
    default, pin = document.get("default"), document.get("pin")
    faults.extend(_reference_faults(default, pin, mapped, refuse, names))
    if faults:
        raise ValueError("\n".join(faults))
    known = [
        KnownVersion(
            name=str(row["name"]),
            sunset=str(row["sunset"]) if "sunset" in row else None,
            retired=row.get("retired") is True,
        )
        for row in rows
    ]
    return VersionPolicy(
        default=str(default),
        pin=None if pin is None else str(pin),
        known={version.name: version for version in known},
        map=dict(mapped),
        refuse=frozenset(refuse),
        floor=dict(floor),
    )


def _rows(document: Mapping[str, object]) -> list[Mapping[str, object]]:
    rows = document.get("version", [])
    if not isinstance(rows, list):
        rows = [rows]
    return [row if isinstance(row, dict) else {"name": row} for row in rows]


def _row_faults(row: Mapping[str, object]) -> Iterator[str]:
    name, sunset = row.get("name"), row.get("sunset")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield f"version name `{name}` is not a date such as `2024-10-21` or `2025-04-01-preview`"
    yield from (f"version `{name}`: unknown key `{key}`" for key in row if key not in _VERSION)
    if not isinstance(row.get("retired", False), bool):
        yield f"version `{name}`: `retired` must be true or false"
    if "sunset" in row and not (isinstance(sunset, str) and _is_day(sunset)):
        yield f'version `{name}`: `sunset` must be a date in quotes, such as "2024-07-01"'


def _reference_faults(
    default: object,
    pin: object,
    mapped: Mapping[str, object],
    refuse: list[object],
    names: list[object],
) -> Iterator[str]:
    if default not in names:
        yield f"`default` is `{default}`, which is no listed version"
    elif default in refuse:
        yield f"`default` is `{default}`, which is refused"
    if pin is not None and pin not in names:
        yield f"`pin` is `{pin}`, which is no listed version"
    for client, sent in mapped.items():
        for name in (client, sent):
            if name not in names:
                yield f"`map` names `{name}`, which is no listed version"
        if isinstance(sent, str) and sent in mapped:
            yield f"`map` sends `{client}` as `{sent}`, which is mapped on; name the last one"
    for name in refuse:
        if name not in names and name not in V1_VERSIONS:
            yield f"`refuse` names `{name}`, which is no listed version"


def _repeated(names: list[object]) -> list[object]:
    return [name for place, name in enumerate(names) if name in names[:place]]


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
