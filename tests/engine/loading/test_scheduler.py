"""Who is loaded, who waits, who goes."""

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.loading.scheduler import Scheduler
from engine.loading.state import (
    AbortLoad,
    Action,
    CacheSize,
    Grant,
    Grown,
    LoadSpec,
    Refusal,
    Refuse,
    Resize,
    StartLoad,
    State,
    Unload,
)


def spec(key: str, **wishes: Any) -> LoadSpec:
    return LoadSpec(**{"key": key, "num_ctx": 4096, **wishes})


class Driver:
    """A scheduler with tickets that are counted, and a clock that is set by hand."""

    def __init__(self, max_loaded: int = 3, max_queue: int = 512, budget: int | None = None) -> None:
        self.scheduler = Scheduler(max_loaded, max_queue, budget)
        self.now = 0.0
        self.tickets = 0

    def ask(self, key: str, keep_alive: float | None = None, **wishes: Any) -> list[Action]:
        self.tickets += 1
        return self.scheduler.request(self.tickets, spec(key, **wishes), keep_alive, 300.0, self.now)

    def loaded(self, key: str, cost: float = 1.0, size: int = 0) -> list[Action]:
        return self.scheduler.loaded(key, self.now, cost, size)

    def finish(self, ticket: int) -> list[Action]:
        return self.scheduler.finished(ticket, self.now)

    def unloaded(self, key: str) -> list[Action]:
        return self.scheduler.unloaded(key, self.now)

    def serve(self, key: str, cost: float = 1.0, size: int = 0, **wishes: Any) -> None:
        """Load a model for one request and finish that."""
        assert any(isinstance(action, StartLoad) for action in self.ask(key, **wishes))
        assert self.loaded(key, cost, size) == [Grant(self.tickets, key)]
        self.finish(self.tickets)

    def states(self) -> dict[str, State]:
        return {view.key: view.state for view in self.scheduler.runners()}

    def expiry(self, key: str) -> float:
        (view,) = [view for view in self.scheduler.runners() if view.key == key]
        return view.expiry(self.now)


def test_a_first_request_loads_and_later_ones_run_at_once() -> None:
    driver = Driver()
    assert driver.ask("a") == [StartLoad("a", spec("a"))]
    assert driver.ask("a") == []
    assert driver.loaded("a") == [Grant(1, "a"), Grant(2, "a")]
    assert driver.ask("a") == [Grant(3, "a")]


def test_loads_are_serial_and_in_order() -> None:
    driver = Driver()
    driver.ask("a")
    assert driver.ask("b") == []
    assert driver.ask("c") == []
    assert driver.loaded("a") == [Grant(1, "a"), StartLoad("b", spec("b"))]
    assert driver.loaded("b") == [Grant(2, "b"), StartLoad("c", spec("c"))]


def test_the_line_is_bounded_but_not_for_loaded_models() -> None:
    driver = Driver(max_queue=1)
    driver.ask("a")
    driver.ask("b")
    assert driver.ask("c") == [Refuse(3, Refusal.BUSY)]
    driver.loaded("a")
    assert driver.ask("c") == []
    assert driver.ask("d") == [Refuse(5, Refusal.BUSY)]
    assert driver.ask("a") == [Grant(6, "a")]


def test_a_failed_load_refuses_those_it_would_have_served() -> None:
    driver = Driver()
    driver.ask("a")
    driver.ask("a")
    driver.ask("a", num_ctx=8192, num_ctx_auto=False)
    bigger = spec("a", num_ctx=8192, num_ctx_auto=False)
    assert driver.scheduler.load_failed("a", 0.0, "no memory") == [
        Refuse(1, Refusal.LOAD_FAILED, "no memory"),
        Refuse(2, Refusal.LOAD_FAILED, "no memory"),
        StartLoad("a", bigger),
    ]


def test_sixty_mixed_requests_cost_three_loads() -> None:
    driver = Driver(max_loaded=1)
    actions = [action for _ in range(20) for key in "abc" for action in driver.ask(key)]
    loads = granted = 0
    while actions:
        action = actions.pop(0)
        if isinstance(action, StartLoad):
            loads += 1
            actions += driver.loaded(action.key)
        elif isinstance(action, Grant):
            granted += 1
            actions += driver.finish(action.ticket)
        elif isinstance(action, Unload):
            actions += driver.unloaded(action.key)
    assert (loads, granted) == (3, 60)


def test_a_busy_model_is_drained_for_the_head_of_the_line() -> None:
    driver = Driver(max_loaded=1)
    driver.ask("a")
    driver.loaded("a")
    assert driver.ask("b") == []
    assert driver.ask("a") == [], "what drains takes nothing new"
    assert driver.finish(1) == [Unload("a")]
    assert driver.unloaded("a") == [StartLoad("b", spec("b"))]
    assert driver.loaded("b") == [Grant(2, "b")]
    assert driver.finish(2) == [Unload("b")]
    assert driver.unloaded("b") == [StartLoad("a", spec("a"))]


def test_draining_ends_when_the_head_gives_up() -> None:
    driver = Driver(max_loaded=1)
    driver.ask("a")
    driver.loaded("a")
    driver.ask("b")
    driver.ask("a")
    assert driver.finish(2) == [Grant(3, "a")]


