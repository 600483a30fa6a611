"""Figures of the result table: the measurements of each side and round, and their summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal


@dataclass(frozen=True, slots=True)
class Goal:
    """A target: at least or at most `bound`. `peers` is what other servers reach, for comparison."""

    relation: Literal[">=", "<="]
    bound: float
    peers: str = ""

    def reached(self, value: float) -> bool:
        """Whether a value meets the goal."""
        return value >= self.bound if self.relation == ">=" else value <= self.bound


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: a value in `unit` ("" for a ratio) and the rounds that it summarises.

    `ours` and `other` share a unit, such as tokens/s; `other` is empty without another side.
    """

    name: str
    value: float
    unit: str
    ours: tuple[float, ...]
    other: tuple[float, ...] = ()
    goal: Goal | None = None


def ratio(name: str, ours: Sequence[float], other: Sequence[float], goal: Goal | None = None) -> Figure:
    """The median of the rounds' quotients, so that noise on both sides of a round cancels out."""
    value = median(a / b for a, b in zip(ours, other, strict=True))
    return Figure(name, value, "", tuple(ours), tuple(other), goal)


def difference(name: str, unit: str, ours: Sequence[float], other: Sequence[float], goal: Goal | None = None) -> Figure:
    """The median of the rounds' differences, ours minus the other's."""
    value = median(a - b for a, b in zip(ours, other, strict=True))
    return Figure(name, value, unit, tuple(ours), tuple(other), goal)


def alone(name: str, unit: str, ours: Sequence[float], goal: Goal | None = None) -> Figure:
    """The median of a figure that only our side has."""
    return Figure(name, median(ours), unit, tuple(ours), (), goal)
