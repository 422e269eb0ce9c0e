"""Session terms as they are written: `[[session]]` entries of a price book, all faults at once.

    [[session]]
    scope = "container"
    regions = ["swedencentral"]     # may be left out: everywhere else
    valid_from = "2026-06-02"
    usd_per_minute = "0.0015"       # or usd = "0.03", for the session
    minutes_min = 5
    active_s = 3600
    idle_s = 1200                   # may be left out: only the active time ends a session
    trigger = "on_request"          # by default "on_call"
    [session.memory]
    4g = "0.006"

Entries that contradict one another are refused, not resolved: two for the same kind, region and
day, or a day that stands before an earlier one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from gateway.core.model import SECOND, Micros, NanoUsd, ScopeKind, SessionTerms, Trigger
from gateway.core.money import nano_usd
from gateway.core.terms import EVERYWHERE, MEMORY_TIERS, Schedule, Terms

_KNOWN = (
    "active_s",
    "idle_s",
    "memory",
    "minutes_min",
    "regions",
    "scope",
    "trigger",
    "usd",
    "usd_per_minute",
    "valid_from",
)
# A run may take ten minutes. If a session could end sooner, a run could open several, and what is
# held for it would not be enough.
_LASTS_S_MIN = 601
_LASTS_S_MAX = 7 * 86_400


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry that was read without a fault."""

    number: int
    kind: ScopeKind
    regions: tuple[str, ...]
    terms: SessionTerms


class _Reader:
    """Reads the fields of one entry and keeps what is wrong with them."""

    def __init__(self, number: int, entry: Mapping[str, object]) -> None:
        self.faults: list[str] = []
        self._place = f"session[{number}]"
        self._entry = entry

    def fault(self, name: str, what: str) -> None:
        """Keep a fault of a field."""
        self.faults.append(f"{self._place}.{name}: {what}")

    def has(self, name: str) -> bool:
        """Whether the entry has the field."""
        return name in self._entry

    def unknown(self) -> None:
        """Keep a fault for every field that means nothing; a typing error must not be lost."""
        for name in self._entry:
            if name not in _KNOWN:
                known = ", ".join(f"`{each}`" for each in _KNOWN)
                self.fault(name, f"`{name}` is not known; allowed: {known}")

    def choice(self, name: str, allowed: Iterable[str], default: str | None = None) -> str:
        """Return one of the allowed words."""
        words = list(allowed)
        value = self._entry.get(name, default)
        if isinstance(value, str) and value in words:
            return value
        listed = ", ".join(f"`{word}`" for word in words)
        self.fault(name, f"`{name}` must be one of {listed}, not `{value}`")
        return words[0]

    def whole(self, name: str, *, least: int, most: int) -> int:
        """Return a whole number within its bounds."""
        value = self._entry.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.fault(name, f"`{name}` must be a whole number from {least} to {most}, not `{value}`")
        return least

    def price(self) -> NanoUsd:
        """Return the one price an entry has."""
        given = [name for name in ("usd", "usd_per_minute") if self.has(name)]
        if len(given) != 1:
            self.fault("usd", "exactly one of `usd` and `usd_per_minute` is needed")
            return 0
        return self._money(given[0], self._entry[given[0]])

    def memory(self) -> dict[str, NanoUsd]:
        """Return the prices of the memory tiers."""
        value = self._entry.get("memory", {})
        if not isinstance(value, Mapping):
            self.fault("memory", "`memory` must be a table of tiers and amounts")
            return {}
        prices = {}
        for tier, usd in value.items():
            if tier in MEMORY_TIERS:
                prices[str(tier)] = self._money(f"memory.{tier}", usd)
            else:
                tiers = ", ".join(f"`{each}`" for each in MEMORY_TIERS)
                self.fault(f"memory.{tier}", f"`{tier}` is no memory tier; there are {tiers}")
        return prices

    def _money(self, name: str, value: object) -> NanoUsd:
        try:
            # A number, even an exact one, was written without the quotes that keep it exact.
            return nano_usd(value if isinstance(value, str) else "")
        except ValueError:
            self.fault(name, f'`{name}` must be an amount such as `"0.03"`, not `{value}`')
            return 0

    def day(self, name: str) -> date:
        """Return a day."""
        value = self._entry.get(name)
        try:
            return date.fromisoformat(str(value))
        except ValueError:
            self.fault(name, f"`{name}` must be a day such as `2026-06-02`, not `{value}`")
            return date(2000, 1, 1)

    def regions(self) -> tuple[str, ...]:
        """Return the regions an entry is for; EVERYWHERE alone if it names none."""
        if not self.has("regions"):
            return (EVERYWHERE,)
        value = self._entry["regions"]
        names = value if isinstance(value, list) else []
        if not names or not all(isinstance(name, str) and name.strip() for name in names):
            self.fault("regions", "`regions` must be a list of names such as `swedencentral`")
        return tuple(str(name).lower() for name in names) or (EVERYWHERE,)


