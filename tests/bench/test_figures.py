"""Ratios, differences, goals."""

from __future__ import annotations

import pytest

from bench.figures import Goal, alone, difference, ratio


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
