"""Decides which models are loaded, which requests wait and which models are evicted. No I/O and no clock.

Every method takes an event and its time (seconds, any origin) and returns the actions to carry out, in order. The end
of a process is reported once, by `load_failed`, `unloaded` or `crashed`. The rules:

- A request that a loaded model can serve runs at once, however many others wait.
- A request that needs a load waits in the queue; `load_queue` says which loads begin. Once a model is loaded, all
  requests for it run, wherever they stand: a mixed queue costs one load per model.
- A request for another placement of the weights (`num_gpu`, `main_gpu`, `use_mmap`) reloads a model once it is idle.
  After that the model rests: for REST_SHARE times as long as the load took, such requests run on it as it is. A request
  that names none of the three runs on the model as it is.
- The context of a loaded model grows for its requests, also for one that has set a longer one, and shrinks for other
  models: `context_growth`.
- A model is unloaded after its keep-alive time without requests. A request without such a time leaves it as it was.
"""

from __future__ import annotations

import math
from dataclasses import replace

from engine.loading.charge import Charge, Room, charge, total
from engine.loading.context_growth import ContextGrowth
from engine.loading.load_queue import MOST_ATTEMPTS, LoadQueue, Waiting
from engine.loading.runners import Runners
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
    Runner,
    RunnerView,
    State,
)
from engine.unloading import UnloadReason

MAX_WAIT = 120.0  # seconds
NO_ROOM = "there is no room for it beside the models that are loaded"


