"""What is taken from runs and clocks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bench.measure import Metered, prefix_gain
from bench.run import Run


class Slowing:
    """A side whose first token comes after as many seconds as its prompt has new characters; also a clock."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def run(self, prompts: Sequence[str], n_tokens: int) -> Run:
        known = max((common(prompts[0], old) for old in self.prompts), default=0)
        self.prompts += prompts
        wait = float(len(prompts[0]) - known)
        return Run((wait,), (wait + 1,), (n_tokens,))

    def cpu_seconds(self) -> float:
        return 0.5 * len(self.prompts)


def common(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def test_cost_is_that_of_all_tokens() -> None:
    side = Slowing()
    metered = Metered(side, side)
    metered.run(["abc"], 10)
    metered.run(["def"], 40)
    assert metered.cost == pytest.approx(1000 / 50)


def test_the_second_request_shares_the_prefix_and_no_more() -> None:
    side = Slowing()
    assert 0 < prefix_gain(side, 0) < 0.05
    first, second = side.prompts
    assert len(first[: common(first, second)].split()) in (1200, 1201)


def test_every_turn_has_another_prefix() -> None:
    side = Slowing()
    gains = [prefix_gain(side, turn) for turn in range(3)]
    assert max(gains) < 0.05
    assert len({prompt[:40] for prompt in side.prompts}) == 3