def test_an_idle_model_goes_before_a_busy_one_drains() -> None:
    driver = Driver(max_loaded=2)
    driver.serve("a")
    driver.ask("b")
    driver.loaded("b")
    assert driver.ask("c") == [Unload("a")]
    assert driver.ask("b") == [Grant(4, "b")]


def test_what_was_idle_longest_for_its_cost_goes_first() -> None:
    driver = Driver(max_loaded=2)
    driver.serve("dear", cost=60.0)
    driver.now = 100.0
    driver.serve("cheap", cost=1.0)
    driver.now = 110.0
    assert driver.ask("c") == [Unload("cheap")], "10 s for 1 s of loading against 110 s for 60 s"
    driver = Driver(max_loaded=2)
    driver.serve("old")
    driver.now = 100.0
    driver.serve("new")
    assert driver.ask("c") == [Unload("old")]


def test_what_is_pinned_goes_last() -> None:
    driver = Driver(max_loaded=2)
    driver.serve("pinned", keep_alive=math.inf)
    driver.now = 100.0
    driver.serve("other")
    assert driver.ask("c") == [Unload("other")]
    driver = Driver(max_loaded=1)
    driver.serve("pinned", keep_alive=math.inf)
    assert driver.scheduler.tick(1e12) == []
    assert driver.ask("c") == [Unload("pinned")]


def test_room_is_counted_in_bytes() -> None:
    driver = Driver(max_loaded=10, budget=100)
    driver.serve("a", bytes_needed=40, size=40)
    driver.now = 1.0
    driver.serve("b", bytes_needed=40, size=30)
    assert driver.ask("c", bytes_needed=90) == [Unload("a"), Unload("b")], "all that must go goes at once"
    assert driver.unloaded("b") == []
    assert driver.unloaded("a") == [StartLoad("c", spec("c", bytes_needed=90))]


def test_a_model_that_has_grown_counts_as_what_it_is() -> None:
    driver = Driver(max_loaded=10, budget=100)
    driver.serve("a", bytes_needed=40, size=40)
    driver.scheduler.size_changed("a", 70)
    driver.scheduler.size_changed("unknown", 70)
    assert [view.size for view in driver.scheduler.runners()] == [70]
    assert driver.ask("b", bytes_needed=40) == [Unload("a")]


def test_a_model_too_large_for_the_budget_is_loaded_alone() -> None:
    driver = Driver(budget=100)
    driver.serve("a", bytes_needed=10, size=10)
    assert driver.ask("big", bytes_needed=500) == [Unload("a")]
    assert driver.unloaded("a") == [StartLoad("big", spec("big", bytes_needed=500))]


def test_another_wish_drains_and_loads_again() -> None:
    driver = Driver()
    driver.ask("a")
    driver.loaded("a")
    bigger = spec("a", num_ctx=8192, num_ctx_auto=False)
    assert driver.ask("a", num_ctx=8192, num_ctx_auto=False) == []
    assert driver.finish(1) == [Unload("a")]
    assert driver.unloaded("a") == [StartLoad("a", bigger)]
    assert driver.loaded("a") == [Grant(2, "a")]
    assert driver.ask("a", num_ctx=2048, num_ctx_auto=False) == [Grant(3, "a")]


@pytest.mark.parametrize(
    ("have", "want", "served"),
    [
        ({}, {}, True),
        ({}, {"num_ctx": 8192}, True),
        ({}, {"num_ctx": 8192, "num_ctx_auto": False}, False),
        ({"num_ctx_auto": False}, {"num_ctx": 8192}, False),
        ({}, {"num_ctx": 4096, "num_ctx_auto": False}, True),
        ({}, {"num_ctx": 100, "num_ctx_auto": False}, True),
        ({}, {"bytes_needed": 7}, True),
        ({"num_gpu": 5}, {"num_gpu": -1}, False),
        ({"num_gpu": 5}, {"num_gpu": 5}, True),
        ({"num_gpu": 5}, {"num_gpu": 6}, False),
        ({}, {"num_gpu": 0}, False),
        ({"main_gpu": 1}, {"main_gpu": 0}, False),
        ({"use_mmap": True}, {"use_mmap": False}, False),
        ({"use_mmap": False}, {}, False),
        ({}, {"adapters": ("x",)}, False),
        ({"adapters": ("x",)}, {}, False),
        ({}, {"key": "b"}, False),
    ],
)
def test_when_a_loaded_model_serves(have: dict[str, Any], want: dict[str, Any], served: bool) -> None:
    assert spec(**{"key": "a", **have}).serves(spec(**{"key": "a", **want})) is served


READ = {"use_mmap": False}


def test_a_wish_about_the_place_of_weights_loads_an_idle_model_again() -> None:
    driver = Driver()
    driver.serve("a")
    assert driver.ask("a", **READ) == [Unload("a")]
    assert driver.unloaded("a") == [StartLoad("a", spec("a", **READ))]
    assert driver.loaded("a") == [Grant(2, "a")]
    assert driver.ask("a", **READ) == [Grant(3, "a")]
    assert driver.ask("a") == [], "no wish: the default again, when the others are done"
    assert driver.ask("a", **READ) == []
    driver.finish(2)
    assert driver.finish(3) == [Unload("a")]
    assert driver.unloaded("a") == [StartLoad("a", spec("a"))]
    assert driver.loaded("a") == [Grant(4, "a"), Grant(5, "a")], "one wish in a while"


