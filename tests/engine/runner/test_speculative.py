"""Tokens are drafted where that pays, by what passes cost and how often drafts were right."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable

import pytest

from engine.runner.speculative import FIRST, LEAST_SECONDS, MOST_DEBT, OLD, ROWS, Acceptance, Drafts, Speculation

SINGLE = 20 * LEAST_SECONDS
MOST = ROWS[-1] - 1

Cost = Callable[[int], float]


def cheap(rows: int) -> float:
    """In passes of one row."""
    return 1 + 0.2 * (rows - 1)


def dear(rows: int) -> float:
    """As where two rows take three times as long as one."""
    return 1.5 * rows if rows > 1 else 1


class Machine:
    """Writes a text that somebody else knows, with passes that take as long as `cost` says, in rows."""

    def __init__(self, cost: Cost, single: float = SINGLE) -> None:
        self.cost = cost
        self.single = single
        self.speculation = Speculation("auto", MOST + 1)
        self.passes: list[int] = []
        self.spent = 0.0

    def write(self, prompt: list[int], answer: list[int], most: int = MOST) -> Drafts:
        """Write an answer; `passes` get the number of rows of each pass, `spent` what they cost."""
        tokens = array("i", prompt)
        drafts = self.speculation.begin(tokens)
        ahead = list(answer)
        while ahead:
            draft = self.speculation.draft(drafts, 2, min(most, len(ahead) - 1))
            self.passes.append(1 + len(draft))
            self.spent += self.cost(1 + len(draft))
            seconds = self.cost(1 + len(draft)) * self.single
            right = 0
            while right < len(draft) and draft[right] == ahead[right]:
                right += 1
            tokens.extend(ahead[: right + 1])
            del ahead[: right + 1]
            if draft:
                self.speculation.verified(drafts, 2, seconds, len(draft), right)
            else:
                self.speculation.computed(2, seconds)
        return drafts


def noise(count: int, seed: int, kinds: int = 10**6) -> list[int]:
    dice = random.Random(seed)
    return [dice.randrange(kinds) for _ in range(count)]


def test_a_text_that_is_repeated_takes_few_passes() -> None:
    machine = Machine(cheap)
    text = noise(400, 1)
    drafts = machine.write(text, text)
    assert machine.spent < 0.5 * len(text)
    assert drafts.accepted > 0.8 * len(text)
    assert (machine.speculation.drafted, machine.speculation.accepted) == (drafts.drafted, drafts.accepted)


def test_where_rows_are_dear_nothing_is_drafted_for_long() -> None:
    machine = Machine(dear)
    for seed in range(5):
        text = noise(400, seed)
        machine.write(text, text)
    assert machine.spent < 1.02 * 2000
    assert sum(rows > 1 for rows in machine.passes) < 25


@pytest.mark.parametrize("cost", [cheap, dear, lambda rows: 1 + 0.6 * (rows - 1), lambda rows: 1 + 0.35 * (rows - 1)])
@pytest.mark.parametrize("kinds", [2, 3, 5, 12, 40])
def test_texts_that_only_look_as_if_they_repeat_cost_little(kinds: int, cost: Cost) -> None:
    machine = Machine(cost)
    for seed in range(4):
        machine.write(noise(300, seed, kinds), noise(500, 100 + seed, kinds))
    assert machine.spent < 1.02 * 2000


def test_what_wrong_estimates_may_cost_is_bounded() -> None:
    machine = Machine(cheap)
    text = noise(400, 1)
    machine.write(text, text)
    machine.cost, machine.spent = dear, 0.0  # though all are right
    for seed in range(4):
        text = noise(500, 10 + seed)
        machine.write(text, text)
    assert machine.spent < 1.03 * 2000 + MOST_DEBT


def test_dear_rows_are_tried_again_after_long() -> None:
    machine = Machine(dear)
    text = noise(3 * OLD, 1)
    machine.write(text, text)
    machine.cost, machine.spent = cheap, 0.0
    for seed in range(6):
        text = noise(OLD, 10 + seed)
        machine.write(text, text)
    assert machine.spent < 0.8 * 6 * OLD


def test_passes_that_take_next_to_nothing_have_no_drafts() -> None:
    machine = Machine(cheap, 0.9 * LEAST_SECONDS)
    text = noise(200, 1)
    machine.write(text, text)
    assert set(machine.passes) == {1}


def test_nothing_is_drafted_before_passes_were_measured() -> None:
    machine = Machine(cheap)
    text = noise(200, 1)
    machine.write(text, text)
    assert machine.passes[:FIRST] == [1] * FIRST


@pytest.mark.parametrize("most", [0, 1, 4])
def test_no_more_is_drafted_than_may_be(most: int) -> None:
    machine = Machine(cheap)
    text = noise(200, 1)
    machine.write(text, text, most)
    assert max(machine.passes) <= 1 + most


def test_each_number_of_threads_has_costs_of_its_own() -> None:
    machine = Machine(cheap)
    text = noise(200, 1)
    drafts = machine.write(text, text)
    assert machine.speculation.draft(drafts, 2, MOST) != []
    assert machine.speculation.draft(drafts, 1, MOST) == []


def test_longer_matches_are_trusted_by_what_came_of_them() -> None:
    acceptance = Acceptance(20)
    for _ in range(40):
        acceptance.count(3, hit=False)
        acceptance.count(20, hit=True)
    assert acceptance.tokens(3, 2)[1] < 1.15
    assert acceptance.tokens(20, 1)[1] > 1.9
    assert Acceptance(20, acceptance).tokens(3, 1) == acceptance.tokens(3, 1)