def read_terms(document: object) -> tuple[Terms, list[str]]:
    """Return the terms that a list of entries describes, and everything that is wrong with it."""
    if not isinstance(document, list) or not all(isinstance(entry, Mapping) for entry in document):
        return Terms({}), ["`session` must be a list of tables"]
    faults: list[str] = []
    entries: list[_Entry] = []
    for number, entry in enumerate(document):
        reader = _Reader(number, entry)
        read = _read(number, reader)
        faults += reader.faults
        if not reader.faults:
            entries.append(read)
    if not faults:
        faults += _contradictions(entries)
    return Terms(_schedules(entries)), faults


def _read(number: int, reader: _Reader) -> _Entry:
    reader.unknown()
    kind = ScopeKind(reader.choice("scope", [each.value for each in ScopeKind]))
    day, regions = reader.day("valid_from"), reader.regions()
    per_minute = reader.has("usd_per_minute")
    active_s = reader.whole("active_s", least=_LASTS_S_MIN, most=_LASTS_S_MAX)
    idle_s = minutes_min = None
    if reader.has("idle_s"):
        idle_s = reader.whole("idle_s", least=_LASTS_S_MIN, most=_LASTS_S_MAX)
        if idle_s > active_s and not reader.faults:
            reader.fault("idle_s", f"`idle_s` is `{idle_s}`, more than `active_s` (`{active_s}`)")
    if reader.has("minutes_min"):
        minutes_min = reader.whole("minutes_min", least=1, most=_LASTS_S_MAX // 60)
        if not per_minute:
            reader.fault("minutes_min", "`minutes_min` needs `usd_per_minute`")
        elif minutes_min * 60 > active_s and not reader.faults:
            reader.fault(
                "minutes_min",
                f"`minutes_min` is `{minutes_min}`, more than `active_s` (`{active_s}`) has",
            )
    where = "" if EVERYWHERE in regions else f"/{'+'.join(regions)}"
    terms = SessionTerms(
        active_us=active_s * SECOND,
        idle_us=None if idle_s is None else idle_s * SECOND,
        nano_usd=reader.price(),
        price_id=f"session-{kind}@{day.isoformat()}{where}",
        valid_from=midnight(day),
        trigger=Trigger(reader.choice("trigger", [each.value for each in Trigger], "on_call")),
        per_minute=per_minute,
        minutes_min=minutes_min or 0,
        memory=reader.memory(),
    )
    return _Entry(number, kind, regions, terms)


def _contradictions(entries: Iterable[_Entry]) -> Iterator[str]:
    latest: dict[tuple[ScopeKind, str], _Entry] = {}
    for entry in entries:
        for region in entry.regions:
            before = latest.get((entry.kind, region))
            place = f"session[{entry.number}].valid_from"
            where = f" in `{region}`" if region else ""
            if before is None or before.terms.valid_from < entry.terms.valid_from:
                latest[entry.kind, region] = entry
            elif before.terms.valid_from == entry.terms.valid_from:
                yield (
                    f"{place}: scope `{entry.kind}`{where} has an entry for this day already, "
                    f"session[{before.number}]"
                )
            else:
                yield (
                    f"{place}: stands after session[{before.number}] of scope `{entry.kind}`"
                    f"{where}, which is later; write the entries in order of their days"
                )
    for kind in ScopeKind:
        if (kind, EVERYWHERE) not in latest:
            yield f"session: scope `{kind}` has no entry without `regions`"


def _schedules(entries: Iterable[_Entry]) -> dict[tuple[ScopeKind, str], Schedule]:
    own: dict[tuple[ScopeKind, str], Schedule] = {}
    for entry in entries:
        for region in entry.regions:
            own[entry.kind, region] = (*own.get((entry.kind, region), ()), entry.terms)
    return {
        (kind, region): (
            *(each for each in own.get((kind, EVERYWHERE), ()) if _is_before(each, found[0])),
            *found,
        )
        if region
        else found
        for (kind, region), found in own.items()
    }


def _is_before(terms: SessionTerms, other: SessionTerms) -> bool:
    return terms.valid_from < other.valid_from


def midnight(day: date) -> Micros:
    """Return when a day begins, UTC."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * SECOND