def test_a_wish_about_the_place_of_weights_interrupts_nobody() -> None:
    driver = Driver()
    driver.ask("a")
    driver.loaded("a")
    assert driver.ask("a", **READ) == [Grant(2, "a")]
    assert driver.ask("a") == [Grant(3, "a")]


def test_a_wish_that_cannot_be_loaded_is_not_tried_each_time() -> None:
    driver = Driver()
    driver.serve("a")
    driver.ask("a", num_gpu=99)
    driver.unloaded("a")
    assert driver.scheduler.load_failed("a", 0.0, "no") == [Refuse(2, Refusal.LOAD_FAILED, "no")]
    driver.serve("a")
    assert driver.ask("a", num_gpu=98) == [Grant(4, "a")]


@pytest.mark.parametrize("cost", [0.1, 10.0])
def test_who_wishes_otherwise_each_time_takes_a_tenth_of_the_time(cost: float) -> None:
    """One client asks once in ten seconds, another in between for the weights in ever other places."""
    driver = Driver()
    driver.serve("a", cost)
    until, loading = 3600.0, 0.0
    while driver.now < until:
        for wish in ({}, {"num_gpu": driver.tickets}):
            actions = driver.ask("a", **wish)
            asked = driver.tickets
            while Grant(asked, "a") not in actions:
                if actions == [Unload("a")]:
                    actions = driver.unloaded("a")
                else:
                    assert isinstance(actions[0], StartLoad)
                    driver.now += cost
                    loading += cost
                    actions = driver.loaded("a", cost)
            driver.finish(asked)
            driver.now += 5.0
    assert 0 < loading / driver.now < 0.1


def test_keep_alive_is_sticky_and_restarts_when_the_last_answer_ends() -> None:
    driver = Driver()
    driver.ask("a", 60.0)
    driver.now = 5.0
    driver.loaded("a")
    driver.now = 7.0
    assert driver.expiry("a") == 67.0, "while the first answer runs it is counted from now"
    assert driver.scheduler.next_deadline() is None
    driver.finish(1)
    assert driver.scheduler.next_deadline() == 67.0
    driver.now = 20.0
    driver.ask("a")
    driver.ask("a")
    driver.finish(2)
    assert driver.scheduler.next_deadline() is None
    assert driver.expiry("a") == 67.0
    assert driver.scheduler.tick(1000.0) == []
    driver.finish(3)
    assert driver.expiry("a") == 80.0
    driver.ask("a", 3600.0)
    driver.finish(4)
    assert driver.expiry("a") == 3620.0
    assert driver.scheduler.tick(3619.9) == []
    assert driver.scheduler.tick(3620.0) == [Unload("a")]
    assert driver.unloaded("a") == []
    assert driver.states() == {}


def test_keep_alive_zero_unloads_after_the_answer() -> None:
    driver = Driver()
    driver.ask("a", 0.0)
    assert driver.loaded("a") == [Grant(1, "a")]
    assert driver.finish(1) == [Unload("a")]


def test_expire_waits_for_what_runs() -> None:
    driver = Driver()
    driver.serve("a")
    assert driver.scheduler.expire("a", 1.0) == [Unload("a")]
    assert driver.scheduler.expire("unknown", 1.0) == []
    driver.unloaded("a")
    driver.ask("a")
    driver.loaded("a")
    assert driver.scheduler.expire("a", 5.0) == []
    assert driver.expiry("a") == 5.0
    assert driver.ask("a") == [Grant(3, "a")]
    driver.finish(2)
    assert driver.finish(3) == [Unload("a")]


def test_a_request_for_a_model_that_is_going_loads_it_again() -> None:
    driver = Driver()
    driver.serve("a")
    driver.scheduler.expire("a", 0.0)
    assert driver.ask("a") == []
    assert driver.unloaded("a") == [StartLoad("a", spec("a"))]


def test_a_load_that_nobody_waits_for_is_aborted() -> None:
    driver = Driver()
    driver.ask("a")
    driver.ask("a")
    driver.ask("b")
    assert driver.finish(1) == []
    assert driver.finish(2) == [AbortLoad("a"), StartLoad("b", spec("b"))]
    assert driver.loaded("a") == [], "it was too late"
    assert driver.states() == {"a": State.LEAVING, "b": State.LOADING}
    assert driver.unloaded("a") == []
    assert driver.states() == {"b": State.LOADING}


def test_a_crash_forgets_what_ran_and_the_next_request_loads_anew() -> None:
    driver = Driver()
    driver.ask("a")
    driver.loaded("a")
    assert driver.scheduler.crashed("a", 0.0) == []
    assert driver.finish(1) == []
    assert driver.ask("a") == [StartLoad("a", spec("a"))]
    assert driver.scheduler.crashed("a", 0.0) == [
        Refuse(2, Refusal.LOAD_FAILED, "the process ended while loading"),
    ]


def test_a_crash_makes_room() -> None:
    driver = Driver(max_loaded=1)
    driver.ask("a")
    driver.loaded("a")
    driver.ask("b")
    assert driver.scheduler.crashed("a", 0.0) == [StartLoad("b", spec("b"))]


CTX = 1024  # tokens with which models are loaded below; each takes one byte of their size


