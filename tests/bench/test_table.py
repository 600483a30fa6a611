"""The report as text and as Markdown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.figures import Figure, Goal, alone, ratio
from bench.table import goal_rows, markdown, number, plain, server_rows

FIGURES = [
    ratio("tokens/s", [40.0, 41.0, 42.0], [50.0, 51.0, 52.0], Goal(">=", 0.97, "others 0.5")),
    replace(alone("memory", "MiB", [100.25], Goal("<=", 120)), phase="fresh"),
    replace(alone("own memory", "MiB", [80.0]), phase="steady"),
]
POINT = replace(alone("2 streams", "tokens/s", [80.0]), detail=True)


def test_rows_with_goals() -> None:
    assert goal_rows([*FIGURES, POINT])[1:] == [
        ("tokens/s", "", "41.0", "51.0", "0.804", ">= 0.97", "NO", "others 0.5"),
        ("memory", "load", "", "", "100 MiB", "<= 120 MiB", "yes", ""),
        ("own memory", "traffic", "", "", "80.0 MiB", "", "", ""),
    ]


def beside(name: str, side: str, phase: str, theirs: float, goal: Goal | None = None) -> Figure:
    return replace(ratio(name, [40.0], [theirs], goal), side=side, phase=phase)


def test_rows_of_several_servers() -> None:
    goal = Goal(">=", 1.05)
    figures = [
        beside("tokens/s", "Ollama", "fresh", 20.0, goal),
        beside("tokens/s", "llama-server", "fresh", 39.0, goal),
        beside("tokens/s", "Ollama", "steady", 20.0, goal),
        beside("cold load", "Ollama", "", 80.0),
        replace(beside("2 streams", "Ollama", "", 80.0), detail=True),
    ]
    assert server_rows(figures) == [
        (
            "figure",
            "after",
            "ours",
            "Ollama",
            "llama-server",
            "ours / Ollama",
            "ours / llama-server",
            "goal",
            "reached",
        ),
        ("tokens/s", "load", "40.0", "20.0", "39.0", "2.00", "1.03", ">= 1.05", "NO"),
        ("tokens/s", "traffic", "40.0", "20.0", "", "2.00", "", ">= 1.05", "yes"),
        ("cold load", "", "40.0", "80.0", "", "0.500", "", "", ""),
    ]


def test_plain_columns_line_up() -> None:
    head, line, *rows = plain(goal_rows(FIGURES)).splitlines()
    assert set(line) == {"-"}
    end = head.index("result") + len("result")
    assert [row[:end].split()[-1] for row in rows] == ["0.804", "MiB", "MiB"]
    assert len(line) == max(len(head), *map(len, rows))


def test_markdown_has_as_many_cells_in_each_row() -> None:
    lines = markdown(goal_rows(FIGURES)).splitlines()
    assert lines[1] == "| --- | --- | --- | --- | --- | --- | --- | --- |"
    assert {line.count("|") for line in lines} == {9}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.9734, "0.973"), (1.026, "1.03"), (41.23, "41.2"), (1324.4, "1324"), (-2.346, "-2.35"), (0.0, "0.000")],
)
def test_three_digits(value: float, shown: str) -> None:
    assert number(value) == shown
