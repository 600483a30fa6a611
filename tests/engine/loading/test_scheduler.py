"""Who is loaded, who waits, who goes."""

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.loading.scheduler import Scheduler
from engine.loading.state import AbortLoad, Action, Grant, LoadSpec, Refusal, Refuse, StartLoad, State, Unload


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
    driver.scheduler.resized("a", 70)
    driver.scheduler.resized("unknown", 70)
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


keys = st.sampled_from("abcd")
SIZES = {"a": 10, "b": 30, "c": 60, "d": 200}


@dataclasses.dataclass
class Process:
    """A process as the world outside sees it."""

    state: str
    spec: LoadSpec
    running: set[int] = dataclasses.field(default_factory=set)
    pinned: bool = False
    told_to_go: bool = False


class AnyOrderOfEvents(RuleBasedStateMachine):
    """Carries out every order and sends events as they come; the orders must never be wrong."""

    @initialize(max_loaded=st.integers(1, 3), max_queue=st.integers(0, 5), budget=st.sampled_from([None, 70, 100]))
    def start(self, max_loaded: int, max_queue: int, budget: int | None) -> None:
        self.limits = max_loaded, max_queue, budget
        self.scheduler = Scheduler(max_loaded, max_queue, budget)
        self.now = 0.0
        self.count = 0
        self.waiting: dict[int, LoadSpec] = {}
        self.keep_alive: dict[int, float | None] = {}
        self.processes: dict[str, Process] = {}

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case StartLoad(key, requested):
                    assert key not in self.processes
                    assert not [p for p in self.processes.values() if p.state == "loading"], "loads are serial"
                    self.processes[key] = Process("loading", requested)
                case Unload(key):
                    process = self.processes[key]
                    assert process.state == "ready"
                    assert not process.running, "a busy model is never unloaded"
                    assert not process.pinned or process.told_to_go or self.waiting, "only need unloads a pinned one"
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
                    if (keep_alive := self.keep_alive[ticket]) is not None:
                        process.pinned = keep_alive == math.inf
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
        num_ctx = 8192 if larger else 4096
        requested = spec(key, num_ctx=num_ctx, num_ctx_auto=False, bytes_needed=SIZES[key], **wish)
        self.waiting[self.count] = requested
        self.keep_alive[self.count] = keep_alive
        self.carry_out(self.scheduler.request(self.count, requested, keep_alive, 20.0, self.now))

    @precondition(lambda self: self.waiting or any(p.running for p in self.processes.values()))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        running = {ticket: p for p in self.processes.values() for ticket in p.running}
        ticket = data.draw(st.sampled_from([*self.waiting, *running]))
        self.waiting.pop(ticket, None)
        if ticket in running:
            running[ticket].running.remove(ticket)
        self.carry_out(self.scheduler.finished(ticket, self.now))

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
        actions = self.scheduler.loaded(key, self.now, 2.0, SIZES[key])
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
            del self.processes[key]
            self.carry_out(self.scheduler.crashed(key, self.now))

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
        taken = sum(SIZES[key] for key in self.processes)
        assert budget is None or taken <= budget or len(self.processes) == 1
        assert len(self.waiting) == len(self.scheduler._queue) <= max_queue + 1
        assert {v.key: v.active for v in self.scheduler.runners()} == {
            key: len(process.running) for key, process in self.processes.items()
        }

    def teardown(self) -> None:
        """If loads end, answers end and processes go, everyone is served."""
        if not hasattr(self, "limits"):
            return
        for _ in range(1000):
            if not self.waiting:
                return
            self.now += 1.0
            before = len(self.waiting), {key: (p.state, len(p.running)) for key, p in self.processes.items()}
            for key, process in list(self.processes.items()):
                if process.state == "loading":
                    self.end_load(key)
                elif process.state == "leaving":
                    del self.processes[key]
                    self.carry_out(self.scheduler.unloaded(key, self.now))
                elif process.running:
                    self.carry_out(self.scheduler.finished(process.running.pop(), self.now))
            after = len(self.waiting), {key: (p.state, len(p.running)) for key, p in self.processes.items()}
            assert before != after, "the line stands still"
        raise AssertionError("some wait for ever")


TestAnyOrderOfEvents = AnyOrderOfEvents.TestCase
TestAnyOrderOfEvents.settings = settings(
    max_examples=150, stateful_step_count=60, suppress_health_check=[HealthCheck.too_slow]
)