class Contexts(Driver):
    """Models whose contexts grow, with `streams` sequences at once."""

    streams = 1

    def load(self, key: str, size: int = 10 * CTX, **wishes: Any) -> int:
        """Load a model for a request that goes on; returns its ticket."""
        wishes = {"num_ctx": CTX, "bytes_needed": size, **wishes}
        assert any(isinstance(action, StartLoad) for action in self.ask(key, **wishes))
        cache = CacheSize(wishes["num_ctx"], 1, self.streams)
        assert self.scheduler.loaded(key, self.now, 1.0, size, cache) == [Grant(self.tickets, key)]
        return self.tickets

    def grow(self, ticket: int, wanted: int, target: int | None = None) -> list[Action]:
        return self.scheduler.grow(ticket, wanted, target or wanted, self.now)

    def changed(self, key: str, num_ctx: int, cells: int = 0) -> list[Action]:
        """A context has changed, by default with as many cells; a model without its cache takes 9 * CTX bytes."""
        cells = cells or num_ctx
        cache = CacheSize(cells, 1, self.streams)
        return self.scheduler.context_changed(key, self.now, num_ctx, 9 * CTX + cells, cache)

    def load_grown(self, key: str, num_ctx: int) -> int:
        """Load a model for a request that goes on and needs more context, which it gets; returns its ticket."""
        ticket = self.load(key)
        self.grow(ticket, num_ctx)
        self.changed(key, num_ctx)
        return ticket

    def taken(self) -> dict[str, int]:
        return {view.key: view.size for view in self.scheduler.runners()}

    def contexts(self) -> dict[str, int]:
        return {view.key: view.spec.num_ctx for view in self.scheduler.runners()}


def test_a_context_grows_to_the_target_where_there_is_room() -> None:
    driver = Contexts(budget=100 * CTX)
    ticket = driver.load("a")
    assert driver.grow(ticket, 3 * CTX, 4 * CTX) == [Resize("a", 4 * CTX, 4 * CTX)]
    assert driver.contexts() == {"a": CTX}
    assert driver.changed("a", 4 * CTX) == [Grown(ticket, 4 * CTX)]
    assert (driver.contexts(), driver.taken()) == ({"a": 4 * CTX}, {"a": 13 * CTX})
    assert driver.ask("a", num_ctx=4 * CTX, num_ctx_auto=False) == [Grant(2, "a")], "it serves them all"
    assert driver.grow(ticket, 4 * CTX) == [Grown(ticket, 4 * CTX)]


def test_what_is_there_is_had_at_once() -> None:
    driver = Contexts(budget=100 * CTX)
    driver.grow(driver.load("a"), 8 * CTX)
    driver.changed("a", 8 * CTX)
    driver.ask("a", num_ctx=CTX)
    assert driver.grow(2, 2 * CTX, 4 * CTX) == [Grown(2, 4 * CTX)]
    assert driver.grow(99, CTX) == [Grown(99, 0)], "it has ended"


def test_what_is_there_is_had_while_it_changes() -> None:
    driver = Contexts(budget=32 * CTX)
    growing = driver.load("a")
    driver.grow(growing, 2 * CTX)
    driver.changed("a", 2 * CTX)
    assert driver.grow(growing, 8 * CTX) == [Resize("a", 8 * CTX, 8 * CTX)]
    driver.ask("a", num_ctx=CTX)
    assert driver.grow(driver.tickets, CTX, 4 * CTX) == [Grown(driver.tickets, 2 * CTX)], "it need not wait for 8"
    assert driver.changed("a", 8 * CTX) == [Grown(growing, 8 * CTX)]
    driver.finish(growing)
    driver.finish(driver.tickets)
    driver.ask("b", bytes_needed=20 * CTX)
    driver.ask("a", num_ctx=CTX)
    assert driver.grow(driver.tickets, CTX, 4 * CTX) == [Grown(driver.tickets, CTX)], "it shrinks just now"
    assert driver.changed("a", CTX) == [StartLoad("b", spec("b", bytes_needed=20 * CTX))]


def test_several_grow_in_one_change_and_then_another() -> None:
    driver = Contexts(budget=100 * CTX)
    driver.load("a")
    for _ in range(3):
        driver.ask("a", num_ctx=CTX)
    assert driver.grow(1, 2 * CTX) == [Resize("a", 2 * CTX, 2 * CTX)]
    assert driver.grow(2, 2 * CTX) == driver.grow(3, 5 * CTX) == driver.grow(4, 4 * CTX) == []
    assert driver.changed("a", 2 * CTX) == [Grown(1, 2 * CTX), Grown(2, 2 * CTX), Resize("a", 5 * CTX, 5 * CTX)]
    assert driver.changed("a", 5 * CTX) == [Grown(3, 5 * CTX), Grown(4, 4 * CTX)]


