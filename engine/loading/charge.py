"""What models take of each device, and what there is: the scheduler's numbers. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from engine.messages import HOST

Room = Mapping[str, float]
"""Bytes that may be taken of devices, by their names as in `Charge`; of others any number."""


@dataclass(frozen=True, slots=True)
class Charge:
    """Bytes by device: HOST, this machine's memory, or llama.cpp's name of a GPU. Others have none."""

    parts: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of(cls, parts: Iterable[tuple[str, float]]) -> Charge:
        """The sums by device of what has been taken."""
        sums: dict[str, float] = {}
        for device, size in parts:
            sums[device] = sums.get(device, 0) + size
        return cls(tuple(sorted((device, size) for device, size in sums.items() if size)))

    def __add__(self, other: Charge) -> Charge:
        return Charge.of((*self.parts, *other.parts))

    def __sub__(self, other: Charge) -> Charge:
        return self + other * -1

    def __mul__(self, times: float) -> Charge:
        return Charge.of((device, size * times) for device, size in self.parts)

    @property
    def total(self) -> int:
        """On all devices together."""
        return math.ceil(sum(size for _, size in self.parts))

    def on(self, device: str) -> float:
        """On one device."""
        return next((size for name, size in self.parts if name == device), 0)

    def left_of(self, budget: Room) -> Room:
        """What it leaves."""
        return {device: size - self.on(device) for device, size in budget.items()}

    def short(self, budget: Room, taken: Charge) -> frozenset[str]:
        """The devices that have no room for it beside those who have `taken` some; alone it may take any number."""
        return frozenset(
            device
            for device, size in self.parts
            if size > 0 and taken.on(device) > 0 and taken.on(device) + size > budget.get(device, math.inf)
        )


NOTHING = Charge()


def charge(size: int | Charge) -> Charge:
    """A number is bytes of this machine's memory."""
    return size if isinstance(size, Charge) else Charge.of([(HOST, size)])


def total(charges: Iterable[Charge]) -> Charge:
    """Their sum."""
    return Charge.of(part for each in charges for part in each.parts)
