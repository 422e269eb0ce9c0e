"""From rounds to figures.

A *scenario* is a load, a *reading* is what one candidate needed for it in one round. In every round
each candidate has its turn, one after the other, so that a machine that grows slower meanwhile does
so for all. What is quoted is the median of the rounds with the least and the greatest; a ratio is
taken within each round first, and the median is that of the ratios.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Reading:
    """One candidate, one scenario, one round.

    `done` are requests or chunks. `p50_us` and `p99_us` are the latency of a request, or how long a
    chunk was under way; `first_p50_us` is the wait for a stream's first chunk. `others_cores` is
    how many cores were kept busy by processes that have no part in the measurement.
    """

    scenario: str
    candidate: str
    round: int
    done: int
    seconds: float
    cpu_us: int
    p50_us: float
    p99_us: float
    rss_mb: float
    others_cores: float
    first_p50_us: float | None = None

    @property
    def cpu_us_each(self) -> float:
        """CPU time per request or chunk, microseconds."""
        return self.cpu_us / self.done

    @property
    def per_second(self) -> float:
        """Requests or chunks a second."""
        return self.done / self.seconds

    @property
    def core_share(self) -> float:
        """How much of a core the candidate used, 1 being a whole one."""
        return self.cpu_us / (self.seconds * 1e6)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some rounds, with the least and the greatest."""

    middle: float
    least: float
    greatest: float

    def show(self, digits: int = 0) -> str:
        """Return it as text, such as ``12 (11-14)``."""
        middle, least, greatest = (
            f"{value:,.{digits}f}" for value in (self.middle, self.least, self.greatest)
        )
        return f"{middle} ({least}-{greatest})"


def spread(values: Sequence[float]) -> Spread:
    """Return median, least and greatest.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("there is no median of nothing")
    return Spread(median(values), min(values), max(values))


def of(readings: Sequence[Reading], scenario: str, candidate: str) -> list[Reading]:
    """Return a candidate's readings in a scenario."""
    return [
        reading
        for reading in readings
        if reading.scenario == scenario and reading.candidate == candidate
    ]


def cpu_ratio(
    readings: Sequence[Reading], scenario: str, candidate: str, base: str
) -> Spread | None:
    """Return how many times the CPU time of `base` a candidate needs, pair by pair.

    None if there is no round in which both were measured.
    """
    pairs = _pairs(readings, scenario, candidate, base)
    ratios = [mine.cpu_us_each / other.cpu_us_each for mine, other in pairs]
    return spread(ratios) if ratios else None


def added_us(
    readings: Sequence[Reading], scenario: str, candidate: str, base: str
) -> tuple[Spread, Spread] | None:
    """Return by how much a candidate is slower than `base`, at p50 and at p99, pair by pair.

    None if there is no round in which both were measured.
    """
    pairs = _pairs(readings, scenario, candidate, base)
    if not pairs:
        return None
    p50 = spread([mine.p50_us - other.p50_us for mine, other in pairs])
    p99 = spread([mine.p99_us - other.p99_us for mine, other in pairs])
    return p50, p99


def table(readings: Sequence[Reading], scenario: str) -> list[list[str]]:
    """Return a scenario's table as rows of cells, its head first."""
    head = ["", "CPU-µs each", "× nginx", "per s", "core", "p50 ms", "p99 ms"]
    rows = [[*head, "added p50 µs", "added p99 µs", "first ms", "RSS MB"]]
    names = dict.fromkeys(reading.candidate for reading in readings)
    for name in names:
        mine = of(readings, scenario, name)
        if mine:
            rows.append(_row(readings, scenario, name, mine))
    return rows


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as aligned lines; the first column is to the left."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells[1:]]).rstrip())
    return "\n".join(lines)


def _row(
    readings: Sequence[Reading], scenario: str, name: str, mine: Sequence[Reading]
) -> list[str]:
    ratio = cpu_ratio(readings, scenario, name, "nginx")
    added = added_us(readings, scenario, name, "direct") if name != "direct" else None
    firsts = [reading.first_p50_us for reading in mine if reading.first_p50_us is not None]
    return [
        name,
        spread([reading.cpu_us_each for reading in mine]).show(),
        ratio.show(1) if ratio else "-",
        spread([reading.per_second for reading in mine]).show(),
        f"{median(reading.core_share for reading in mine):.0%}",
        f"{median(reading.p50_us for reading in mine) / 1e3:.2f}",
        f"{median(reading.p99_us for reading in mine) / 1e3:.2f}",
        added[0].show() if added else "-",
        added[1].show() if added else "-",
        f"{median(firsts) / 1e3:.2f}" if firsts else "-",
        f"{max(reading.rss_mb for reading in mine):.0f}",
    ]


def _pairs(
    readings: Sequence[Reading], scenario: str, candidate: str, base: str
) -> list[tuple[Reading, Reading]]:
    bases = {reading.round: reading for reading in of(readings, scenario, base)}
    return [
        (mine, bases[mine.round])
        for mine in of(readings, scenario, candidate)
        if mine.round in bases
    ]