def test_there_are_cells_for_all_that_run_where_that_costs_nobody_anything() -> None:
    driver = Contexts(budget=32 * CTX)
    driver.streams = 3
    driver.load("a")
    for _ in range(4):
        driver.ask("a", num_ctx=CTX)
    assert driver.grow(1, 3 * CTX) == [Resize("a", 3 * CTX, 5 * CTX)], "of which three run at once"
    assert driver.changed("a", 3 * CTX, 5 * CTX) == [Grown(1, 3 * CTX)]
    assert driver.grow(2, 2 * CTX) == [Grown(2, 2 * CTX), Resize("a", 3 * CTX, 6 * CTX)]
    assert driver.grow(3, 3 * CTX) == [Grown(3, 3 * CTX)], "it need not wait for cells"
    assert driver.changed("a", 3 * CTX, 6 * CTX) == [Resize("a", 3 * CTX, 8 * CTX)]
    assert driver.changed("a", 3 * CTX, 8 * CTX) == []
    driver.finish(1)
    driver.ask("a", num_ctx=CTX)
    driver.ask("b", bytes_needed=20 * CTX)
    assert driver.grow(6, 3 * CTX) == [Grown(6, 3 * CTX)], "there are as many"
    for ticket in (2, 3, 4, 5):
        driver.finish(ticket)
    assert driver.finish(6) == [Resize("a", CTX, CTX)]
    assert driver.changed("a", CTX, CTX) == [StartLoad("b", spec("b", bytes_needed=20 * CTX))]


def test_cells_for_others_are_taken_from_nobody() -> None:
    driver = Contexts(max_loaded=9, budget=30 * CTX)
    driver.streams = 8
    driver.load("a")
    driver.serve("b", bytes_needed=10 * CTX, size=10 * CTX)
    for _ in range(4):
        driver.ask("a", num_ctx=CTX)
    assert driver.grow(1, 6 * CTX) == [Resize("a", 6 * CTX, 10 * CTX)]
    driver.changed("a", 6 * CTX, 10 * CTX)
    assert driver.grow(3, 6 * CTX) == [Grown(3, 6 * CTX)]
    driver.ask("a", num_ctx=6 * CTX, num_ctx_auto=False)
    assert driver.grow(4, 6 * CTX) == [Grown(4, 6 * CTX)]


def test_old_and_new_cells_must_fit_beside_the_others() -> None:
    driver = Contexts(budget=24 * CTX)
    ticket = driver.load("a")
    driver.load("b")
    assert driver.grow(ticket, 4 * CTX, 8 * CTX) == [Resize("a", 4 * CTX, 4 * CTX)], (
        "9 + 1 old + 4 new + 10 of the other"
    )
    driver = Contexts(budget=24 * CTX - 1)
    ticket = driver.load("a")
    driver.load("b")
    assert driver.grow(ticket, 4 * CTX, 8 * CTX) == [Resize("a", 4 * CTX - 256, 4 * CTX - 256)], "as much as there is"
    assert driver.changed("a", 4 * CTX - 256) == [Grown(ticket, 4 * CTX - 256)]


def test_while_a_context_changes_nobody_takes_its_memory() -> None:
    driver = Contexts(max_loaded=9, budget=30 * CTX)
    ticket = driver.load("a")
    driver.grow(ticket, 15 * CTX)
    assert driver.ask("b", bytes_needed=10 * CTX) == []
    driver.finish(ticket)
    assert driver.ask("c") == [], "what changes is not unloaded yet"
    assert driver.changed("a", 15 * CTX) == [Resize("a", CTX, CTX)], "nobody needs that now"
    assert driver.changed("a", CTX) == [StartLoad("b", spec("b", bytes_needed=10 * CTX))]


def test_idle_models_go_for_a_longer_context_and_busy_ones_do_not() -> None:
    driver = Contexts(max_loaded=9, budget=40 * CTX)
    ticket = driver.load("a")
    driver.serve("idle", bytes_needed=10 * CTX, size=10 * CTX)
    busy = driver.load("busy")
    assert driver.grow(ticket, 12 * CTX, 30 * CTX) == [Unload("idle")]
    assert driver.unloaded("idle") == [Resize("a", 20 * CTX, 20 * CTX)]
    assert driver.changed("a", 20 * CTX) == [Grown(ticket, 20 * CTX)]
    assert driver.grow(ticket, 21 * CTX) == [Grown(ticket, 20 * CTX)], "busy ones are not drained"
    assert driver.ask("busy", num_ctx=CTX) == [Grant(busy + 1, "busy")]


def test_alone_a_context_may_take_any_memory() -> None:
    driver = Contexts(budget=11 * CTX)
    ticket = driver.load("a")
    assert driver.grow(ticket, 99 * CTX) == [Resize("a", 99 * CTX, 99 * CTX)]


def test_without_memory_everybody_gets_what_there_is() -> None:
    driver = Contexts(budget=100 * CTX)
    driver.load("a")
    driver.ask("a", num_ctx=CTX)
    driver.grow(1, 8 * CTX)
    driver.grow(2, 9 * CTX)
    assert driver.changed("a", 2 * CTX) == [Grown(1, 2 * CTX), Grown(2, 2 * CTX)]
    assert driver.taken() == {"a": 11 * CTX}


def test_a_context_that_nobody_needs_shrinks_before_a_model_goes() -> None:
    driver = Contexts(max_loaded=9, budget=40 * CTX)
    driver.serve("idle", bytes_needed=10 * CTX, size=10 * CTX)
    ticket = driver.load_grown("a", 10 * CTX)
    driver.ask("a", num_ctx=CTX)
    driver.finish(ticket)
    assert driver.scheduler.tick(1.0) == [], "nobody wants the memory"
    assert driver.ask("b", bytes_needed=15 * CTX) == [Resize("a", CTX, CTX)], "though a request runs in it"
    assert driver.ask("a", num_ctx=2 * CTX, num_ctx_auto=False) == [], "it may be too small for that by now"
    assert driver.changed("a", CTX) == [StartLoad("b", spec("b", bytes_needed=15 * CTX))]
    assert driver.taken() == {"idle": 10 * CTX, "a": 10 * CTX, "b": 15 * CTX}


