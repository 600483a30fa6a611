"""A few rows are computed together or apart, whichever this machine does faster."""

from __future__ import annotations

import pytest

from engine.runner.row_division import LEAST_SECONDS, LOOK_AGAIN, MOST_ROWS, TRIES, RowDivision
from tests.engine.runner.harness import LIKELIEST, Runner, chat

TOGETHER, FASTER, SLOWER = 10 * LEAST_SECONDS, 7 * LEAST_SECONDS, 12 * LEAST_SECONDS


def steps(division: RowDivision, rows: int, count: int, together: float, apart: float) -> list[bool]:
    """Which of so many steps are divided, where a step takes one time or the other."""
    chosen = []
    for _ in range(count):
        divided = division.apart(rows)
        division.measured(rows, apart if divided else together, apart=divided)
        chosen.append(divided)
    return chosen


def test_both_ways_are_tried_then_the_faster_one_is_taken() -> None:
    first = [False] * TRIES + [True] * TRIES
    assert steps(RowDivision(), 2, 2 * TRIES + 5, TOGETHER, FASTER) == first + [True] * 5
    assert steps(RowDivision(), 2, 2 * TRIES + 5, TOGETHER, SLOWER) == first + [False] * 5


@pytest.mark.parametrize("apart", [FASTER, SLOWER])
def test_the_slower_way_is_tried_again_rarely(apart: float) -> None:
    division = RowDivision()
    chosen = steps(division, 3, 20 * LOOK_AGAIN, TOGETHER, apart)
    assert 15 * TRIES < chosen.count(apart == SLOWER) < 25 * TRIES


def test_a_machine_that_has_changed_is_noticed() -> None:
    division = RowDivision()
    steps(division, 2, 50, TOGETHER, SLOWER)
    steps(division, 2, 2 * LOOK_AGAIN, TOGETHER, FASTER)
    assert all(steps(division, 2, 50, TOGETHER, FASTER))


@pytest.mark.parametrize("rows", [0, 1, MOST_ROWS + 1, 16])
def test_single_and_many_rows_are_never_divided(rows: int) -> None:
    assert not any(steps(RowDivision(), rows, 50, TOGETHER, FASTER))


def test_passes_that_take_next_to_nothing_are_not_divided() -> None:
    assert not any(steps(RowDivision(), 2, 50, 0.9 * LEAST_SECONDS, 0.1 * LEAST_SECONDS))


def test_answers_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RowDivision, "apart", lambda _, rows: rows > 1)
    runner = Runner()
    questions = [chat("Count to 9"), chat("What is the capital of France?"), chat("Hello!")]
    alone = [runner.ask(question, sampling=LIKELIEST) for question in questions]
    passes = runner.loop.steps
    seqs = [runner.submit(question, sampling=LIKELIEST) for question in questions]
    runner.run()
    assert [runner.text(seq) for seq in seqs] == alone
    assert runner.loop.steps - passes >= sum(seq.n_generated for seq in seqs)
    runner.close()
