"""All processes of one machine: what room they leave, and who must go or shrink for more. No I/O and no clock."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from engine.loading.charge import Charge, Room, total
from engine.loading.state import LoadSpec, Runner, State, Unload
from engine.messages import HOST
from engine.unloading import UnloadReason

TURN = 2.0  # times what its load took: a model that was just loaded is not drained before


@dataclass(frozen=True, slots=True)
class Making:
    """How room for a model is made that takes `needed`: who goes, in this order, and whose context shrinks.

    Unless it is `enough`, what is there now stays too large even then: somebody loads.
    """

    needed: Charge
    going: list[Runner]
    shrinking: list[Runner]
    enough: bool = True

    @property
    def cost(self) -> tuple[bool, int, int, int]:
        """Sort key for ways to make room, lowest first: by who must go."""
        pinned = sum(runner.pinned for runner in self.going)
        return not self.enough, pinned, sum(not runner.idle for runner in self.going), len(self.going)

    @property
    def idle(self) -> list[Runner]:
        """Those that can go at once. Pinned ones do so only when all others have gone."""
        others_stay = any(not (runner.idle or runner.pinned) for runner in self.going)
        return [runner for runner in self.going if runner.idle and not (runner.pinned and others_stay)]


class Runners:
    """The processes by `key`, those with running requests by `ticket`, and what they may take together.

    There are at most `max_loaded` processes, which take at most the `budget` of each device (None: no limit); a single
    one may take more. Those that are `draining` get no more requests. `longest_turn`: seconds of a turn, at most.
    """

    def __init__(self, max_loaded: int, budget: Room | int | None) -> None:
        self.by_key: dict[str, Runner] = {}
        self.by_ticket: dict[int, Runner] = {}
        self.draining: set[str] = set()
        self.longest_turn = math.inf
        self._max_loaded = max(1, max_loaded)
        self._budget: Room = {HOST: budget} if isinstance(budget, int) else budget or {}

    @property
    def loading(self) -> list[Runner]:
        """Those that load their model."""
        return [runner for runner in self.by_key.values() if runner.state is State.LOADING]

    @property
    def ready(self) -> list[Runner]:
        """Those that have a model loaded."""
        return [runner for runner in self.by_key.values() if runner.state is State.READY]

    def others(self, runner: Runner) -> list[Runner]:
        """All but one."""
        return [other for other in self.by_key.values() if other is not runner]

    def fits(self, needed: Charge, count: int, taken: Charge) -> bool:
        """Whether what is `needed` fits beside `count` models that have taken so much."""
        return not count or (count < self._max_loaded and not needed.short(self._budget, taken))

    def fitting(self, spec: LoadSpec) -> Charge | None:
        """What another model would take that fits beside all that there are; None: it does not fit."""
        taken = total(runner.taken for runner in self.by_key.values())
        return next((needed for needed in spec.needs if self.fits(needed, len(self.by_key), taken)), None)

    def turn_ends(self, runner: Runner) -> float:
        """Until when a model takes all requests, whoever waits for its room."""
        return runner.ready_at + min(TURN * runner.cost, self.longest_turn)

    def room(self, others: list[Runner], taken: Charge) -> Room:
        """What a model may take beside others that have taken so much; alone it may take any number."""
        return taken.left_of(self._budget) if others else {}

    def best_room(self, spec: LoadSpec, others: Iterable[Runner], now: float, *, drains: bool = True) -> Making:
        """The way to make room for a model for which the fewest go."""
        others = list(others)
        ways = [self.room_for(needed, others, now, drains=drains) for needed in spec.needs]
        return min(ways, key=lambda way: way.cost)

    def room_for(self, needed: Charge, others: Iterable[Runner], now: float, *, drains: bool = True) -> Making:
        """Who must go so that the others leave what is `needed`, and whose context must shrink, the rest as it is.

        Those go that have taken something of a device that is short, unless there are too many models. As few go as
        possible: all contexts would rather shrink. Idle ones go first, pinned ones last; unless it `drains`, only idle
        ones go.
        """

        def order(runner: Runner) -> tuple[bool, bool, bool, bool, float]:
            # A model that drains already goes first: switching to another would leave both half drained.
            new = not runner.quiet and self.turn_ends(runner) > now
            drains_not = runner.key not in self.draining
            return runner.pinned, not runner.quiet, drains_not, new, runner.eviction_score(now)

        staying = [runner for runner in others if runner.state is not State.LEAVING]
        mobile = sorted((r for r in staying if r.state is State.READY and (drains or r.quiet)), key=order)
        going: list[Runner] = []
        while not self.fits(needed, len(staying), least := total(runner.least for runner in staying)):
            short = needed.short(self._budget, least)
            helping = (r for r in mobile if len(staying) >= self._max_loaded or any(map(r.least.on, short)))
            if (victim := next(helping, None)) is None:
                return Making(needed, going, [], enough=False)
            going.append(victim)
            mobile.remove(victim)
            staying.remove(victim)
        shrinking: list[Runner] = []
        taken = total(runner.least if runner.resizing is not None else runner.taken for runner in staying)
        for runner in sorted(staying, key=lambda runner: (not runner.quiet, runner.eviction_score(now))):
            if self.fits(needed, len(staying), taken):
                break
            short = needed.short(self._budget, taken)
            if runner.shrinkable and any(map((runner.taken - runner.least).on, short)):
                shrinking.append(runner)
                taken = taken - runner.taken + runner.least
        return Making(needed, going, shrinking)

    def unload(self, runner: Runner, reason: UnloadReason, evicted_for: LoadSpec | None = None) -> Unload:
        """Let an idle process go; the arguments are as in Unload."""
        runner.state = State.LEAVING
        self.draining.discard(runner.key)
        return Unload(runner.key, reason, evicted_for, runner.keep_alive)
