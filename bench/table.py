"""Prints figures as plain text or Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bench.figures import OURS, Figure, Goal

HEAD_GOALS = ("figure", "after", "HTTP", "raw loop", "result", "goal", "reached", "for comparison")
AFTER = {"": "", "fresh": "load", "steady": "traffic"}
TEXTS = 2  # columns that are text; the others are right-aligned in plain text

Row = tuple[str, ...]


def goal_rows(figures: Sequence[Figure]) -> list[Row]:
    """Rows of figures with their goals."""
    return [HEAD_GOALS, *(_goal_row(figure) for figure in figures if not figure.detail)]


def server_rows(figures: Sequence[Figure]) -> list[Row]:
    """Rows of figures of our server and others, with a column for each of them and one for its ratio."""
    sides = list(dict.fromkeys(figure.side for figure in figures))
    head = ("figure", "after", OURS, *sides, *(f"ours / {side}" for side in sides), "goal", "reached")
    groups: dict[tuple[str, str], dict[str, Figure]] = {}
    for figure in figures:
        if not figure.detail:
            groups.setdefault((figure.name, figure.phase), {})[figure.side] = figure
    return [head, *(_server_row(group, sides) for group in groups.values())]


def plain(rows: Sequence[Row]) -> str:
    """Aligned columns, with a line under the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def markdown(rows: Sequence[Row]) -> str:
    """A Markdown table."""
    head, *body = rows
    return "\n".join(_cells(row) for row in (head, ("---",) * len(head), *body))


def number(value: float) -> str:
    """A number with three significant digits, more only before the decimal point."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _goal_row(figure: Figure) -> Row:
    unit = f" {figure.unit}" if figure.unit else ""
    sides = (number(median(figure.ours)), number(median(figure.other))) if figure.other else ("", "")
    peers = figure.goal.peers if figure.goal else ""
    goal, reached = _judged(figure.goal, [figure.value], unit)
    return figure.name, AFTER[figure.phase], *sides, number(figure.value) + unit, goal, reached, peers


def _server_row(group: dict[str, Figure], sides: Sequence[str]) -> Row:
    """One row of the figures that only differ in the other side."""
    first = next(iter(group.values()))
    theirs = [number(median(group[side].other)) if side in group else "" for side in sides]
    ratios = [number(group[side].value) if side in group else "" for side in sides]
    judged = _judged(first.goal, [figure.value for figure in group.values()], "")
    return first.name, AFTER[first.phase], number(median(first.ours)), *theirs, *ratios, *judged


def _judged(goal: Goal | None, values: Sequence[float], unit: str) -> tuple[str, str]:
    if goal is None:
        return "", ""
    return f"{goal.relation} {goal.bound:g}{unit}", "yes" if all(map(goal.reached, values)) else "NO"


def _aligned(row: Row, widths: Sequence[int]) -> list[str]:
    left = [cell.ljust(width) for cell, width in zip(row[:TEXTS], widths[:TEXTS], strict=True)]
    return left + [cell.rjust(width) for cell, width in zip(row[TEXTS:], widths[TEXTS:], strict=True)]


def _cells(row: Row) -> str:
    return "| " + " | ".join(row) + " |"
