"""What passes cost is learned from those that ran."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runner.pass_costs import PassCosts, PassWork
from tests.engine.runner.prefill_simulation import MACHINES, Machine

works = st.builds(PassWork.prompt, st.integers(1, 8192), st.integers(0, 100_000), st.just(512)) | st.builds(
    lambda rows, depth, graphs: PassWork(0, rows, rows * depth, graphs),
    st.integers(1, 64),
    st.integers(1, 100_000),
    st.integers(1, 8),
)


def traffic(machine: Machine, costs: PassCosts, passes: int, seed: int = 1) -> None:
    """Measure mixed passes: some prompts, more rows."""
    chance = random.Random(seed)
    for _ in range(passes):
        if chance.random() < 0.2:
            start = chance.choice([0, 0, 500, 2000])
            work = PassWork.prompt(chance.choice([20, 60, 130, 400, 1000]), start, machine.n_ubatch)
        else:
            rows = chance.randint(1, 8)
            work = PassWork(0, rows, rows * chance.randint(50, 1500))
        costs.measured(work, machine.seconds(work, chance))


def error(machine: Machine, costs: PassCosts, work: PassWork) -> float:
    """The estimate relative to the truth without noise."""
    return costs.seconds(work) / machine.quiet().seconds(work, random.Random())


def test_before_anything_was_measured_nothing_is_known() -> None:
    costs = PassCosts()
    assert not costs.known
    assert costs.seconds(PassWork.prompt(100, 0, 512)) == costs.graph_seconds == 0


def test_the_first_prompt_tells_what_others_of_its_size_take() -> None:
    costs = PassCosts()
    costs.measured(PassWork.prompt(100, 0, 512), 1.0)
    assert costs.known
    assert costs.seconds(PassWork.prompt(100, 0, 512)) == pytest.approx(1.0)
    assert 1.8 < costs.seconds(PassWork.prompt(200, 0, 512)) < 2.2
    assert 0 < costs.seconds(PassWork(0, 1, 100)) < 0.2


def test_rows_alone_tell_nothing_of_prompts() -> None:
    costs = PassCosts()
    costs.measured(PassWork(0, 4, 400), 0.1)
    assert not costs.known
    assert costs.seconds(PassWork(0, 4, 400)) == pytest.approx(0.1)


def test_a_chunk_attends_to_what_came_before_it() -> None:
    assert PassWork.prompt(3, 10, 512).cells == 11 + 12 + 13
    assert [PassWork.prompt(tokens, 0, 512).graphs for tokens in (1, 512, 513)] == [1, 1, 2]


@pytest.mark.parametrize("name", MACHINES)
def test_costs_of_all_sizes_are_learned(name: str) -> None:
    machine, costs = MACHINES[name], PassCosts()
    traffic(machine, costs, 600)
    for tokens, start in [(100, 0), (300, 300), (1000, 0), (1000, 2000)]:
        assert 0.7 < error(machine, costs, PassWork.prompt(tokens, start, machine.n_ubatch)) < 1.4
    for rows in (1, 4, 8):
        assert 0.8 < error(machine, costs, PassWork(0, rows, rows * 700)) < 1.25


def test_a_few_disturbed_passes_spoil_nothing() -> None:
    machine, costs = MACHINES["slow CPU"], PassCosts()
    traffic(machine, costs, 100)
    work = PassWork.prompt(130, 0, 512)
    before = costs.seconds(work)
    for _ in range(4):
        costs.measured(work, 10 * before)
    assert costs.seconds(work) == pytest.approx(before, rel=0.15)


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_costs_follow_a_machine_whose_speed_changes(factor: float) -> None:
    machine, costs = MACHINES["slow CPU"], PassCosts()
    traffic(machine, costs, 1000)
    changed = machine.slower(factor)
    traffic(changed, costs, 60, seed=2)
    assert 0.8 < error(changed, costs, PassWork.prompt(300, 0, 512)) < 1.25
    assert 0.8 < error(changed, costs, PassWork(0, 8, 8 * 300)) < 1.25


def test_many_passes_of_rows_do_not_make_it_forget_prompts() -> None:
    machine, costs = MACHINES["slow CPU"], PassCosts()
    traffic(machine, costs, 200)
    work = PassWork.prompt(300, 100, 512)
    before = costs.seconds(work)
    for _ in range(5000):
        costs.measured(PassWork(0, 8, 4000), 0.2)
    assert costs.seconds(work) == before


@given(
    st.lists(st.tuples(works, st.floats(1e-5, 100)), min_size=1, max_size=40),
    st.lists(works, min_size=1, max_size=5),
)
def test_estimates_are_positive_whatever_was_measured(
    measured: list[tuple[PassWork, float]], asked: list[PassWork]
) -> None:
    costs = PassCosts()
    for work, seconds in measured:
        costs.measured(work, seconds)
    assert all(costs.seconds(work) > 0 for work in asked)


@given(st.lists(works, min_size=1, max_size=5))
def test_a_pass_without_duration_says_nothing(asked: list[PassWork]) -> None:
    costs = PassCosts()
    for work in asked:
        costs.measured(work, 0.0)
    assert not costs.known
