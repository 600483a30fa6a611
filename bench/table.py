"""Prints figures as plain text or Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bench.figures import Figure

NUMERIC_FROM = 1  # the first column is text, the others are right-aligned in plain text
HEAD_GOALS = ("figure", "HTTP", "raw loop", "result", "goal", "reached", "for comparison")
HEAD_SERVERS = ("figure", "ours", "theirs", "ours / theirs")

Row = tuple[str, ...]


def goal_rows(figures: Sequence[Figure]) -> list[Row]:
    """Rows of figures with their goals."""
    return [HEAD_GOALS, *(_goal_row(figure) for figure in figures)]


def server_rows(figures: Sequence[Figure]) -> list[Row]:
    """Rows of figures of two servers."""
    rows = [(f.name, number(median(f.ours)), number(median(f.other)), number(f.value)) for f in figures]
    return [HEAD_SERVERS, *rows]


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
    goal = figure.goal
    unit = f" {figure.unit}" if figure.unit else ""
    ours = number(median(figure.ours)) if figure.other else ""
    other = number(median(figure.other)) if figure.other else ""
    result = number(figure.value) + unit
    if goal is None:
        return figure.name, ours, other, result, "", "", ""
    reached = "yes" if goal.reached(figure.value) else "NO"
    return figure.name, ours, other, result, f"{goal.relation} {goal.bound:g}{unit}", reached, goal.peers


def _aligned(row: Row, widths: Sequence[int]) -> list[str]:
    left = [cell.ljust(width) for cell, width in zip(row[:NUMERIC_FROM], widths[:NUMERIC_FROM], strict=True)]
    return left + [cell.rjust(width) for cell, width in zip(row[NUMERIC_FROM:], widths[NUMERIC_FROM:], strict=True)]


def _cells(row: Row) -> str:
    return "| " + " | ".join(row) + " |"
