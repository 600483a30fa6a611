"""Figures of the result: the measurements of each side and round, and their summary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

OURS = "ours"
"""The name of our side."""


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
class Point:
    """Where a figure stands in the picture: the panel's title, what its x axis counts, and the place on it."""

    panel: str
    axis: str
    x: float


@dataclass(frozen=True, slots=True)
class Figure:
    """A value in `unit` ("" for a ratio) and the rounds that it summarises.

    `ours` and `other` share a unit, such as tokens/s; `other` is empty without another side, and `side` names that.
    `phase` is "fresh" or "steady", "" where traffic before makes no difference. `detail`: it is in the picture and in
    the file, and no row of the table.
    """

    name: str
    value: float
    unit: str
    ours: tuple[float, ...]
    other: tuple[float, ...] = ()
    goal: Goal | None = None
    side: str = ""
    phase: str = ""
    point: Point | None = None
    detail: bool = False


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


@dataclass(frozen=True, slots=True)
class Measure:
    """A value that is taken in each round, by its name; `unit` is "" for a ratio.

    `goal` is that of the value itself, `beside` that of its ratio to another server's. `point` and `detail` are its
    figures'.
    """

    name: str
    unit: str
    goal: Goal | None = None
    beside: Goal | None = None
    point: Point | None = None
    detail: bool = False

    def figure(self, model: str, phase: str, ours: Sequence[float]) -> Figure:
        """The rounds of our side alone."""
        return self.placed(alone(f"{model}, {self.name}", self.unit, ours, self.goal), phase)

    def figure_beside(self, model: str, phase: str, ours: Sequence[float], other: Sequence[float], side: str) -> Figure:
        """The rounds of our side and of another server, called `side`."""
        return self.placed(ratio(f"{model}, {self.name}", ours, other, self.beside), phase, side)

    def placed(self, figure: Figure, phase: str, side: str = "") -> Figure:
        """A figure of this measure, with its phase and what else is not in the values."""
        return replace(figure, phase=phase, side=side, point=self.point, detail=self.detail)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share of them does not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]
