"""All processes of one machine: what room they leave, and who must go or shrink for more. No I/O and no clock."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from engine.loading.state import LoadSpec, Runner, State, Unload

TURN = 2.0  # times what its load took: a model that was just loaded is not drained before


@dataclass(frozen=True, slots=True)
class Room:
    """How room for a model is made: who goes, in this order, and whose context shrinks.

    Unless it is `enough`, what is there now stays too large even then: somebody loads.
    """

    going: list[Runner]
    shrinking: list[Runner]
    enough: bool = True

    @property
    def idle(self) -> list[Runner]:
        """Those that can go at once. Pinned ones do so only when all others have gone."""
        others_stay = any(not (runner.idle or runner.pinned) for runner in self.going)
        return [runner for runner in self.going if runner.idle and not (runner.pinned and others_stay)]


class Runners:
    """The processes by `key`, those with running requests by `ticket`, and what they may take together.

    There are at most `max_loaded` processes, which take at most `budget` bytes (None: no limit); a single one may take
    more. Those that are `draining` get no more requests. `longest_turn`: seconds of a turn, at most.
    """

    def __init__(self, max_loaded: int, budget: int | None) -> None:
        self.by_key: dict[str, Runner] = {}
        self.by_ticket: dict[int, Runner] = {}
        self.draining: set[str] = set()
        self.longest_turn = math.inf
        self._max_loaded = max(1, max_loaded)
        self._budget = math.inf if budget is None else budget

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

    def fits(self, needed: int, count: int, taken: int) -> bool:
        """Whether `needed` bytes fit beside `count` models that take so many."""
        return not count or (count < self._max_loaded and taken + needed <= self._budget)

    def fits_now(self, needed: int) -> bool:
        """Whether another model of `needed` bytes fits beside all that there are."""
        return self.fits(needed, len(self.by_key), sum(runner.taken for runner in self.by_key.values()))

    def turn_ends(self, runner: Runner) -> float:
        """Until when a model takes all requests, whoever waits for its room."""
        return runner.ready_at + min(TURN * runner.cost, self.longest_turn)

    def room(self, others: list[Runner], taken: int) -> float:
        """Bytes that a model may take beside others that take so many; alone it may take any number."""
        return self._budget - taken if others else math.inf

    def room_for(self, needed: int, others: Iterable[Runner], now: float, *, drains: bool = True) -> Room:
        """Who must go so that the others leave `needed` bytes, and whose context must shrink, the rest being as it is.

        As few go as possible: all contexts would rather shrink. Idle ones go first, pinned ones last; unless it
        `drains`, only idle ones go.
        """

        def order(runner: Runner) -> tuple[bool, bool, bool, bool, float]:
            # A model that drains already goes first: switching to another would leave both half drained.
            new = not runner.quiet and self.turn_ends(runner) > now
            drains_not = runner.key not in self.draining
            return runner.pinned, not runner.quiet, drains_not, new, runner.eviction_score(now)

        staying = [runner for runner in others if runner.state is not State.LEAVING]
        mobile = sorted((r for r in staying if r.state is State.READY and (drains or r.quiet)), key=order)
        going: list[Runner] = []
        while not self.fits(needed, len(staying), sum(runner.least for runner in staying)):
            if not mobile:
                return Room(going, [], enough=False)
            going.append(mobile.pop(0))
            staying.remove(going[-1])
        shrinking: list[Runner] = []
        taken = sum(runner.least if runner.resizing is not None else runner.taken for runner in staying)
        for runner in sorted(staying, key=lambda runner: (not runner.quiet, runner.eviction_score(now))):
            if self.fits(needed, len(staying), taken):
                break
            if runner.shrinkable:
                shrinking.append(runner)
                taken -= runner.taken - runner.least
        return Room(going, shrinking)

    def unload(self, runner: Runner, reason: str, evicted_for: LoadSpec | None = None) -> Unload:
        """Let an idle process go; the arguments are as in Unload."""
        runner.state = State.LEAVING
        self.draining.discard(runner.key)
        return Unload(runner.key, reason, evicted_for)