def test_who_must_go_need_not_shrink() -> None:
    driver = Contexts(max_loaded=9, budget=40 * CTX)
    ticket = driver.load_grown("a", 10 * CTX)
    driver.finish(ticket)
    assert driver.ask("b", bytes_needed=35 * CTX) == [Unload("a")]


def test_a_context_that_is_needed_does_not_shrink() -> None:
    driver = Contexts(max_loaded=9, budget=40 * CTX)
    ticket = driver.load_grown("a", 10 * CTX)
    assert driver.ask("b", bytes_needed=25 * CTX) == []
    assert driver.finish(ticket) == [Resize("a", CTX, CTX)]


def test_a_longer_context_makes_others_shrink() -> None:
    driver = Contexts(max_loaded=9, budget=42 * CTX)
    for key in "ab":
        ticket = driver.load_grown(key, 8 * CTX)
        driver.finish(ticket)
    driver.ask("a", num_ctx=CTX)
    assert driver.grow(driver.tickets, 9 * CTX) == [Resize("b", CTX, CTX)]
    assert driver.changed("b", CTX) == [Resize("a", 9 * CTX, 9 * CTX)]


def test_what_cannot_shrink_is_not_asked_again_and_goes() -> None:
    driver = Contexts(max_loaded=9, budget=40 * CTX)
    ticket = driver.load_grown("a", 10 * CTX)
    driver.finish(ticket)
    assert driver.ask("b", bytes_needed=25 * CTX) == [Resize("a", CTX, CTX)]
    assert driver.changed("a", 10 * CTX) == [Unload("a")]


def test_who_ends_or_crashes_waits_for_no_context() -> None:
    driver = Contexts(max_loaded=9, budget=40 * CTX)
    driver.serve("idle", bytes_needed=10 * CTX, size=10 * CTX)
    ticket = driver.load("a")
    assert driver.grow(ticket, 25 * CTX) == [Unload("idle")]
    driver.finish(ticket)
    assert driver.unloaded("idle") == []
    driver.ask("a", num_ctx=CTX)
    assert driver.grow(driver.tickets, 5 * CTX) == [Resize("a", 5 * CTX, 5 * CTX)]
    assert driver.scheduler.crashed("a", 0.0) == [Grown(driver.tickets, CTX)]
    assert driver.grow(driver.tickets, 5 * CTX) == [Grown(driver.tickets, 0)]
    assert driver.changed("a", 5 * CTX) == []
    assert driver.taken() == {}


def test_what_embedding_takes_stays_when_a_context_shrinks() -> None:
    driver = Contexts(max_loaded=9, budget=40 * CTX)
    ticket = driver.load_grown("a", 10 * CTX)
    driver.scheduler.size_changed("a", 22 * CTX)
    driver.finish(ticket)
    assert driver.ask("b", bytes_needed=27 * CTX) == [Resize("a", CTX, CTX)], "13 remain"
    driver = Contexts(max_loaded=9, budget=40 * CTX)
    ticket = driver.load_grown("a", 10 * CTX)
    driver.scheduler.size_changed("a", 22 * CTX)
    driver.finish(ticket)
    assert driver.ask("b", bytes_needed=27 * CTX + 1) == [Unload("a")]


keys = st.sampled_from("abcd")
STREAMS = 3
SIZES = {"a": 10 * CTX, "b": 30 * CTX, "c": 60 * CTX, "d": 200 * CTX}


def size_of(key: str, cells: int) -> int:
    return SIZES[key] + cells - CTX


@dataclasses.dataclass
class Process:
    """A process as the world outside sees it."""

    state: str
    spec: LoadSpec
    running: set[int] = dataclasses.field(default_factory=set)
    pinned: bool = False
    told_to_go: bool = False
    size: int = 0
    resizing: int | None = None
    cells: int = 0
    ordered: int = 0
    first_ctx: int = 0
    needs: dict[int, int] = dataclasses.field(default_factory=dict)

    @property
    def num_ctx(self) -> int:
        return self.spec.num_ctx

    @property
    def taken(self) -> int:
        """What it takes at most: old and new cells, while they become more."""
        return self.size + (self.ordered if self.ordered > self.cells else 0)

    @property
    def least(self) -> int:
        """What it takes when its context has shrunk as far as it can, or has become what was ordered."""
        if self.state == "loading" or max(self.needs[ticket] for ticket in self.running) > self.first_ctx:
            return self.taken
        return self.taken if self.ordered > self.cells else size_of(self.spec.key, self.first_ctx)


