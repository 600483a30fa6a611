"""Decides which models are loaded, which requests wait and which models are evicted. No I/O and no clock.

Every method takes an event and its time (seconds, any origin) and returns the actions to carry out, in order. The end
of a process is reported once, by `load_failed`, `unloaded` or `crashed`. The rules:

- A request that a loaded model can serve runs at once, however many others wait.
- A request that needs a load waits in the queue. Loads run one after the other; the head of the queue decides which is
  next. Once a model is loaded, all requests for it run, wherever they stand: a mixed queue costs one load per model.
- Room is made by unloading idle models, by `Runner.eviction_score`; then by draining busy ones, which take no new
  requests until they are idle. Only the head of the queue drains, so no request waits for ever.
- A request for another placement of the weights (`num_gpu`, `main_gpu`, `use_mmap`) reloads a model once it is idle.
  After that the model rests: for REST_SHARE times as long as the load took, such requests run on it as it is. A request
  without a placement waits until the model can be reloaded with the default one.
- The context of a loaded model grows for a running request if the memory for it is there, or idle models or contexts
  that have grown hold it. Nobody is drained for that: who drains may itself be waiting for more context. Where another
  model needs the memory, a grown context that no running request needs shrinks, before any model goes.
- A model is unloaded after its keep-alive time without requests. A request without such a time leaves it as it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from engine.loading.state import (
    NO_CACHE,
    AbortLoad,
    Action,
    CacheSize,
    Grant,
    Grown,
    LoadSpec,
    Refusal,
    Refuse,
    Resize,
    Runner,
    RunnerView,
    StartLoad,
    State,
    Unload,
)
from engine.messages import CONTEXT_PADDING, padded

REST = 30.0  # seconds, at least, between two reloads of a model for another placement of its weights
REST_SHARE = 20  # that time as a multiple of what a load takes


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A request in the queue. `keep_alive` None leaves a loaded model's as it is."""

    ticket: int
    spec: LoadSpec
    keep_alive: float | None
    default_keep_alive: float


@dataclass(frozen=True, slots=True)
class _Growth:
    """A running request that waits for `wanted` tokens of context; up to `target` are better."""

    ticket: int
    wanted: int
    target: int


