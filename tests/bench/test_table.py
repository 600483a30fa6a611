"""The report as text and as Markdown."""

from __future__ import annotations

import pytest

from bench.figures import Goal, alone, ratio
from bench.table import goal_rows, markdown, number, plain, server_rows

FIGURES = [
    ratio("tokens/s", [40.0, 41.0, 42.0], [50.0, 51.0, 52.0], Goal(">=", 0.97, "others 0.5")),
    alone("memory", "MiB", [100.25], Goal("<=", 120)),
    alone("own memory", "MiB", [80.0]),
]


def test_rows_with_goals() -> None:
    assert goal_rows(FIGURES)[1:] == [
        ("tokens/s", "41.0", "51.0", "0.804", ">= 0.97", "NO", "others 0.5"),
        ("memory", "", "", "100 MiB", "<= 120 MiB", "yes", ""),
        ("own memory", "", "", "80.0 MiB", "", "", ""),
    ]


def test_rows_of_two_servers() -> None:
    assert server_rows(FIGURES[:1])[1:] == [("tokens/s", "41.0", "51.0", "0.804")]


def test_plain_columns_line_up() -> None:
    head, line, *rows = plain(goal_rows(FIGURES)).splitlines()
    assert set(line) == {"-"}
    end = head.index("result") + len("result")
    assert [row[:end].split()[-1] for row in rows] == ["0.804", "MiB", "MiB"]
    assert len(line) == max(len(head), *map(len, rows))


def test_markdown_has_as_many_cells_in_each_row() -> None:
    lines = markdown(goal_rows(FIGURES)).splitlines()
    assert lines[1] == "| --- | --- | --- | --- | --- | --- | --- |"
    assert {line.count("|") for line in lines} == {8}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.9734, "0.973"), (1.026, "1.03"), (41.23, "41.2"), (1324.4, "1324"), (-2.346, "-2.35"), (0.0, "0.000")],
)
def test_three_digits(value: float, shown: str) -> None:
    assert number(value) == shown
