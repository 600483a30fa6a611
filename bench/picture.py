"""Draws the figures that have a place in the picture: an SVG with a panel for each curve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from statistics import median

from bench.figures import Figure

COLUMNS = 2
WIDTH, HEIGHT = 430, 260  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 54, 16, 34, 40  # around its curves
LINE = 22  # height of a line of the legend
TICKS = 4
COLOURS = ("#1f6feb", "#d1570a", "#1a7f37", "#8250df", "#bf3989")
DASHES = {"fresh": "5 4", "steady": "", "": ""}
WORDS = {"fresh": "after the load", "steady": "after traffic", "": ""}
STYLE = "text{font:12px sans-serif;fill:#1f2328}.title{font-weight:bold}.axis{stroke:#d0d7de}"

Curve = dict[float, float]
"""Values by their place on the x axis."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: its title, what the x axis counts, and a curve for each side and phase."""

    title: str
    axis: str
    curves: dict[tuple[str, str], Curve] = field(default_factory=dict)

    @property
    def xs(self) -> list[float]:
        """All places on the x axis, which are drawn at equal distances."""
        return sorted({x for curve in self.curves.values() for x in curve})

    @property
    def top(self) -> float:
        """The end of the y axis: the smallest round number that no value exceeds."""
        highest = max(y for curve in self.curves.values() for y in curve.values())
        unit = 10.0 ** math.floor(math.log10(highest)) if highest > 0 else 1.0
        return next(step * unit for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 5, 6, 8, 10) if step * unit >= highest)


def panels(figures: Sequence[Figure], ours: str) -> list[Panel]:
    """The panels, in the order of their first figures. `ours` is the name of our side."""
    made: dict[str, Panel] = {}
    for figure in figures:
        if figure.point is None:
            continue
        panel = made.setdefault(figure.point.panel, Panel(figure.point.panel, figure.point.axis))
        for side, values in ((ours, figure.ours), (figure.side, figure.other)):
            if values:
                panel.curves.setdefault((side, figure.phase), {})[figure.point.x] = median(values)
    return list(made.values())


def draw(panels: Sequence[Panel], caption: str) -> str:
    """The SVG of some panels, with a legend and a caption below."""
    keys = list(dict.fromkeys(key for panel in panels for key in panel.curves))
    sides = list(dict.fromkeys(side for side, _ in keys))
    colours = {side: COLOURS[i % len(COLOURS)] for i, side in enumerate(sides)}
    legend_top = -(-len(panels) // COLUMNS) * HEIGHT + LINE
    width, height = COLUMNS * WIDTH, legend_top + (len(keys) + 1) * LINE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(caption)}</title>",
        f'<style>{STYLE}</style><rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for i, panel in enumerate(panels):
        x, y = i % COLUMNS * WIDTH, i // COLUMNS * HEIGHT
        parts += [f'<g transform="translate({x} {y})">', *_panel(panel, colours), "</g>"]
    for i, (side, phase) in enumerate(keys):
        parts += _legend(legend_top + i * LINE, side, phase, colours[side])
    parts += [f'<text x="{LEFT}" y="{legend_top + len(keys) * LINE + 4}">{escape(caption)}</text>', "</svg>"]
    return "\n".join(parts) + "\n"


def _panel(panel: Panel, colours: Mapping[str, str]) -> list[str]:
    xs, top = panel.xs, panel.top
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def across(x: float) -> float:
        return LEFT + inner_width * (xs.index(x) + 0.5) / len(xs)

    def up(y: float) -> float:
        return TOP + inner_height * (1 - y / top)

    parts = [f'<text class="title" x="{LEFT}" y="{TOP - 14}">{escape(panel.title)}</text>']
    for tick in range(TICKS + 1):
        value = top * tick / TICKS
        parts.append(f'<path class="axis" d="M{LEFT} {up(value):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{up(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    for x in xs:
        parts.append(f'<text x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x:g}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(panel.axis)}</text>')
    for (side, phase), curve in panel.curves.items():
        places = [(across(x), up(y)) for x, y in sorted(curve.items())]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path d="{path}" {_stroke(colours[side], phase)}/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colours[side]}"/>' for x, y in places]
    return parts


def _legend(y: float, side: str, phase: str, colour: str) -> list[str]:
    words = f"{side}, {WORDS[phase]}" if phase else side
    line = f'<path d="M{LEFT} {y}h36" {_stroke(colour, phase)}/>'
    return [line, f'<text x="{LEFT + 44}" y="{y + 4}">{escape(words)}</text>']


def _stroke(colour: str, phase: str) -> str:
    dashes = f' stroke-dasharray="{DASHES[phase]}"' if DASHES[phase] else ""
    return f'fill="none" stroke="{colour}" stroke-width="2"{dashes}'
