"""The prefill policy on simulated machines of several speeds, with costs that it learns as it goes."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest

from engine.runner.pass_costs import PassCosts
from engine.runner.prefill_policy import ALONE_TARGET, GAP_TARGET, PATIENCE
from tests.engine.runner.prefill_simulation import (
    MACHINES,
    SLOW,
    Request,
    chunks_of,
    every_prompt,
    simulate,
    whole_prompts,
)

CPUS = [name for name, machine in MACHINES.items() if machine.abortable]
STEADY = [name for name, machine in MACHINES.items() if not machine.noise]


def experienced(name: str) -> PassCosts:
    """What a server has learned that has run for a while."""
    costs = PassCosts()
    token = MACHINES[name].token
    simulate(
        MACHINES[name],
        [Request(50 + 90 * (i % 7), 30, arrives=2000 * i * token) for i in range(30)],
        costs=costs,
    )
    return costs


def eight_at_once() -> list[Request]:
    return [Request(130) for _ in range(8)]


def median_first(requests: list[Request]) -> float:
    return statistics.median(request.first for request in requests)


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("name", MACHINES)
def test_eight_prompts_at_once_are_as_fast_as_whole_ones(name: str, fresh: bool) -> None:
    machine, costs = MACHINES[name], PassCosts() if fresh else experienced(name)
    requests, whole = eight_at_once(), eight_at_once()
    ended = simulate(machine, requests, costs=costs)
    assert ended <= 1.02 * simulate(machine, whole, whole_prompts)
    assert median_first(requests) <= 1.02 * median_first(whole)
    assert max(r.first for r in requests) <= 1.02 * max(r.first for r in whole)


@pytest.mark.parametrize("factor", [0.1, 0.5, 1])
def test_a_burst_of_prompts_that_takes_two_seconds_is_computed_at_once(factor: float) -> None:
    """Where a pass of four rows takes a quarter as long as a prompt, and hardly less than one of eight."""
    machine = replace(SLOW, weights=0.04, token=0.0018, row=0.004).slower(factor)
    requests, at_once = eight_at_once(), eight_at_once()
    ended = simulate(machine, requests)
    assert ended <= 1.03 * simulate(machine, at_once, every_prompt)
    assert max(r.first for r in requests) <= 1.1 * max(r.first for r in at_once)


@pytest.mark.parametrize("name", ["slow CPU", "busy CPU", "large model"])
def test_where_passes_are_slow_prompts_are_computed_whole_one_after_the_other(name: str) -> None:
    requests, chunked = eight_at_once(), eight_at_once()
    ended = simulate(MACHINES[name], requests)
    assert all(request.chunks == [130] for request in requests)
    assert [request.first for request in requests] == sorted(request.first for request in requests)
    assert ended < simulate(MACHINES[name], chunked, chunks_of(GAP_TARGET, MACHINES[name]))
    assert max(r.first for r in requests) < 0.9 * max(r.first for r in chunked)


def long_beside_six(name: str) -> list[Request]:
    """Six that decode all the time, and a long prompt that arrives when they do."""
    token = MACHINES[name].token
    return [*(Request(50, 1200) for _ in range(6)), Request(4000, 5, arrives=600 * token)]


@pytest.mark.parametrize("name", ["fast CPU", "GPU", "old GPU"])
def test_a_long_prompt_beside_others_keeps_the_gap_where_the_machine_is_fast_enough(name: str) -> None:
    requests = long_beside_six(name)
    simulate(MACHINES[name], requests, costs=experienced(name))
    assert max(request.gap for request in requests[:6]) <= 1.05 * GAP_TARGET
    whole = long_beside_six(name)
    simulate(MACHINES[name], whole, whole_prompts)
    assert requests[-1].first <= 1.25 * whole[-1].first


@pytest.mark.parametrize("name", ["slow CPU", "large model"])
def test_a_long_prompt_on_a_slow_machine_is_split_as_far_as_it_costs_an_eighth(name: str) -> None:
    requests, whole = long_beside_six(name), long_beside_six(name)
    simulate(MACHINES[name], requests, costs=experienced(name))
    simulate(MACHINES[name], whole, whole_prompts)
    assert requests[-1].first <= 1.15 * whole[-1].first
    assert max(r.gap for r in requests[:6]) < max(r.gap for r in whole[:6]) / 10


def shorts_beside_long(name: str, load: float) -> list[Request]:
    """A long prompt and a stream of short ones that take `load` of the machine."""
    machine = MACHINES[name]
    each = 60 * machine.token + machine.graph + machine.weights + machine.row
    return [Request(3000, 2), *(Request(60, 2, arrives=i * each / load) for i in range(300))]


@pytest.mark.parametrize("name", STEADY)
def test_short_prompts_without_end_do_not_starve_a_long_one(name: str) -> None:
    requests, alone = shorts_beside_long(name, 1.5), [Request(3000, 2)]
    simulate(MACHINES[name], requests, costs=experienced(name))
    simulate(MACHINES[name], alone, costs=experienced(name))
    step = GAP_TARGET + 60 * MACHINES[name].token  # it may end just after the patience did
    assert requests[0].first <= 1.1 * ((1 + PATIENCE) * alone[0].first + len(requests[0].chunks) * step)


@pytest.mark.parametrize("name", [name for name in STEADY if name != "GPU"])  # there the long one takes less than a gap
def test_short_prompts_do_not_wait_for_a_long_one(name: str) -> None:
    requests, whole = shorts_beside_long(name, 0.5), shorts_beside_long(name, 0.5)
    simulate(MACHINES[name], requests, costs=experienced(name))
    simulate(MACHINES[name], whole, whole_prompts)
    shorts = [request.first for request in requests[1:] if request.arrives < requests[0].times[0]]
    one = 60 * MACHINES[name].token
    assert statistics.median(shorts) <= ALONE_TARGET + 4 * one
    assert sum(shorts) < 0.5 * sum(request.first for request in whole[1 : len(shorts) + 1])


@pytest.mark.parametrize("name", STEADY)
def test_a_prompt_in_passes_of_one_token_takes_little_from_others(name: str) -> None:
    """Its own `num_batch` is 1: it takes part of the time, a fifth at most."""
    others = [Request(130, 100) for _ in range(4)]
    alone = simulate(MACHINES[name], others, costs=experienced(name))
    beside = [Request(130, 100) for _ in range(4)]
    simulate(MACHINES[name], [Request(400, 2, limit=1), *beside], costs=experienced(name))
    assert max(request.times[-1] for request in beside) <= (1 + 1 / PATIENCE) * 1.05 * alone


@pytest.mark.parametrize("name", CPUS)
@pytest.mark.parametrize("grid", [32, 128])
def test_a_grid_costs_little(name: str, grid: int) -> None:
    requests, free = ([Request(60 + 37 * i, 40, grid=cells) for i in range(8)] for cells in (grid, 0))
    ended = simulate(MACHINES[name], requests, costs=experienced(name))
    assert ended <= 1.1 * simulate(MACHINES[name], free, costs=experienced(name))


def test_on_a_machine_that_has_become_slower_the_gap_is_kept_again() -> None:
    machine, faster = MACHINES["fast CPU"], MACHINES["fast CPU"].slower(0.5)
    costs = PassCosts()
    simulate(faster, long_beside_six("fast CPU"), costs=costs)
    simulate(machine, long_beside_six("fast CPU"), costs=costs)
    requests = long_beside_six("fast CPU")
    simulate(machine, requests, costs=costs)
    assert max(request.gap for request in requests[:6]) <= 1.05 * GAP_TARGET


def test_the_same_policy_holds_over_four_orders_of_speed() -> None:
    """Eight at once lose nothing on any machine between a GPU's speed and a hundredth of a slow processor's."""
    for factor in (0.001, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10):
        requests, whole = eight_at_once(), eight_at_once()
        ended = simulate(SLOW.slower(factor), requests)
        assert ended <= 1.03 * simulate(SLOW.slower(factor), whole, whole_prompts), factor
        assert median_first(requests) <= 1.03 * median_first(whole), factor
