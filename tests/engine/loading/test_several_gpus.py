"""Models on two cards of 10 units: who goes where, who must go for whom, and that no card is promised twice."""

from __future__ import annotations

import dataclasses
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from engine.loading.charge import Charge
from engine.loading.scheduler import Scheduler
from engine.loading.state import Action, CacheSize, Grant, LoadSpec, Resize, StartLoad, Unload
from engine.messages import HOST

BUDGET = {HOST: 100, "CUDA0": 10, "CUDA1": 10}


def on(first: float = 0, second: float = 0, host: float = 1) -> Charge:
    return Charge.of([("CUDA0", first), ("CUDA1", second), (HOST, host)])


def alone_or_split(size: int) -> tuple[Charge, ...]:
    """A model that fits on either card, or on both with its layers divided."""
    return on(size), on(0, size), on(size / 2, size / 2)


class Machine:
    """A scheduler whose loads take what was reserved for them, and whose processes end at once."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(9, 512, BUDGET)
        self.now = 0.0
        self.tickets = 0
        self.loads: list[str] = []
        self.gone: list[str] = []
        self.running: dict[str, list[int]] = {}

    def ask(self, key: str, *needs: Charge, ends: bool = True) -> None:
        self.now += 1000.0
        self.tickets += 1
        spec = LoadSpec(key=key, num_ctx=256, bytes_needed=needs)
        self.running.setdefault(key, []).append(self.tickets)
        self.carry_out(self.scheduler.request(self.tickets, spec, None, 1e9, self.now))
        if ends:
            self.end(key)

    def end(self, key: str) -> None:
        for ticket in self.running.pop(key, []):
            self.carry_out(self.scheduler.finished(ticket, self.now))

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case StartLoad(key):
                    self.loads.append(key)
                    size = self.taken()[key]
                    cache = CacheSize(256, dataclasses.replace(size) * (0.1 / 256), 1)
                    self.carry_out(self.scheduler.loaded(key, self.now, 1.0, size, cache))
                case Unload(key):
                    self.gone.append(key)
                    self.carry_out(self.scheduler.unloaded(key, self.now))
                case Resize(key, num_ctx, cells):
                    cache = CacheSize(cells, self.taken()[key] * 0, 1)
                    self.carry_out(self.scheduler.context_changed(key, self.now, num_ctx, self.taken()[key], cache))
                case Grant():
                    pass

    def taken(self) -> dict[str, Charge]:
        return {key: runner.taken for key, runner in self.scheduler._runners.by_key.items()}

    def check(self) -> None:
        """No card has more than it holds, unless one model has it alone."""
        sums: Counter[str] = Counter()
        users: Counter[str] = Counter()
        for charge in self.taken().values():
            for device, size in charge.parts:
                sums[device] += size
                users[device] += 1
        assert all(users[device] == 1 or size <= BUDGET[device] + 1e-9 for device, size in sums.items())


def test_a_model_on_one_card_takes_nothing_of_the_other() -> None:
    machine = Machine()
    machine.ask("a", on(9), ends=False)
    machine.ask("b", on(0, 9), ends=False)
    machine.ask("c", on(1), ends=False)
    assert machine.loads == ["a", "b", "c"]
    machine.ask("d", on(0, 2), ends=False)
    assert machine.loads == ["a", "b", "c"], "it waits for the second card"
    machine.end("c")
    assert machine.loads == ["a", "b", "c"], "of the first there is enough"
    machine.end("b")
    assert (machine.loads[-1], machine.gone) == ("d", ["b"])


def test_two_cards_with_five_each_are_not_one_with_ten() -> None:
    machine = Machine()
    machine.ask("a", on(5))
    machine.ask("b", on(0, 5))
    machine.ask("c", on(8), on(0, 8))
    assert machine.gone == ["a"], "one of them goes, the one that was used first"
    assert machine.taken()["c"] == on(8)


def test_a_model_whose_layers_may_be_divided_needs_nobody_to_go() -> None:
    machine = Machine()
    machine.ask("a", on(5))
    machine.ask("b", on(0, 5))
    machine.ask("c", *alone_or_split(8))
    assert machine.gone == []
    assert machine.taken()["c"] == on(4, 4)


def test_the_card_is_taken_where_the_fewest_must_go() -> None:
    machine = Machine()
    machine.ask("a", on(4))
    machine.ask("b", on(4))
    machine.ask("c", on(0, 9))
    machine.ask("d", on(9), on(0, 9))
    assert machine.gone == ["c"]
    assert machine.taken()["d"] == on(0, 9)


def test_models_on_the_processor_do_not_go_for_one_on_a_card() -> None:
    machine = Machine()
    machine.ask("old", on(host=50))
    machine.ask("a", on(9))
    machine.ask("b", on(9))
    assert machine.gone == ["a"]
    machine.ask("c", on(host=60))
    assert machine.gone == ["a", "old"], "and a card is not freed for what the machine lacks, where that suffices"


def test_what_is_larger_than_a_card_is_loaded_alone_there() -> None:
    machine = Machine()
    machine.ask("a", on(5))
    machine.ask("b", on(0, 5))
    machine.ask("c", on(12))
    assert (machine.gone, machine.loads[-1]) == (["a"], "c")


def test_room_and_promises_are_told_for_each_device() -> None:
    scheduler = Scheduler(9, 9, BUDGET, max_loads=2)
    scheduler.request(1, LoadSpec(key="a", num_ctx=1, bytes_needed=(on(4),)), None, 1.0, 0.0)
    scheduler.request(2, LoadSpec(key="b", num_ctx=1, bytes_needed=(on(0, 3),)), None, 1.0, 0.0)
    assert scheduler.room_for("b") == {HOST: 99, "CUDA0": 6, "CUDA1": 10}
    assert scheduler.promised("b") == on(4)
    scheduler.reserve("a", on(2, 2))
    assert scheduler.room_for("b") == {HOST: 99, "CUDA0": 8, "CUDA1": 8}


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcdef"),
            st.sampled_from(["first", "second", "either", "split", "machine"]),
            st.integers(1, 12),
            st.booleans(),
        ),
        max_size=30,
    )
)
def test_no_card_is_ever_promised_twice(requests: list[tuple[str, str, int, bool]]) -> None:
    machine = Machine()
    for key, where, size, ends in requests:
        needs = {
            "first": (on(size),),
            "second": (on(0, size),),
            "either": alone_or_split(size),
            "split": (on(size / 2, size / 2),),
            "machine": (on(host=8 * size),),
        }[where]
        machine.ask(key, *needs, ends=ends)
        machine.check()
    for key in list(machine.running):
        machine.end(key)
        machine.check()
    assert {runner.state.value for runner in machine.scheduler.runners()} <= {"ready"}, "nobody waits for ever"
    assert machine.scheduler.waiting == 0
