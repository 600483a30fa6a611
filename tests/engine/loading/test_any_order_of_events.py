"""The scheduler's promises, whatever happens in whatever order."""

import dataclasses
import math
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.loading.load_queue import MOST_ATTEMPTS
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
from engine.messages import HOST
from engine.unloading import UnloadReason
from tests.engine.loading.scheduling import CTX, spec

keys = st.sampled_from("abcd")
STREAMS = 3
ROOM = (UnloadReason.ROOM_FOR_MODEL, UnloadReason.ROOM_FOR_CONTEXT)
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
    size: int = 0
    resizing: int | None = None
    cells: int = 0
    ordered: int = 0
    first_ctx: int = 0
    attempt: int = 1
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
        max_loads=st.integers(1, 3),
    )
    def start(self, max_loaded: int, max_queue: int, budget: int | None, max_loads: int) -> None:
        self.limits = max_loaded, max_queue, budget
        self.max_loads = max_loads
        self.scheduler = Scheduler(max_loaded, max_queue, budget, max_loads)
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
                case StartLoad(key, requested, attempt):
                    assert key not in self.processes
                    assert attempt == 1 or all(p.state != "leaving" for p in self.processes.values())
                    assert any(waiting == requested for waiting in self.waiting.values()), "somebody wants it"
                    self.processes[key] = Process(
                        "loading", requested, size=requested.bytes_needed, first_ctx=requested.num_ctx, attempt=attempt
                    )
                case Unload(key, reason):
                    process = self.processes[key]
                    assert process.state == "ready"
                    assert not process.running, "a busy model is never unloaded"
                    assert process.resizing is None
                    needed = self.waiting or self.growing
                    assert not process.pinned or needed, "only need unloads a pinned one"
                    if process.pinned and reason in ROOM:
                        longer = reason is UnloadReason.ROOM_FOR_CONTEXT  # nobody drains for that
                        others = [p for p in self.processes.values() if p.state == "ready" and not p.pinned]
                        assert all(longer and other.running for other in others), "pinned ones go last"
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
                        growing = [self.growing[t] for t in process.running if t in self.growing]
                        asked = [s.num_ctx for s in self.waiting.values() if process.spec.lacks_only_context(s)]
                        assert any(wanted > process.num_ctx for wanted in growing + asked)
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
        process.size = size_of(key, process.num_ctx)  # never more than was reserved
        process.cells = process.num_ctx
        cache = CacheSize(process.cells, 1, STREAMS)
        actions = self.scheduler.loaded(key, self.now, 2.0, process.size, cache)
        process.pinned = any(view.key == key and view.keep_alive == math.inf for view in self.scheduler.runners())
        self.carry_out(actions)

    @rule(data=st.data(), share=st.sampled_from([0.0, 0.5, 1.0]))
    def load_is_planned(self, data: st.DataObject, share: float) -> None:
        """A load takes more than the least that it needs, as far as there is room."""
        if key := self.some(data, "loading"):
            process = self.processes[key]
            most = min(self.scheduler.room_for(key).get(HOST, math.inf), 2 * process.size)
            assert most >= process.size or len(self.processes) == 1, "what was reserved is there"
            process.size += int(share * max(most - process.size, 0))
            self.scheduler.reserve(key, process.size)

    @rule(data=st.data())
    def load_fails(self, data: st.DataObject) -> None:
        if key := self.some(data, "loading"):
            del self.processes[key]
            self.carry_out(self.scheduler.load_failed(key, self.now, "no"))

    @rule(data=st.data())
    def load_finds_no_memory(self, data: st.DataObject) -> None:
        if key := self.some(data, "loading"):
            attempt = self.processes.pop(key).attempt
            actions = self.scheduler.out_of_memory(key, self.now, "no memory")
            refused = [action for action in actions if isinstance(action, Refuse)]
            assert bool(refused) == (attempt == MOST_ATTEMPTS), "there are as many attempts, and no more"
            self.carry_out(actions)

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
            self.processes[key].pinned = False
        self.carry_out(self.scheduler.expire(key, self.now))

    @rule(seconds=st.sampled_from([0.5, 10.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.carry_out(self.scheduler.tick(self.now))
        deadline = self.scheduler.next_deadline(self.now)
        assert deadline is None or deadline > self.now
        for view in self.scheduler.runners():
            ends = math.inf if view.expires_at is None or view.state is not State.READY else view.expires_at
            busy = view.active or self.processes[view.key].resizing is not None
            assert busy or ends > self.now, "a model goes when its time is over"

    @invariant()
    def limits_hold(self) -> None:
        if not hasattr(self, "limits"):
            return
        max_loaded, max_queue, budget = self.limits
        assert len(self.processes) <= max_loaded
        assert len([p for p in self.processes.values() if p.state == "loading"]) <= self.max_loads
        taken = sum(process.taken for process in self.processes.values())
        assert budget is None or taken <= budget or len(self.processes) == 1
        assert len(self.waiting) == len(self.scheduler._queue.waiting) <= max_queue + 1
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