class AnyOrderOfEvents(RuleBasedStateMachine):
    """Carries out every order and sends events as they come; the orders must never be wrong."""

    @initialize(
        max_loaded=st.integers(1, 3),
        max_queue=st.integers(0, 5),
        budget=st.sampled_from([None, 45 * CTX, 70 * CTX, 100 * CTX]),
    )
    def start(self, max_loaded: int, max_queue: int, budget: int | None) -> None:
        self.limits = max_loaded, max_queue, budget
        self.scheduler = Scheduler(max_loaded, max_queue, budget)
        self.now = 0.0
        self.count = 0
        self.waiting: dict[int, LoadSpec] = {}
        self.keep_alive: dict[int, float | None] = {}
        self.processes: dict[str, Process] = {}
        self.growing: dict[int, int] = {}
        self.short = ""  # the model that was given less than ordered just now

    def of(self, ticket: int) -> Process:
        (process,) = [process for process in self.processes.values() if ticket in process.running]
        return process

    def possible(self, process: Process) -> float:
        """The context that a process could have if all went and shrank that may."""
        others = [other for other in self.processes.values() if other is not process and other.state != "leaving"]
        staying = [other for other in others if other.running or other.state == "loading"]
        budget = self.limits[2]
        if not staying or budget is None:
            return math.inf
        room = budget - sum(other.least for other in staying) - process.size - process.cells
        return process.cells + max(room, 0) // 256 * 256

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case StartLoad(key, requested):
                    assert key not in self.processes
                    assert not [p for p in self.processes.values() if p.state == "loading"], "loads are serial"
                    self.processes[key] = Process(
                        "loading", requested, size=requested.bytes_needed, first_ctx=requested.num_ctx
                    )
                case Unload(key):
                    process = self.processes[key]
                    assert process.state == "ready"
                    assert not process.running, "a busy model is never unloaded"
                    assert process.resizing is None
                    needed = self.waiting or self.growing
                    assert not process.pinned or process.told_to_go or needed, "only need unloads a pinned one"
                    process.state = "leaving"
                case AbortLoad(key):
                    process = self.processes[key]
                    assert process.state == "loading"
                    assert not [s for s in self.waiting.values() if process.spec.serves(s)]
                    process.state = "leaving"
                case Grant(ticket, key):
                    process = self.processes[key]
                    assert process.state == "ready"
                    requested = self.waiting.pop(ticket)
                    assert process.spec.suffices(requested), "once, and as wanted"
                    assert requested.asks_for_placement or process.spec.serves(requested), "no wish: the default"
                    process.running.add(ticket)
                    process.needs[ticket] = requested.num_ctx
                    if (keep_alive := self.keep_alive[ticket]) is not None:
                        process.pinned = keep_alive == math.inf
                case Resize(key, num_ctx, cells):
                    process = self.processes[key]
                    assert process.state == "ready"
                    assert process.resizing is None
                    process.resizing, process.ordered = num_ctx, cells
                    assert num_ctx <= cells
                    if cells < process.cells:
                        assert (num_ctx, cells) == (process.first_ctx, process.first_ctx)
                        assert all(process.needs[ticket] <= num_ctx for ticket in process.running)
                        assert self.waiting or self.growing, "only need takes a context away"
                        process.spec = dataclasses.replace(process.spec, num_ctx=num_ctx)
                    elif num_ctx > process.num_ctx:
                        assert any(self.growing[t] > process.num_ctx for t in process.running if t in self.growing)
                    else:
                        assert process.cells < cells <= sum(process.needs.values())
                case Grown(ticket, num_ctx):
                    process = self.of(ticket)
                    wanted = self.growing.pop(ticket)
                    assert num_ctx <= process.num_ctx
                    assert num_ctx >= min(wanted, self.possible(process)) or self.short == process.spec.key
                    process.needs[ticket] = num_ctx
                case Refuse(ticket, reason, _):
                    assert self.waiting.pop(ticket) is not None
                    assert reason is not Refusal.BUSY or len(self.waiting) == self.limits[1] + 1

    @rule(
        key=keys,
        larger=st.booleans(),
        keep_alive=st.sampled_from([None, 0.0, 10.0, math.inf]),
        wish=st.sampled_from([{}, {}, {"use_mmap": False}, {"num_gpu": 3}]),
    )
    def request(self, key: str, larger: bool, keep_alive: float | None, wish: dict[str, Any]) -> None:
        self.count += 1
        num_ctx = 2 * CTX if larger else CTX
        requested = spec(key, num_ctx=num_ctx, num_ctx_auto=not larger, bytes_needed=size_of(key, num_ctx), **wish)
        self.waiting[self.count] = requested
        self.keep_alive[self.count] = keep_alive
        self.carry_out(self.scheduler.request(self.count, requested, keep_alive, 20.0, self.now))

    @precondition(lambda self: self.waiting or any(p.running for p in self.processes.values()))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        running = {ticket: p for p in self.processes.values() for ticket in p.running}
        ticket = data.draw(st.sampled_from([*self.waiting, *running]))
        self.end(ticket)

    def end(self, ticket: int) -> None:
        self.waiting.pop(ticket, None)
        self.growing.pop(ticket, None)
        for process in self.processes.values():
            process.running.discard(ticket)
        self.carry_out(self.scheduler.finished(ticket, self.now))

    @precondition(lambda self: any(p.running for p in self.processes.values()))
    @rule(data=st.data(), wanted=st.sampled_from([2, 5, 20, 60]), better=st.booleans())
    def grow(self, data: st.DataObject, wanted: int, better: bool) -> None:
        running = [ticket for p in self.processes.values() for ticket in p.running if ticket not in self.growing]
        if running:
            ticket = data.draw(st.sampled_from(running))
            self.growing[ticket] = wanted * CTX
            self.of(ticket).needs[ticket] = wanted * CTX
            target = wanted * CTX * (2 if better else 1)
            self.carry_out(self.scheduler.grow(ticket, wanted * CTX, target, self.now))

    @rule(data=st.data(), part=st.sampled_from([0.0, 0.5, 1.0, 1.0]))
    def context_changes(self, data: st.DataObject, part: float) -> None:
        if keys := [key for key, process in self.processes.items() if process.resizing is not None]:
            self.end_change(data.draw(st.sampled_from(keys)), part)

    def end_change(self, key: str, part: float = 1.0) -> None:
        """The context has changed, by so much of what was ordered if it grows."""
        process = self.processes[key]
        assert process.resizing is not None
        change = process.resizing - process.num_ctx
        num_ctx = process.num_ctx + int(change * part)
        grows = process.ordered > process.cells
        process.cells = max(num_ctx, process.cells, int(process.ordered * part)) if grows else process.ordered
        process.resizing, process.ordered = None, 0
        process.spec = dataclasses.replace(process.spec, num_ctx=num_ctx)
        process.size = size_of(key, process.cells)
        self.short = key if change * part < change else ""
        cache = CacheSize(process.cells, 1, STREAMS)
        actions = self.scheduler.context_changed(key, self.now, num_ctx, process.size, cache)
        self.carry_out(actions)
        self.short = ""

    def some(self, data: st.DataObject, state: str) -> str | None:
        keys = [key for key, process in self.processes.items() if process.state == state]
        return data.draw(st.sampled_from(keys)) if keys else None

    @rule(data=st.data())
    def load_ends_well(self, data: st.DataObject) -> None:
        if key := self.some(data, "loading"):
            self.end_load(key)

    def end_load(self, key: str) -> None:
        process = self.processes[key]
        process.state = "ready"
        process.size = size_of(key, process.num_ctx)
        process.cells = process.num_ctx
        cache = CacheSize(process.cells, 1, STREAMS)
        actions = self.scheduler.loaded(key, self.now, 2.0, process.size, cache)
        process.pinned = any(view.key == key and view.keep_alive == math.inf for view in self.scheduler.runners())
        self.carry_out(actions)

    @rule(data=st.data())
    def load_fails(self, data: st.DataObject) -> None:
        if key := self.some(data, "loading"):
            del self.processes[key]
            self.carry_out(self.scheduler.load_failed(key, self.now, "no"))

    @rule(data=st.data())
    def process_goes(self, data: st.DataObject) -> None:
        if key := self.some(data, "leaving"):
            del self.processes[key]
            self.carry_out(self.scheduler.unloaded(key, self.now))

    @rule(data=st.data(), state=st.sampled_from(["loading", "ready", "leaving"]))
    def process_crashes(self, data: st.DataObject, state: str) -> None:
        if key := self.some(data, state):
            process = self.processes[key]
            for action in (actions := self.scheduler.crashed(key, self.now)):
                if isinstance(action, Grown) and action.ticket in process.running:
                    del self.growing[action.ticket]
                    actions = [other for other in actions if other is not action]
            assert not process.running & set(self.growing), "all were told"
            del self.processes[key]
            self.carry_out(actions)

    @rule(key=keys)
    def expire(self, key: str) -> None:
        if key in self.processes:
            self.processes[key].told_to_go = True
        self.carry_out(self.scheduler.expire(key, self.now))

    @rule(seconds=st.sampled_from([0.5, 10.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.carry_out(self.scheduler.tick(self.now))
        deadline = self.scheduler.next_deadline()
        assert deadline is None or deadline > self.now

    @invariant()
    def limits_hold(self) -> None:
        if not hasattr(self, "limits"):
            return
        max_loaded, max_queue, budget = self.limits
        assert len(self.processes) <= max_loaded
        taken = sum(process.taken for process in self.processes.values())
        assert budget is None or taken <= budget or len(self.processes) == 1
        assert len(self.waiting) == len(self.scheduler._queue) <= max_queue + 1
        assert {v.key: v.active for v in self.scheduler.runners()} == {
            key: len(process.running) for key, process in self.processes.items()
        }
        assert {v.key: v.size for v in self.scheduler.runners()} == {k: p.size for k, p in self.processes.items()}
        assert set(self.scheduler._growth._growing) == set(self.growing)

    def teardown(self) -> None:
        """If loads end, answers end and processes go, everyone is served."""
        if not hasattr(self, "limits"):
            return
        for _ in range(1000):
            if not self.waiting and not self.growing:
                return
            self.now += 1.0
            before = self.standing()
            for key, process in list(self.processes.items()):
                if process.state == "loading":
                    self.end_load(key)
                elif process.state == "leaving":
                    del self.processes[key]
                    self.carry_out(self.scheduler.unloaded(key, self.now))
                elif process.resizing is not None:
                    self.end_change(key)
                elif running := process.running - set(self.growing):
                    self.end(min(running))
            assert before != self.standing(), "the line stands still"
        raise AssertionError("some wait for ever")

    def standing(self) -> object:
        processes = {
            key: (p.state, len(p.running), p.resizing, p.num_ctx, p.cells) for key, p in self.processes.items()
        }
        return len(self.waiting), len(self.growing), processes


TestAnyOrderOfEvents = AnyOrderOfEvents.TestCase
TestAnyOrderOfEvents.settings = settings(
    max_examples=150, stateful_step_count=60, suppress_health_check=[HealthCheck.too_slow]
)
