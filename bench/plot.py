"""The figures as a bar chart: one group of bars a scenario, CPU time each, least to greatest."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bench.figures import Reading, Spread, of, spread

_COLOURS = {"direct": "#9aa5b1", "nginx": "#3d8b5f", "gateway": "#2f5d9e"}
_LEFT, _BAR, _STEP, _GROUP, _WIDTH, _SCALE = 90, 18, 24, 44, 760, 480


def bar_chart(readings: Sequence[Reading], titles: dict[str, str]) -> str:
    """Return an SVG; each scenario has a scale of its own, since their units differ."""
    parts: list[str] = []
    y = 16
    for scenario, title in titles.items():
        bars = {
            name: spread([reading.cpu_us_each for reading in mine])
            for name in _COLOURS
            if (mine := of(readings, scenario, name))
        }
        if not bars:
            continue
        parts.append(f'<text x="8" y="{y + 8}" font-weight="bold">{escape(title)}</text>')
        y += 20
        most = max(bar.greatest for bar in bars.values())
        for name, bar in bars.items():
            parts += _bar(name, bar, most=most, y=y)
            y += _STEP
        y += _GROUP - _STEP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" '
            f'viewBox="0 0 {_WIDTH} {y}" font-family="sans-serif" font-size="13">',
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _bar(name: str, bar: Spread, *, most: float, y: int) -> list[str]:
    def x(value: float) -> float:
        return round(_LEFT + _SCALE * value / most, 1)

    middle = y + _BAR / 2
    return [
        f'<text x="{_LEFT - 8}" y="{middle + 4}" text-anchor="end">{escape(name)}</text>',
        f'<rect x="{_LEFT}" y="{y}" width="{x(bar.middle) - _LEFT:.1f}" height="{_BAR}" '
        f'fill="{_COLOURS[name]}"/>',
        f'<path d="M{x(bar.least)} {middle}H{x(bar.greatest)}" stroke="#222222"/>',
        f'<text x="{x(bar.greatest) + 8}" y="{middle + 4}">{bar.show()} µs</text>',
    ]
