"""Chunks of prompts are chosen by what passes cost."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runner.pass_costs import PassCosts, PassWork
from engine.runner.prefill_policy import ALONE_TARGET, FIRST_GUESS, GAP_TARGET, MUCH_SHORTER, PATIENCE, Prompt
from tests.engine.runner.prefill_simulation import MACHINES, Machine

NOBODY = PassWork(0, 0, 0, 0)


def learned(machine: Machine) -> PassCosts:
    """Costs after some passes of all sizes, without noise."""
    costs = PassCosts()
    chance = random.Random(3)
    for _ in range(400):
        prompt = PassWork.prompt(chance.choice([20, 130, 400, 1000]), chance.choice([0, 2000]), machine.n_ubatch)
        rows = chance.randint(1, 8)
        for work in (prompt, PassWork(0, rows, rows * chance.randint(50, 1000))):
            costs.measured(work, machine.quiet().seconds(work, chance))
    return costs


COSTS = {name: learned(machine) for name, machine in MACHINES.items()}


def chunks(name: str, prompts: list[Prompt], rows: int = 0) -> list[tuple[int, int]]:
    """What the policy chooses on a machine beside so many rows at depth 100."""
    decoding = PassWork(0, rows, rows * 100) if rows else NOBODY
    return MACHINES[name].policy().chunks(prompts, decoding, COSTS[name])


def seconds(name: str, prompts: list[Prompt], chosen: list[tuple[int, int]]) -> float:
    """What chunks are expected to take."""
    done = [prompt.start for prompt in prompts]
    total = 0.0
    for i, tokens in chosen:
        total += COSTS[name].seconds(PassWork.prompt(tokens, done[i], MACHINES[name].n_ubatch))
        done[i] += tokens
    return total


def test_without_prompts_there_is_nothing_to_do() -> None:
    assert chunks("slow CPU", [], rows=3) == []


@pytest.mark.parametrize("rows", [0, 3])
def test_before_anything_was_measured_one_prompt_gets_a_guess_in_tokens(rows: int) -> None:
    policy = MACHINES["slow CPU"].policy()
    decoding = PassWork(0, rows, 100 * rows)
    assert policy.chunks([Prompt(FIRST_GUESS + 2), Prompt(8)], decoding, PassCosts()) == [(0, FIRST_GUESS + 2)]
    assert policy.chunks([Prompt(8 * FIRST_GUESS), Prompt(8)], decoding, PassCosts()) == [(0, FIRST_GUESS)]
    assert policy.chunks([Prompt(8 * FIRST_GUESS, limit=32)], decoding, PassCosts())[0] == (0, 32)


def test_a_prompt_that_nobody_waits_for_is_not_split() -> None:
    assert chunks("fast CPU", [Prompt(1500)]) == [(0, 1500)]
    assert chunks("slow CPU", [Prompt(180)]) == [(0, 180)]
    assert chunks("GPU", [Prompt(2000)]) == [(0, 2000)]


def test_passes_of_a_prompt_alone_are_equal_and_no_larger_than_the_batch() -> None:
    assert chunks("GPU", [Prompt(5000)]) == [(0, 1667)]


def test_who_arrives_while_a_prompt_is_alone_does_not_wait_many_seconds() -> None:
    prompts = [Prompt(3000)]
    chosen = chunks("slow CPU", prompts)
    assert ALONE_TARGET / 2 < seconds("slow CPU", prompts, chosen) <= ALONE_TARGET


@pytest.mark.parametrize("name", ["slow CPU", "large model"])
@pytest.mark.parametrize("rows", range(1, 8))
def test_where_splitting_costs_more_than_it_saves_prompts_are_computed_whole(name: str, rows: int) -> None:
    assert chunks(name, [Prompt(130)] * (8 - rows), rows) == [(0, 130)]


@pytest.mark.parametrize("rows", [1, 4, 8])
def test_where_it_does_not_the_gap_keeps_to_its_target(rows: int) -> None:
    prompts = [Prompt(1000)]
    chosen = chunks("fast CPU", prompts, rows)
    gap = seconds("fast CPU", prompts, chosen) + COSTS["fast CPU"].seconds(PassWork(0, rows, rows * 100))
    assert GAP_TARGET / 2 < gap <= GAP_TARGET


def test_a_long_prompt_is_split_even_where_that_costs_much() -> None:
    prompts = [Prompt(4000)]
    chosen = chunks("slow CPU", prompts, 6)
    assert seconds("slow CPU", prompts, chosen) < 4 * GAP_TARGET


def test_many_prompts_do_not_silence_a_single_row() -> None:
    prompts = [Prompt(4000)] * 60
    assert seconds("slow CPU", prompts, chunks("slow CPU", prompts, 1)) < 2 * ALONE_TARGET


def test_short_prompts_share_a_step_while_they_fit_into_the_target() -> None:
    prompts = [Prompt(100) for _ in range(8)]
    chosen = chunks("fast CPU", prompts, 32)
    assert chosen == [(i, 100) for i in range(len(chosen))]
    assert 1 < len(chosen) < 8
    assert seconds("fast CPU", prompts, chosen) <= 1.25 * GAP_TARGET


@pytest.mark.parametrize("rows", [0, 1])
def test_in_a_burst_prompts_go_before_few_rows(rows: int) -> None:
    prompts = [Prompt(100) for _ in range(8)]
    assert GAP_TARGET < seconds("fast CPU", prompts, chunks("fast CPU", prompts, rows)) <= ALONE_TARGET
    assert len(chunks("fast CPU", prompts, rows)) == 8
    prompts *= 10
    assert ALONE_TARGET / 2 < seconds("fast CPU", prompts, chunks("fast CPU", prompts, rows)) <= ALONE_TARGET


def test_in_a_burst_a_gpu_keeps_the_gap() -> None:
    prompts = [Prompt(1500) for _ in range(8)]
    assert seconds("GPU", prompts, chunks("GPU", prompts, 1)) <= GAP_TARGET


def test_a_prompt_that_does_not_fit_is_not_begun_but_a_later_one_that_does_is_computed() -> None:
    assert chunks("fast CPU", [Prompt(250), Prompt(240), Prompt(70)], 32) == [(0, 250), (2, 70)]


def test_a_much_shorter_prompt_overtakes_a_longer_one() -> None:
    shorter = 4000 // MUCH_SHORTER
    assert chunks("fast CPU", [Prompt(4000), Prompt(shorter + 1)], 2)[0][0] == 0
    assert chunks("fast CPU", [Prompt(4000), Prompt(shorter)], 2)[0][0] == 1
    assert chunks("fast CPU", [Prompt(4000), Prompt(800), Prompt(100)], 2)[0] == (2, 100)


def test_who_was_overtaken_for_long_is_overtaken_no_more() -> None:
    prompts = [Prompt(4000), Prompt(20)]
    chunk = seconds("fast CPU", prompts[:1], chunks("fast CPU", prompts[:1], 2))
    assert chunks("fast CPU", [Prompt(4000, waited=0.9 * PATIENCE * chunk), Prompt(20)], 2)[0] == (1, 20)
    assert chunks("fast CPU", [Prompt(4000, waited=1.1 * PATIENCE * chunk), Prompt(20)], 2)[0][0] == 0


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("rows", [0, 1, 6])
@pytest.mark.parametrize("grid", [0, 32, 128])
def test_no_small_rest_is_left_for_a_pass_of_its_own(name: str, rows: int, grid: int) -> None:
    for length in range(130, 3000, 61):
        sizes = []
        done = 0
        while done < length:
            sizes.append(sum(tokens for _, tokens in chunks(name, [Prompt(length - done, done, grid=grid)], rows)))
            done += sizes[-1]
        if MACHINES[name].abortable or not grid:
            assert sizes[-1] * 3 >= max(sizes) - grid, sizes


@pytest.mark.parametrize("rows", [0, 4])
def test_what_a_border_of_the_grid_would_leave_over_is_computed_too(rows: int) -> None:
    assert chunks("slow CPU", [Prompt(256 + 4, grid=256)], rows) == [(0, 260)]


def test_chunks_end_on_the_grid() -> None:
    [(_, tokens)] = chunks("fast CPU", [Prompt(1000, 40, grid=64)], 4)
    assert tokens > 64
    assert (40 + tokens) % 64 == 0


def test_a_cell_of_the_grid_is_never_split() -> None:
    assert chunks("large model", [Prompt(600, 0, grid=512)], 1)[0][1] >= 512
    assert chunks("old GPU", [Prompt(2000, 0, grid=1024)], 8) == [(0, 1024)]
    assert chunks("slow CPU", [Prompt(400, 0, limit=16, grid=128)], 1)[0] == (0, 128)


def test_a_prompt_with_a_batch_of_its_own_is_computed_in_the_same_step_as_without() -> None:
    assert chunks("slow CPU", [Prompt(130, limit=65), Prompt(130)], 4) == [(0, 65), (0, 65)]


@pytest.mark.parametrize("name", ["slow CPU", "fast CPU", "GPU"])
@pytest.mark.parametrize("rows", [0, 4])
def test_prompts_slowed_by_their_own_batch_hold_up_nobody(name: str, rows: int) -> None:
    others = [Prompt(130), Prompt(60)]
    slowed = [Prompt(1000, limit=1), Prompt(1000, limit=1)]
    chosen = chunks(name, others, rows)
    assert chunks(name, [*others, *slowed], rows) == chosen
    assert [tokens for _, tokens in chunks(name, [*slowed, *others], rows)] == [tokens for _, tokens in chosen]


@pytest.mark.parametrize("rows", [0, 4])
def test_slowed_prompts_take_turns(rows: int) -> None:
    slowed = [Prompt(1000, limit=1, waited=9), Prompt(1000, limit=1, waited=10)]
    assert chunks("slow CPU", [*slowed, Prompt(130)], rows) == [(2, 130), (1, 1)]


def test_slowed_prompts_alone_are_computed() -> None:
    assert chunks("slow CPU", [Prompt(1000, limit=1), Prompt(1000, limit=1)]) == [(0, 1)]


def test_slowed_prompts_leave_most_of_the_time_to_rows() -> None:
    assert chunks("slow CPU", [Prompt(1000, limit=1)], 4) == []
    assert chunks("slow CPU", [Prompt(1000, limit=1, waited=1)], 4) == [(0, 1)]


prompts = st.builds(
    Prompt,
    pending=st.integers(1, 20_000),
    start=st.integers(0, 30_000),
    limit=st.sampled_from([0, 0, 0, 1, 8, 100, 512]),
    grid=st.sampled_from([0, 0, 32, 100, 256]),
    waited=st.floats(0, 100),
)
rows = st.integers(0, 16)
names = st.sampled_from(sorted(MACHINES))


@given(names, st.lists(prompts, max_size=12), rows, st.booleans())
def test_chunks_are_parts_of_prompts_that_fit_into_a_pass(
    name: str, waiting: list[Prompt], rows: int, known: bool
) -> None:
    policy, costs = MACHINES[name].policy(), COSTS[name] if known else PassCosts()
    decoding = PassWork(0, rows, rows * 1000)
    chosen = policy.chunks(waiting, decoding, costs)
    assert policy.chunks(waiting, decoding, costs) == chosen
    done = [0] * len(waiting)
    for i, tokens in chosen:
        prompt = waiting[i]
        done[i] += tokens
        assert 1 <= tokens <= max(min(policy.n_batch, prompt.limit or policy.n_batch), prompt.grid)
        assert done[i] == prompt.pending or not prompt.grid or (prompt.start + done[i]) % prompt.grid == 0
        assert done[i] <= prompt.pending
    if waiting and (not rows or any(not prompt.limit for prompt in waiting)):
        assert chosen


@given(st.sampled_from(["GPU", "old GPU"]), st.lists(prompts, max_size=12), st.integers(1, 16))
def test_where_a_pass_cannot_be_aborted_a_step_keeps_to_the_target(name: str, waiting: list[Prompt], rows: int) -> None:
    waiting = [replace(prompt, limit=0) for prompt in waiting]
    chosen = chunks(name, waiting, rows)
    one_cell = len(chosen) == 1 and chosen[0][1] <= waiting[chosen[0][0]].grid
    assert one_cell or seconds(name, waiting, chosen) <= GAP_TARGET


@given(st.sampled_from(["slow CPU", "fast CPU"]), st.lists(prompts, min_size=1, max_size=12), rows, st.data())
def test_a_longer_prompt_behind_others_changes_nothing_for_the_first(
    name: str, waiting: list[Prompt], rows: int, data: st.DataObject
) -> None:
    waiting = [replace(prompt, limit=0, waited=0) for prompt in waiting]
    first = chunks(name, waiting, rows)[0][0]
    longest = max(prompt.pending for prompt in waiting)
    assert chunks(name, [*waiting, Prompt(data.draw(st.integers(longest, 40_000)))], rows)[0][0] == first