class Scheduler:
    """Decides about all processes of one machine. Not thread-safe; owned by the engine's event loop.

    There are at most `max_loaded` processes, and at most `max_queue` requests behind the head of the queue. All models
    together take at most `budget` bytes (None: no limit); a single one may take more.
    """

    def __init__(self, max_loaded: int, max_queue: int, budget: int | None) -> None:
        self._max_loaded = max(1, max_loaded)
        self._max_queue = max_queue
        self._budget = math.inf if budget is None else budget
        self._runners: dict[str, Runner] = {}
        self._queue: dict[int, _Waiting] = {}  # by ticket, in order of arrival
        self._granted: dict[int, Runner] = {}
        self._growing: dict[int, _Growth] = {}  # by ticket, in order of arrival
        self._head: int | None = None  # the ticket for which models are drained
        self._draining: set[str] = set()
        self._resting: dict[str, float] = {}  # by key: until when no other placement reloads it

    def can_run(self, spec: LoadSpec, now: float) -> bool:
        """Whether a request would be granted at once because a loaded model serves it; ignores `bytes_needed`."""
        runner = self._runners.get(spec.key)
        if runner is None or runner.key in self._draining:
            return False
        must_wait = bool(runner.active) or now < self._resting.get(runner.key, 0.0)
        return runner.serves(spec, anywhere=spec.asks_for_placement and must_wait)

    def request(
        self, ticket: int, spec: LoadSpec, keep_alive: float | None, default_keep_alive: float, now: float
    ) -> list[Action]:
        """A request arrives. Its ticket gets a Grant or a Refuse, now or later, unless it finishes first."""
        waiting = _Waiting(ticket, spec, keep_alive, default_keep_alive)
        if self.can_run(spec, now):
            return [self._grant(waiting, self._runners[spec.key])]
        if len(self._queue) > self._max_queue:
            return [Refuse(ticket, Refusal.BUSY)]
        self._queue[ticket] = waiting
        return self._reconcile(now)

    def loaded(self, key: str, now: float, cost: float, size: int, cache: CacheSize = NO_CACHE) -> list[Action]:
        """A load has succeeded: it took `cost` seconds and the model takes `size` bytes, its `cache` included."""
        runner = self._runners.get(key)
        if runner is None or runner.state is not State.LOADING:
            return []
        if not self._waiters_for(runner):
            runner.expires_at = now + runner.keep_alive
        runner.state, runner.cost, runner.size, runner.last_used = State.READY, cost, size, now
        runner.cache, runner.first_ctx, runner.first_cells = cache, runner.spec.num_ctx, cache.cells
        runner.first_size = size
        if runner.spec.asks_for_placement:
            self._rest(key, now, cost)
        return self._reconcile(now)

    def size_changed(self, key: str, size: int) -> None:
        """A loaded model now takes `size` bytes; does nothing if it is not loaded."""
        if (runner := self._runners.get(key)) is not None and runner.state is State.READY:
            runner.first_size += size - runner.size
            runner.size = size

    def grow(self, ticket: int, wanted: int, target: int, now: float) -> list[Action]:
        """A running request wants `wanted` tokens of context, or more up to `target`, if that costs nobody anything.

        It gets a Grown, now or later, unless it finishes first. After a crash it has no context any more.
        """
        if (runner := self._granted.get(ticket)) is None:
            return [Grown(ticket, 0)]
        runner.active[ticket] = max(runner.active[ticket], wanted)
        self._growing[ticket] = _Growth(ticket, wanted, target)
        return self._reconcile(now)

    def context_changed(self, key: str, now: float, num_ctx: int, size: int, cache: CacheSize) -> list[Action]:
        """A Resize has ended, as ordered or not: the model has this context now and takes `size` bytes."""
        runner = self._runners.get(key)
        if runner is None or runner.resizing is None:
            return []
        failed = num_ctx < runner.resizing
        if runner.shrinks and size >= runner.size:  # it cannot: do not try again
            runner.first_ctx, runner.first_cells, runner.first_size = num_ctx, cache.cells, size
        runner.spec = replace(runner.spec, num_ctx=num_ctx)
        runner.size, runner.cache, runner.resizing, runner.reserved, runner.shrinks = size, cache, None, 0, False
        widens, runner.widens = runner.widens, False
        waiting = [growth for growth in self._growing.values() if self._granted[growth.ticket] is runner]
        answered = [self._grown(growth) for growth in waiting if failed]
        actions = answered + self._reconcile(now)
        return actions + self._widen(runner) if widens else actions

    def load_failed(self, key: str, now: float, reason: str) -> list[Action]:
        """A load has failed and its process is gone: refuse the requests that it would have served."""
        runner = self._runners.get(key)
        if runner is None or runner.state is State.READY:
            return []
        del self._runners[key]
        refused: list[Action] = []
        for waiting in self._waiters_for(runner) if runner.state is State.LOADING else []:
            del self._queue[waiting.ticket]
            refused.append(Refuse(waiting.ticket, Refusal.LOAD_FAILED, reason))
        return refused + self._reconcile(now)

    def finished(self, ticket: int, now: float) -> list[Action]:
        """A request has ended: answered, failed or cancelled, perhaps while it waited. Unknown tickets are ignored."""
        if (waiting := self._queue.pop(ticket, None)) is not None:
            return self._abandoned(waiting.spec.key) + self._reconcile(now)
        runner = self._granted.pop(ticket, None)
        if runner is None:
            return []
        self._growing.pop(ticket, None)
        runner.active.pop(ticket)
        runner.last_used = now
        if runner.quiet:
            runner.expires_at = now + runner.keep_alive
        return self._reconcile(now)

    def expire(self, key: str, now: float) -> list[Action]:
        """Unload a model as soon as it is idle; does nothing if it is not loaded."""
        runner = self._runners.get(key)
        if runner is None:
            return []
        runner.keep_alive, runner.expires_at = 0.0, now
        return self._reconcile(now)

    def unloaded(self, key: str, now: float) -> list[Action]:
        """A process has ended as ordered by Unload or AbortLoad."""
        runner = self._runners.get(key)
        if runner is not None and runner.state is State.LEAVING:
            del self._runners[key]
        return self._reconcile(now)

    def crashed(self, key: str, now: float) -> list[Action]:
        """A process has ended by itself. The requests in it have failed; they need no `finished`."""
        runner = self._runners.get(key)
        if runner is None:
            return []
        if runner.state is State.LOADING:
            return self.load_failed(key, now, "the process ended while loading")
        told = [self._grown(growth) for growth in list(self._growing.values()) if growth.ticket in runner.active]
        for ticket in runner.active:
            del self._granted[ticket]
        del self._runners[key]
        return told + self._reconcile(now)

    def tick(self, now: float) -> list[Action]:
        """Time has passed; call it at `next_deadline`."""
        return self._reconcile(now)

    def next_deadline(self) -> float | None:
        """When the next idle model expires; None: never."""
        times = [runner.expires_at for runner in self._runners.values() if runner.idle]
        return min((time for time in times if time is not None and time < math.inf), default=None)

    def runners(self) -> list[RunnerView]:
        """All processes, in the order in which they were started."""
        return [runner.view() for runner in self._runners.values()]

    def _reconcile(self, now: float) -> list[Action]:
        """The actions that are possible now: grants, unloads to make room, a load, expiries."""
        if self._head not in self._queue:
            self._draining.clear()
        actions = self._grant_all(now) + self._grow_all(now)
        self._head = next(iter(self._queue), None)
        if self._head is None:
            self._draining.clear()
        else:
            actions += self._step(self._queue[self._head], now)
            actions += self._grant_all(now)
        return actions + self._expire_idle(now)

    def _rest(self, key: str, now: float, cost: float = 0.0) -> None:
        """Until the rest is over, no request for another placement reloads the model."""
        self._resting = {other: until for other, until in self._resting.items() if until > now}
        self._resting[key] = now + max(REST, REST_SHARE * cost)

    def _grant_all(self, now: float) -> list[Action]:
        """Grant all waiting requests that can run."""
        granted: list[Action] = []
        for waiting in list(self._queue.values()):
            if self.can_run(waiting.spec, now):
                del self._queue[waiting.ticket]
                granted.append(self._grant(waiting, self._runners[waiting.spec.key]))
        return granted

    def _grant(self, waiting: _Waiting, runner: Runner) -> Action:
        if waiting.keep_alive is not None:
            runner.keep_alive = waiting.keep_alive
        runner.active[waiting.ticket] = waiting.spec.num_ctx
        self._granted[waiting.ticket] = runner
        return Grant(waiting.ticket, runner.key)

    def _step(self, head: _Waiting, now: float) -> list[Action]:
        """One step towards loading what the head of the queue needs."""
        runner = self._runners.get(head.spec.key)
        if runner is not None:
            return self._replace(runner, head.spec, now)
        if any(other.state is State.LOADING for other in self._runners.values()):
            self._draining.clear()
            return []
        actions = self._make_room(head.spec, now)
        others = self._runners.values()
        if self._fits(head.spec.bytes_needed, len(others), sum(other.taken for other in others)):
            self._draining.clear()
            actions.append(self._load(head))
        return actions

    def _replace(self, runner: Runner, spec: LoadSpec, now: float) -> list[Action]:
        """The head's model is loaded, but not as the head needs it: unload it if idle, else drain it."""
        if runner.idle and spec.asks_for_placement:
            self._rest(runner.key, now)  # also if the load fails
        self._draining = {runner.key} if runner.state is State.READY else set()
        return [self._unload(runner, "a request wants other options")] if runner.idle else []

    def _make_room(self, spec: LoadSpec, now: float) -> list[Action]:
        """Shrink contexts, unload idle models, then drain busy ones, until the others leave enough room."""
        ready = [runner for runner in self._runners.values() if runner.state is State.READY]
        going, shrinking = self._victims(spec.bytes_needed, ready, now)
        self._draining = {victim.key for victim in going if not victim.idle}
        idle = [victim for victim in going if victim.idle]
        unloads = [self._unload(victim, "room for another model", spec) for victim in idle]
        return [*unloads, *(self._shrink(runner) for runner in shrinking)]

    def _victims(self, needed: int, others: list[Runner], now: float) -> tuple[list[Runner], list[Runner]]:
        """Who must go so that the others leave `needed` bytes, and whose context must shrink, the rest being as it is.

        As few go as possible: all contexts would rather shrink.
        """
        staying = [runner for runner in others if runner.state is State.READY]
        fixed = [runner for runner in others if runner.state is State.LOADING]
        # A model that drains already goes first: switching to another would leave both half drained.
        staying.sort(
            key=lambda runner: (not runner.quiet, runner.key not in self._draining, runner.eviction_score(now))
        )
        going: list[Runner] = []
        while staying and not self._fits(
            needed, len(staying) + len(fixed), sum(runner.least for runner in (*staying, *fixed))
        ):
            going.append(staying.pop(0))
        shrinking: list[Runner] = []
        taken = sum(runner.least if runner.resizing is not None else runner.taken for runner in (*staying, *fixed))
        for runner in staying:
            if self._fits(needed, len(staying) + len(fixed), taken):
                break
            if runner.shrinkable:
                shrinking.append(runner)
                taken -= runner.taken - runner.least
        return going, shrinking

    def _fits(self, needed: int, count: int, taken: int) -> bool:
        """Whether `needed` bytes fit beside `count` models that take so many."""
        return not count or (count < self._max_loaded and taken + needed <= self._budget)

    def _grow_all(self, now: float) -> list[Action]:
        """One step for each request that wants more context; then cells for those that have got theirs."""
        actions = [action for growth in list(self._growing.values()) for action in self._grow(growth, now)]
        granted = [self._granted[action.ticket] for action in actions if isinstance(action, Grown)]
        return actions + [action for runner in granted for action in self._widen(runner)]

    def _grow(self, growth: _Growth, now: float) -> list[Action]:
        """Order a longer context if there is memory for it, or make that; tell the request if there cannot be any."""
        runner = self._granted[growth.ticket]
        if runner.spec.num_ctx >= growth.wanted:  # also while that changes: it becomes no less
            return [self._grown(growth)]
        if runner.resizing is not None:
            return []
        others = self._others(runner)
        most = runner.most_cells(self._room(others, sum(other.taken for other in others)))
        if most >= growth.wanted:
            return [self._resize(runner, int(min(most, growth.target)), most)]
        staying = [other for other in others if not other.quiet and other.state is not State.LEAVING]
        room = self._room(staying, sum(other.least for other in staying))
        aim = int(min(growth.wanted, runner.most_cells(room)))
        if aim <= runner.spec.num_ctx:
            return [self._grown(growth)]
        if most >= aim:
            return [self._resize(runner, aim, most)]
        going, shrinking = self._victims(runner.size_with(aim), others, now)
        idle = [victim for victim in going if victim.idle]
        spec = replace(runner.spec, trace_id="")  # the request that grows is not the one that has loaded the model
        unloads = [self._unload(victim, "room for a longer context", spec) for victim in idle]
        return [*unloads, *(self._shrink(other) for other in shrinking)]

    def _widen(self, runner: Runner) -> list[Action]:
        """Order more cells for a context that is long enough, so that all can run at once, if that costs nobody."""
        if runner.resizing is not None:
            runner.widens = not runner.shrinks
            return []
        if any(self._granted[ticket] is runner for ticket in self._growing):
            return []
        others = self._others(runner)
        most = runner.most_cells(self._room(others, sum(other.taken for other in others)))
        if min(most, runner.demand) < runner.cache.cells + CONTEXT_PADDING:
            return []
        return [self._resize(runner, runner.spec.num_ctx, most)]

    def _others(self, runner: Runner) -> list[Runner]:
        return [other for other in self._runners.values() if other is not runner]

    def _room(self, others: list[Runner], taken: int) -> float:
        """Bytes that a model may take beside others that take so many; alone it may take any number."""
        return self._budget - taken if others else math.inf

    def _grown(self, growth: _Growth) -> Action:
        """Tell a request what context it may use now."""
        del self._growing[growth.ticket]
        runner = self._granted[growth.ticket]
        num_ctx = min(growth.target, runner.spec.num_ctx)
        runner.active[growth.ticket] = num_ctx
        return Grown(growth.ticket, num_ctx)

    def _resize(self, runner: Runner, num_ctx: int, most: float) -> Action:
        """Order a longer context, and cells for all that run: at most so many."""
        cells = max(runner.cache.cells, int(min(most, padded(max(num_ctx, runner.demand)))))
        runner.resizing, runner.reserved = num_ctx, runner.size_with(cells) - runner.size
        return Resize(runner.key, num_ctx, cells)

    def _shrink(self, runner: Runner) -> Action:
        """From now on no request is granted that needs the longer context."""
        runner.resizing, runner.shrinks = runner.first_ctx, True
        runner.spec = replace(runner.spec, num_ctx=runner.first_ctx)
        return Resize(runner.key, runner.first_ctx, runner.first_cells)

    def _load(self, head: _Waiting) -> Action:
        keep_alive = head.default_keep_alive if head.keep_alive is None else head.keep_alive
        self._runners[head.spec.key] = Runner(head.spec, keep_alive, head.spec.bytes_needed)
        return StartLoad(head.spec.key, head.spec)

    def _unload(self, runner: Runner, reason: str, evicted_for: LoadSpec | None = None) -> Action:
        runner.state = State.LEAVING
        self._draining.discard(runner.key)
        return Unload(runner.key, reason, evicted_for)

    def _waiters_for(self, runner: Runner) -> list[_Waiting]:
        return [waiting for waiting in self._queue.values() if runner.spec.serves(waiting.spec)]

    def _abandoned(self, key: str) -> list[Action]:
        """Abort a load that no request waits for any more."""
        runner = self._runners.get(key)
        if runner is None or runner.state is not State.LOADING or self._waiters_for(runner):
            return []
        runner.state = State.LEAVING
        return [AbortLoad(key)]

    def _expire_idle(self, now: float) -> list[Action]:
        idle = [runner for runner in self._runners.values() if runner.idle and runner.expires_at is not None]
        expired = [runner for runner in idle if runner.expires_at is not None and runner.expires_at <= now]
        return [self._unload(runner, f"idle for its keep_alive of {runner.keep_alive:g} s") for runner in expired]
