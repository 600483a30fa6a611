"""Passes of texts follow the measured speed."""

from engine.runner.embed_budget import ALONE_GOAL, FIRST_GUESS, SHARED_GOAL, SMALLEST, EmbedBudget


def test_a_first_pass_is_small() -> None:
    assert EmbedBudget(4096).tokens(crowded=False) == FIRST_GUESS
    assert EmbedBudget(64).tokens(crowded=False) == 64


def test_passes_take_about_the_time_that_others_can_wait() -> None:
    budget = EmbedBudget(4096)
    budget.measured(2000, 1.0)
    assert budget.tokens(crowded=True) == int(2000 * SHARED_GOAL)
    assert budget.tokens(crowded=False) == int(2000 * ALONE_GOAL)


def test_passes_follow_a_machine_that_becomes_slower() -> None:
    budget = EmbedBudget(4096)
    budget.measured(20_000, 1.0)
    before = budget.tokens(crowded=True)
    for _ in range(30):
        budget.measured(100, 1.0)
    assert SMALLEST <= budget.tokens(crowded=True) < before / 5


def test_a_slow_machine_still_gets_on() -> None:
    budget = EmbedBudget(4096)
    budget.measured(16, 100.0)
    assert budget.tokens(crowded=True) == SMALLEST


def test_a_few_tokens_say_nothing() -> None:
    budget = EmbedBudget(4096)
    budget.measured(2, 1.0)
    assert budget.tokens(crowded=True) == FIRST_GUESS