class Scheduler:
    """Decides about all processes of one machine. Not thread-safe; owned by the engine's event loop.

    There are at most `max_queue` requests behind the head of the queue; `max_loads` and `max_wait` are as in
    `load_queue`, the other limits as in `Runners`.
    """

    def __init__(
        self, max_loaded: int, max_queue: int, budget: Room | int | None, max_loads: int = 1, max_wait: float = MAX_WAIT
    ) -> None:
        self._max_queue = max_queue
        self._runners = Runners(max_loaded, budget)
        self._growth = ContextGrowth(self._runners)
        self._queue = LoadQueue(self._runners, self._growth, max_loads, max_wait)

    def can_run(self, spec: LoadSpec, now: float) -> bool:
        """Whether a request would be granted at once because a loaded model serves it; ignores `bytes_needed`."""
        runner = self._runners.by_key.get(spec.key)
        if runner is None or runner.key in self._runners.draining:
            return False
        must_wait = bool(runner.active) or self._queue.rests(runner.key, now)
        return runner.serves(spec, anywhere=spec.asks_for_placement and must_wait)

    def may_grow(self, spec: LoadSpec) -> bool:
        """Whether a longer context is all that a loaded model lacks for a request; there may be no memory for that."""
        runner = self._runners.by_key.get(spec.key)
        return runner is not None and runner.spec.lacks_only_context(spec) and spec.num_ctx < runner.refused_ctx

    def is_draining(self, key: str) -> bool:
        """Whether somebody waits for the place of this model, which takes no new requests for that."""
        return key in self._runners.draining

    @property
    def waiting(self) -> int:
        """Number of requests that wait for their model."""
        return len(self._queue.waiting)

    def places(self) -> dict[int, int]:
        """The place of each ticket that waits, from 1; 0: its model is being loaded."""
        return self._queue.places()

    def is_ready(self, key: str, *, idle: bool = False) -> bool:
        """Whether this model is loaded and stays so; `idle`: and nothing runs in it."""
        runner = self._runners.by_key.get(key)
        return runner is not None and runner.state is State.READY and (runner.idle or not idle)

    @property
    def full(self) -> bool:
        """Whether a request that needs a load would be refused."""
        return len(self._queue.waiting) > self._max_queue

    def must_refuse(self, key: str) -> bool:
        """Whether any request for these weights would be refused."""
        runner = self._runners.by_key.get(key)
        takes = runner is not None and runner.state is State.READY and key not in self._runners.draining
        return self.full and not takes

    def request(
        self, ticket: int, spec: LoadSpec, keep_alive: float | None, default_keep_alive: float, now: float
    ) -> list[Action]:
        """A request arrives. Its ticket gets a Grant or a Refuse, now or later, unless it finishes first."""
        waiting = Waiting(ticket, spec, keep_alive, default_keep_alive)
        if self.can_run(spec, now):
            return [self._grant(waiting, self._runners.by_key[spec.key]), *self._growth.widen_all()]
        if self.full:
            return [Refuse(ticket, Refusal.BUSY)]
        self._queue.waiting[ticket] = waiting
        return self._reconcile(now)

    def loaded(
        self,
        key: str,
        now: float,
        cost: float,
        size: Charge | int,
        cache: CacheSize = NO_CACHE,
        num_ctx: int | None = None,
    ) -> list[Action]:
        """A load has succeeded: it took `cost` seconds and the model takes `size` bytes, its `cache` included.

        `num_ctx`: the context if it has become shorter than the automatic one that was ordered.
        """
        runner = self._runners.by_key.get(key)
        if runner is None or runner.state is not State.LOADING:
            return []
        riders = self._queue.riders(runner)
        runner.spec = replace(runner.spec, num_ctx=num_ctx or runner.spec.num_ctx)
        if not riders:
            runner.expires_at = now + runner.keep_alive
        runner.state, runner.cost, runner.size = State.READY, cost, charge(size)
        runner.ready_at = runner.last_used = now
        runner.cache, runner.first_ctx, runner.first_cells = cache, runner.spec.num_ctx, cache.cells
        runner.first_size = runner.size
        if runner.spec.asks_for_placement:
            self._queue.rest(key, now, cost)
        return self._reconcile(now)

    def room_for(self, key: str) -> Room:
        """What a model that is being loaded may take beside all others; anything if it is alone."""
        others = [runner for runner in self._runners.by_key.values() if runner.key != key]
        return self._runners.room(others, total(other.taken for other in others))

    def promised(self, key: str) -> Charge:
        """What is reserved for the loads of other models, some of which they may have taken by now."""
        return total(runner.size for runner in self._runners.loading if runner.key != key)

    def reserve(self, key: str, size: Charge | int) -> None:
        """The load of a model has been planned: it will take so much."""
        if (runner := self._runners.by_key.get(key)) is not None and runner.state is State.LOADING:
            runner.size = charge(size)

    def would_evict(self, spec: LoadSpec, now: float) -> list[str]:
        """The keys of the models that would go for a load, if it were the only one that waits."""
        others = [runner for runner in self._runners.by_key.values() if runner.key != spec.key]
        return [runner.key for runner in self._runners.best_room(spec, others, now).going]

    def size_changed(self, key: str, size: Charge | int) -> None:
        """A loaded model now takes so much; does nothing if it is not loaded."""
        if (runner := self._runners.by_key.get(key)) is not None and runner.state is State.READY:
            runner.first_size += charge(size) - runner.size
            runner.size = charge(size)

    def grow(self, ticket: int, wanted: int, target: int, now: float) -> list[Action]:
        """A running request wants `wanted` tokens of context, or more up to `target`, if that costs nobody anything.

        It gets a Grown, now or later, unless it finishes first. After a crash it has no context any more.
        """
        if ticket not in self._runners.by_ticket:
            return [Grown(ticket, 0)]
        self._growth.want(ticket, wanted, target)
        return self._reconcile(now)

    def context_changed(self, key: str, now: float, num_ctx: int, size: Charge | int, cache: CacheSize) -> list[Action]:
        """A Resize has ended, as ordered or not: the model has this context now and takes `size` bytes."""
        runner = self._runners.by_key.get(key)
        if runner is None or runner.resizing is None:
            return []
        told = self._growth.changed(runner, num_ctx, charge(size), cache)
        return told + self._reconcile(now)

    def load_failed(self, key: str, now: float, reason: str) -> list[Action]:
        """A load has failed and its process is gone: refuse the requests that it would have served."""
        runner = self._runners.by_key.get(key)
        if runner is None or runner.state is State.READY:
            return []
        del self._runners.by_key[key]
        self._queue.give_up(key)
        refused: list[Action] = []
        for waiting in self._queue.riders(runner) if runner.state is State.LOADING else []:
            del self._queue.waiting[waiting.ticket]
            refused.append(Refuse(waiting.ticket, Refusal.LOAD_FAILED, reason))
        return refused + self._reconcile(now)

    def out_of_memory(self, key: str, now: float, reason: str) -> list[Action]:
        """There was no memory for a load, and its process is gone: unload what is idle and try it again, or give up.

        The last attempt takes the place of models that are to stay for ever, too. Who may evict nobody unloads nobody.
        """
        runner = self._runners.by_key.get(key)
        tried = self._queue.attempt(key)
        if runner is None or runner.state is not State.LOADING or tried >= MOST_ATTEMPTS:
            return self.load_failed(key, now, reason)
        self._queue.fail(key)
        del self._runners.by_key[key]
        last = tried + 1 == MOST_ATTEMPTS
        evicts = any(waiting.spec.evicts for waiting in self._queue.riders(runner))
        idle = [other for other in self._runners.ready if evicts and other.idle and (last or not other.pinned)]
        unloads = [self._runners.unload(other, UnloadReason.OUT_OF_MEMORY, runner.spec) for other in idle]
        return unloads + self._reconcile(now)

    def finished(self, ticket: int, now: float) -> list[Action]:
        """A request has ended: answered, failed or cancelled, perhaps while it waited. Unknown tickets are ignored."""
        if (waiting := self._queue.waiting.pop(ticket, None)) is not None:
            return self._abandoned(waiting.spec.key) + self._reconcile(now)
        runner = self._runners.by_ticket.pop(ticket, None)
        if runner is None:
            return []
        self._growth.forget(ticket)
        runner.active.pop(ticket)
        runner.last_used = now
        if runner.quiet:
            runner.expires_at = now + runner.keep_alive
        return self._reconcile(now)

    def expire(self, key: str, now: float, reason: UnloadReason = UnloadReason.REQUESTED) -> list[Action]:
        """Unload a model as soon as it is idle; does nothing if it is not loaded."""
        runner = self._runners.by_key.get(key)
        if runner is None:
            return []
        runner.keep_alive, runner.expires_at, runner.stopped = 0.0, now, reason
        return self._reconcile(now)

    def unloaded(self, key: str, now: float) -> list[Action]:
        """A process has ended as ordered by Unload or AbortLoad."""
        runner = self._runners.by_key.get(key)
        if runner is not None and runner.state is State.LEAVING:
            del self._runners.by_key[key]
        return self._reconcile(now)

    def crashed(self, key: str, now: float) -> list[Action]:
        """A process has ended by itself. The requests in it have failed; they need no `finished`."""
        runner = self._runners.by_key.get(key)
        if runner is None:
            return []
        if runner.state is State.LOADING:
            return self.load_failed(key, now, "the process ended while loading")
        told = self._growth.tell_all(runner)
        for ticket in runner.active:
            del self._runners.by_ticket[ticket]
        del self._runners.by_key[key]
        return told + self._reconcile(now)

    def tick(self, now: float) -> list[Action]:
        """Time has passed; call it at `next_deadline`."""
        return self._reconcile(now)

    def next_deadline(self, now: float) -> float | None:
        """When to call `tick`: an idle model expires, or one has had its turn; None: never."""
        times = [runner.expires_at for runner in self._runners.by_key.values() if runner.idle]
        times.append(self._queue.next_deadline(now))
        return min((time for time in times if time is not None and time < math.inf), default=None)

    def runners(self) -> list[RunnerView]:
        """All processes, in the order in which they were started."""
        return [runner.view() for runner in self._runners.by_key.values()]

    def _reconcile(self, now: float) -> list[Action]:
        """The actions that are possible now: grants, unloads to make room, loads, expiries."""
        self._queue.forget_head()
        actions = self._grant_all(now) + self._refuse_without_room(now) + self._growth.grow_all(now)
        actions += self._queue.advance(now)
        return actions + self._grant_all(now) + self._growth.widen_all() + self._expire_idle(now)

    def _grant_all(self, now: float) -> list[Action]:
        """Grant all waiting requests that can run."""
        granted: list[Action] = []
        for waiting in list(self._queue.waiting.values()):
            if self.can_run(waiting.spec, now):
                del self._queue.waiting[waiting.ticket]
                granted.append(self._grant(waiting, self._runners.by_key[waiting.spec.key]))
        return granted

    def _refuse_without_room(self, now: float) -> list[Action]:
        """Refuse the requests that may evict nobody, and would."""
        refused: list[Action] = []
        for waiting in self._queue.without_room(now):
            del self._queue.waiting[waiting.ticket]
            refused.append(Refuse(waiting.ticket, Refusal.LOAD_FAILED, NO_ROOM))
        return refused

    def _grant(self, waiting: Waiting, runner: Runner) -> Action:
        """Let a request run, in a grown context with cells of its own, if these cost nobody anything."""
        if waiting.keep_alive is not None:
            runner.keep_alive, runner.stopped = waiting.keep_alive, None
        runner.active[waiting.ticket] = waiting.spec.num_ctx
        self._runners.by_ticket[waiting.ticket] = runner
        runner.widens |= waiting.spec.num_ctx > runner.first_ctx
        return Grant(waiting.ticket, runner.key)

    def _abandoned(self, key: str) -> list[Action]:
        """Abort a load that no request waits for any more."""
        runner = self._runners.by_key.get(key)
        if runner is None or runner.state is not State.LOADING or self._queue.riders(runner):
            return []
        runner.state = State.LEAVING
        return [AbortLoad(key)]

    def _expire_idle(self, now: float) -> list[Action]:
        idle = [runner for runner in self._runners.by_key.values() if runner.idle and runner.expires_at is not None]
        expired = [runner for runner in idle if runner.expires_at is not None and runner.expires_at <= now]
        return [self._runners.unload(runner, runner.stopped or UnloadReason.IDLE) for runner in expired]
