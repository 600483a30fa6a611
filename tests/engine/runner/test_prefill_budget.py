"""Prefill chunks follow the measured speed."""

from engine.runner.prefill_budget import ALONE_GOAL, FIRST_GUESS, SHARED_GOAL, SMALLEST, PrefillBudget


def test_a_first_chunk_is_small() -> None:
    assert PrefillBudget(4096).chunk(crowded=False) == FIRST_GUESS
    assert PrefillBudget(64).chunk(crowded=False) == 64


def test_chunks_take_about_the_time_that_others_can_wait() -> None:
    budget = PrefillBudget(4096)
    budget.measured(200, 1.0)
    assert budget.chunk(crowded=True) == int(200 * SHARED_GOAL)
    assert budget.chunk(crowded=False) == int(200 * ALONE_GOAL)


def test_chunks_follow_a_machine_that_becomes_slower() -> None:
    budget = PrefillBudget(4096)
    budget.measured(1000, 1.0)
    before = budget.chunk(crowded=True)
    for _ in range(30):
        budget.measured(100, 1.0)
    assert SMALLEST <= budget.chunk(crowded=True) < before / 5


def test_a_slow_machine_still_gets_on() -> None:
    budget = PrefillBudget(4096)
    budget.measured(16, 100.0)
    assert budget.chunk(crowded=True) == SMALLEST


def test_a_few_tokens_say_nothing() -> None:
    budget = PrefillBudget(4096)
    budget.measured(2, 1.0)
    assert budget.chunk(crowded=True) == FIRST_GUESS
