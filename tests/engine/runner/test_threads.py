"""Passes use fewer threads while others want the cores, and all of them again afterwards."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runner.threads import BEARABLE, FIRST_PAUSE, LONGEST_PAUSE, WINDOW, FreeCores


class Machine:
    """A simulated machine: `cores` of them, of which other programs keep some busy while our threads compute."""

    def __init__(self, cores: int) -> None:
        self.busy = 0
        self.cores = cores
        self.now = 0.0
        self.delays = dict.fromkeys(range(cores), 0)
        self.free = FreeCores(cores, lambda: dict(self.delays), lambda: self.now)

    def run(self, seconds: float) -> set[int]:
        """Passes for so long; returns the numbers of threads that they had."""
        counts = set()
        end = self.now + seconds
        while self.now < end:
            counts.add(self.free.count)
            self.now += WINDOW
            shared = max(self.free.count + self.busy - self.cores, 0)  # threads that have half a core
            for thread in range(min(shared, self.free.count)):
                self.delays[thread] += round(WINDOW / 2 * 1e9)
            self.free.passed(WINDOW)
        return counts


@pytest.mark.parametrize("cores", [2, 3, 8, 64])
def test_on_a_machine_of_their_own_all_threads_run(cores: int) -> None:
    assert Machine(cores).run(60) == {cores}


@pytest.mark.parametrize(("cores", "busy"), [(2, 1), (4, 1), (8, 3), (64, 40)])
def test_each_thread_that_is_left_has_a_core(cores: int, busy: int) -> None:
    machine = Machine(cores)
    machine.busy = busy
    machine.run(10)
    assert machine.free.count == cores - busy


@pytest.mark.parametrize("busy", [2, 5])
def test_one_thread_always_runs(busy: int) -> None:
    machine = Machine(2)
    machine.busy = busy
    machine.run(60)
    assert machine.run(60) <= {1, 2}
    assert machine.free.count >= 1


@pytest.mark.parametrize(("cores", "busy"), [(2, 1), (8, 5)])
def test_all_come_back_when_the_others_have_gone(cores: int, busy: int) -> None:
    machine = Machine(cores)
    machine.busy = busy
    machine.run(300)
    machine.busy = 0
    machine.run(LONGEST_PAUSE + 4 * WINDOW * busy)
    assert machine.run(60) == {cores}


def test_vain_tries_become_rare() -> None:
    machine = Machine(2)
    machine.busy = 1
    tries = []
    for _ in range(4 * 100):
        before = machine.free.count
        machine.run(WINDOW)
        if machine.free.count > before:
            tries.append(machine.now)
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert pauses == sorted(pauses)
    assert FIRST_PAUSE < pauses[0] < 3 * FIRST_PAUSE
    assert LONGEST_PAUSE <= pauses[-1] < LONGEST_PAUSE + 3 * WINDOW


def test_short_disturbances_are_borne() -> None:
    machine = Machine(2)
    for _ in range(100):
        machine.delays[1] += round(WINDOW * BEARABLE / 2 * 0.9 * 1e9)
        machine.run(WINDOW)
    assert machine.free.count == 2


def test_what_a_thread_waited_before_it_was_seen_does_not_count() -> None:
    machine = Machine(2)
    machine.run(1)
    machine.delays = {7: 10**12, 8: 10**12}
    assert machine.run(1) == {2}


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(1, 8))
def test_the_number_stays_within_bounds(busy: list[int], cores: int) -> None:
    machine = Machine(cores)
    for machine.busy in busy:
        machine.run(WINDOW)
        assert 1 <= machine.free.count <= cores
