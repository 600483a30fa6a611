"""The requests that wait for a load, and which loads begin for them. No I/O and no clock.

- Loads of different models run side by side, at most `max_loads` of them. Each has its memory reserved from its start.
- The head of the queue, its first request whose model is not being loaded, has room made for it: idle models go, then
  busy ones drain, which take no new requests until they are idle. Only the head drains, so no request waits for ever.
- A request whose model is loaded with too short a context waits until that has grown, which is no load: it drains
  nobody. Only where it cannot grow is the model loaded anew.
- Who drains has had its turn: TURN times as long as its load took, it takes all requests, so that loading does not
  become most of the work. All turns before a request's own together take at most `max_wait` seconds. If it lasts longer
  than PATIENCE until a draining model is idle, all others drain too: whichever is idle first goes.
- A model behind the head is loaded before it only where that takes nothing from what the head waits for: neither memory
  nor its place among the loads.
- Models that are to stay for ever go last, and only once no other is left to go.
- A request that may evict nobody is refused as soon as its load would.
- A load for which there was no memory is tried again in a leaner way, MOST_ATTEMPTS times in all, once the models that
  went for it have gone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.loading.charge import Charge
from engine.loading.context_growth import ContextGrowth
from engine.loading.runners import Making, Runners
from engine.loading.state import Action, LoadSpec, Runner, StartLoad, State
from engine.unloading import UnloadReason

REST = 30.0  # seconds, at least, between two reloads of a model for another placement of its weights
REST_SHARE = 20  # that time as a multiple of what a load takes
PATIENCE = 30.0  # seconds
MOST_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request in the queue. `keep_alive` None leaves a loaded model's as it is."""

    ticket: int
    spec: LoadSpec
    keep_alive: float | None
    default_keep_alive: float


