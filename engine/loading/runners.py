"""All processes of one machine: what room they leave, and who must go or shrink for more. No I/O and no clock."""

from __future__ import annotations

import math

from engine.loading.state import LoadSpec, Runner, State, Unload


class Runners:
    """The processes by `key`, those with running requests by `ticket`, and what they may take together.

    There are at most `max_loaded` processes, which take at most `budget` bytes (None: no limit); a single one may take
    more. Those that are `draining` get no more requests.
    """

    def __init__(self, max_loaded: int, budget: int | None) -> None:
        self.by_key: dict[str, Runner] = {}
        self.by_ticket: dict[int, Runner] = {}
        self.draining: set[str] = set()
        self._max_loaded = max(1, max_loaded)
        self._budget = math.inf if budget is None else budget

    def others(self, runner: Runner) -> list[Runner]:
        """All but one."""
        return [other for other in self.by_key.values() if other is not runner]

    def fits(self, needed: int, count: int, taken: int) -> bool:
        """Whether `needed` bytes fit beside `count` models that take so many."""
        return not count or (count < self._max_loaded and taken + needed <= self._budget)

    def fits_now(self, needed: int) -> bool:
        """Whether another model of `needed` bytes fits beside all that there are."""
        return self.fits(needed, len(self.by_key), sum(runner.taken for runner in self.by_key.values()))

    def room(self, others: list[Runner], taken: int) -> float:
        """Bytes that a model may take beside others that take so many; alone it may take any number."""
        return self._budget - taken if others else math.inf

    def victims(self, needed: int, others: list[Runner], now: float) -> tuple[list[Runner], list[Runner]]:
        """Who must go so that the others leave `needed` bytes, and whose context must shrink, the rest being as it is.

        As few go as possible: all contexts would rather shrink.
        """
        staying = [runner for runner in others if runner.state is State.READY]
        fixed = [runner for runner in others if runner.state is State.LOADING]
        # A model that drains already goes first: switching to another would leave both half drained.
        staying.sort(key=lambda runner: (not runner.quiet, runner.key not in self.draining, runner.eviction_score(now)))
        going: list[Runner] = []
        while staying and not self.fits(
            needed, len(staying) + len(fixed), sum(runner.least for runner in (*staying, *fixed))
        ):
            going.append(staying.pop(0))
        shrinking: list[Runner] = []
        taken = sum(runner.least if runner.resizing is not None else runner.taken for runner in (*staying, *fixed))
        for runner in staying:
            if self.fits(needed, len(staying) + len(fixed), taken):
                break
            if runner.shrinkable:
                shrinking.append(runner)
                taken -= runner.taken - runner.least
        return going, shrinking

    def unload(self, runner: Runner, reason: str, evicted_for: LoadSpec | None = None) -> Unload:
        """Let an idle process go; the arguments are as in Unload."""
        runner.state = State.LEAVING
        self.draining.discard(runner.key)
        return Unload(runner.key, reason, evicted_for)
