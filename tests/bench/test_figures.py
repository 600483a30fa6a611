"""Ratios, differences, goals, percentiles."""

from __future__ import annotations

import pytest

from bench.figures import Goal, Measure, Point, alone, difference, percentile, ratio


def test_a_ratio_is_taken_round_by_round() -> None:
    """The second round fell into a noisy minute that halved both sides: the result does not see it."""
    figure = ratio("x", [90.0, 45.0, 90.0], [100.0, 50.0, 100.0])
    assert figure.value == pytest.approx(0.9)
    assert (figure.ours, figure.other) == ((90.0, 45.0, 90.0), (100.0, 50.0, 100.0))


def test_a_difference_is_ours_less_the_other() -> None:
    assert difference("x", "ms", [110.0, 60.0, 112.0], [100.0, 52.0, 100.0]).value == pytest.approx(10)


def test_alone_is_the_median() -> None:
    figure = alone("x", "s", [3.0, 1.0, 2.0])
    assert (figure.value, figure.other) == (2.0, ())


def test_sides_must_have_equally_many_rounds() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratio("x", [1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("goal", "reached"),
    [
        (Goal(">=", 0.97), {0.96: False, 0.97: True, 0.98: True}),
        (Goal("<=", 15), {14: True, 15: True, 16: False, -3: True}),
    ],
)
def test_goals_include_their_bound(goal: Goal, reached: dict[float, bool]) -> None:
    assert {value: goal.reached(value) for value in reached} == reached


def test_a_measure_makes_figures_of_its_rounds() -> None:
    goals = Goal("<=", 5), Goal("<=", 1)
    measure = Measure("first token, s", "s", *goals, Point("First token", "streams", 8), detail=True)
    mine, both = measure.figure("Q8_0", "fresh", [2.0]), measure.figure_beside("Q8_0", "steady", [2.0], [4.0], "Ollama")
    assert (mine.name, mine.value, mine.unit, mine.goal, mine.phase, mine.side) == (
        "Q8_0, first token, s",
        2.0,
        "s",
        goals[0],
        "fresh",
        "",
    )
    assert (both.value, both.unit, both.goal, both.phase, both.side) == (0.5, "", goals[1], "steady", "Ollama")
    assert (mine.point, mine.detail) == (both.point, both.detail) == (measure.point, True)


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 2.0), (0.51, 3.0), (0.99, 4.0), (1.0, 4.0)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == value