class LoadQueue:
    """`waiting` are the requests by ticket, in order of arrival. Owned by the scheduler."""

    def __init__(self, runners: Runners, growth: ContextGrowth, max_loads: int, max_wait: float) -> None:
        self.waiting: dict[int, Waiting] = {}
        self._runners = runners
        self._growth = growth
        self._max_loads = max(1, max_loads)
        self._max_wait = max_wait
        self._head: int | None = None  # the ticket for which models are drained
        self._drains_since: float | None = None
        self._next_turn = math.inf  # when a model that is to drain has had its turn
        self._resting: dict[str, float] = {}  # by key: until when no other placement reloads it
        self._failures: dict[str, int] = {}  # by key: attempts for which there was no memory
        self._growing: set[int] = set()  # the tickets of those whose model's context grows for them

    def attempt(self, key: str) -> int:
        """The number of the attempt to load a model that is under way, or will be next: 1 for the first."""
        return self._failures.get(key, 0) + 1

    def fail(self, key: str) -> None:
        """Note that there was no memory for a load."""
        self._failures[key] = self.attempt(key)

    def give_up(self, key: str) -> None:
        """Let the next attempt be a first one again."""
        self._failures.pop(key, None)

    def rests(self, key: str, now: float) -> bool:
        """Whether no request for another placement reloads the model now."""
        return now < self._resting.get(key, 0.0)

    def rest(self, key: str, now: float, cost: float = 0.0) -> None:
        """Let no request for another placement reload the model for a while."""
        self._resting = {other: until for other, until in self._resting.items() if until > now}
        self._resting[key] = now + max(REST, REST_SHARE * cost)

    def riders(self, runner: Runner) -> list[Waiting]:
        """The requests that a model will serve as it is loaded."""
        return [waiting for waiting in self.waiting.values() if runner.spec.serves(waiting.spec)]

    def without_room(self, now: float) -> list[Waiting]:
        """The requests that may evict nobody, and for which somebody would have to go."""
        return [
            waiting
            for waiting in self.waiting.values()
            if not (waiting.spec.evicts or self._is_coming(waiting)) and self._would_evict(waiting.spec, now)
        ]

    def _would_evict(self, spec: LoadSpec, now: float) -> bool:
        runner = self._runners.by_key.get(spec.key)
        if runner is not None:
            return runner.state is not State.LEAVING
        return bool(self._runners.best_room(spec, self._runners.by_key.values(), now).going)

    def places(self) -> dict[int, int]:
        """By ticket, the place of each request among those whose load has not begun, from 1; 0 for the others."""
        places: dict[int, int] = {}
        waiting = 0
        for each in self.waiting.values():
            coming = self._is_coming(each)
            waiting += not coming
            places[each.ticket] = 0 if coming else waiting
        return places

    def forget_head(self) -> None:
        """If the request for which models drain has gone, they need not."""
        if self._head not in self.waiting:
            self._drain(set(), 0.0)

    def advance(self, now: float) -> list[Action]:
        """Steps towards the loads that are needed: those for the head, then for others that take nothing from it."""
        actions: list[Action] = []
        wanted = {waiting.spec.key for waiting in self.waiting.values()}
        self._failures = {key: count for key, count in self._failures.items() if key in wanted}
        while True:
            actions += self._lengthen(now)
            needs = self._needs()
            self._next_turn = math.inf
            self._head = needs[0].ticket if needs else None
            if not needs or len(self._runners.loading) >= self._max_loads:
                self._drain(set(), now)
                return actions
            self._runners.longest_turn = self._max_wait / len(needs)
            head = needs[0]
            runner = self._runners.by_key.get(head.spec.key)
            if runner is not None:
                actions += self._replace(runner, head.spec, now)
                return actions + self._overtake(needs, [runner], head.spec.needs[0], now)
            room = self._runners.best_room(head.spec, self._runners.by_key.values(), now)
            moves = self._make_room(room, head.spec, now)
            if moves or not self._fits(head.spec):
                return [*actions, *moves, *self._overtake(needs, room.going, room.needed, now)]
            actions.append(self._load(head))

    def next_deadline(self, now: float) -> float:
        """When to advance again, whatever happens; inf: never."""
        patience = math.inf if self._drains_since is None else self._drains_since + PATIENCE
        return min(self._next_turn, patience if patience > now else math.inf)

    def _lengthen(self, now: float) -> list[Action]:
        """Steps towards longer contexts of loaded models, for requests that lack nothing else.

        Nothing is taken from the head: behind it a context grows only where its load fits beside that.
        """
        self._growing.clear()
        contexts: dict[str, list[int]] = {}
        for waiting in self.waiting.values():
            contexts.setdefault(waiting.spec.key, []).append(waiting.spec.num_ctx)
        actions: list[Action] = []
        head: LoadSpec | None = None
        for waiting in self.waiting.values():
            spec = waiting.spec
            runner = self._runners.by_key.get(spec.key)
            steps = None
            if runner is not None and self._may_grow(runner, spec) and (head is None or head.key != spec.key):
                ahead = None if head is None else head.needs[0]
                steps = self._growth.lengthen(runner, spec.num_ctx, contexts[spec.key], now, ahead)
            if steps is not None:
                self._growing.add(waiting.ticket)
                actions += steps
            elif head is None and not self._is_coming(waiting):
                head = spec
        return actions

    def _may_grow(self, runner: Runner, spec: LoadSpec) -> bool:
        """Whether a longer context is all that a loaded model lacks, and nobody waits for its place."""
        ready = runner.state is State.READY and runner.key not in self._runners.draining
        return ready and runner.spec.lacks_only_context(spec)

    def _is_coming(self, waiting: Waiting) -> bool:
        """Whether a load in progress will serve a request."""
        runner = self._runners.by_key.get(waiting.spec.key)
        return runner is not None and runner.state is State.LOADING and runner.spec.serves(waiting.spec)

    def _needs(self) -> list[Waiting]:
        """The first request for each model that no load in progress will serve, and no context that grows."""
        needs: dict[str, Waiting] = {}
        for waiting in self.waiting.values():
            if waiting.ticket not in self._growing and not self._is_coming(waiting):
                needs.setdefault(waiting.spec.key, waiting)
        return list(needs.values())

    def _replace(self, runner: Runner, spec: LoadSpec, now: float) -> list[Action]:
        """The head's model is loaded, but not as the head needs it: unload it if idle, else drain it."""
        if runner.idle and spec.asks_for_placement:
            self.rest(runner.key, now)  # also if the load fails
        self._drain({runner.key} if runner.state is State.READY else set(), now)
        return [self._runners.unload(runner, UnloadReason.OPTIONS)] if runner.idle else []

    def _make_room(self, room: Making, spec: LoadSpec, now: float) -> list[Action]:
        """Make room for the head: shrink contexts, unload idle models, drain busy ones."""
        if not room.enough:
            self._drain(set(), now)
            return []
        busy = [victim for victim in room.going if not victim.idle]
        turns = {victim.key: self._runners.turn_ends(victim) for victim in busy}
        had = {key for key, end in turns.items() if end <= now or key in self._runners.draining}
        self._next_turn = min((end for key, end in turns.items() if key not in had), default=math.inf)
        if had and self._drains_since is not None and now >= self._drains_since + PATIENCE:
            had |= {runner.key for runner in self._runners.ready if not runner.quiet and not runner.pinned}
        self._drain(had, now)
        unloads = [self._runners.unload(victim, UnloadReason.ROOM_FOR_MODEL, spec) for victim in room.idle]
        return [*unloads, *(self._growth.shrink(runner) for runner in room.shrinking)]

    def _overtake(self, needs: list[Waiting], leaving: list[Runner], ahead: Charge, now: float) -> list[Action]:
        """Loads of models behind the head, once `leaving` have gone and it takes what is `ahead`."""
        actions: list[Action] = []
        head = needs[0].spec
        gone = {runner.key for runner in leaving}
        for waiting in needs[1:]:
            if len(self._runners.loading) + 1 >= self._max_loads:
                break
            if waiting.spec.key in self._runners.by_key:
                continue
            later = [runner for runner in self._runners.by_key.values() if runner.key not in gone]
            later.append(Runner(head, 0.0, ahead))
            room = self._runners.best_room(waiting.spec, later, now, drains=False)
            if not room.enough or room.shrinking or any(victim.pinned for victim in room.going):
                continue
            actions += [self._runners.unload(victim, UnloadReason.ROOM_FOR_MODEL, waiting.spec) for victim in room.idle]
            if self._fits(waiting.spec):
                actions.append(self._load(waiting))
        return actions

    def _fits(self, spec: LoadSpec) -> bool:
        """Whether a model can be loaded beside all that there are now."""
        leaving = any(runner.state is State.LEAVING for runner in self._runners.by_key.values())
        return self._runners.fitting(spec) is not None and not (leaving and self.attempt(spec.key) > 1)

    def _load(self, waiting: Waiting) -> Action:
        spec = waiting.spec
        keep_alive = waiting.default_keep_alive if waiting.keep_alive is None else waiting.keep_alive
        self._runners.by_key[spec.key] = Runner(spec, keep_alive, self._runners.fitting(spec) or spec.needs[0])
        return StartLoad(spec.key, spec, self.attempt(spec.key))

    def _drain(self, keys: set[str], now: float) -> None:
        """Let just these models take no new requests."""
        self._runners.draining = keys
        if not keys:
            self._drains_since = None
        elif self._drains_since is None:
            self._drains_since = now
