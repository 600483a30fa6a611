"""Decides how much context the loaded models have, and who gets it. No I/O and no clock.

- The context of a loaded model grows for a running request if the memory for it is there, or idle models or contexts
  that have grown hold it. Nobody is drained for that: who drains may itself be waiting for more context.
- So it does for requests that wait because they have set a longer one than it has. Where that cannot be had, the model
  is loaded anew.
- Where another model needs the memory, a grown context that no running request needs shrinks, before any model goes.
- A request that has got its context, but not the cells to run beside all others, gets those if they cost nobody
  anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.loading.charge import NOTHING, Charge, total
from engine.loading.runners import Runners
from engine.loading.state import Action, CacheSize, Grown, Resize, Runner, State
from engine.messages import CONTEXT_PADDING, padded
from engine.unloading import UnloadReason


@dataclass(frozen=True, slots=True)
class _Growth:
    """A running request that waits for `wanted` tokens of context; up to `target` are better."""

    ticket: int
    wanted: int
    target: int


class ContextGrowth:
    """The contexts of all `runners`, and the requests that wait for more. Owned by the scheduler."""

    def __init__(self, runners: Runners) -> None:
        self._runners = runners
        self._growing: dict[int, _Growth] = {}  # by ticket, in order of arrival

    def want(self, ticket: int, wanted: int, target: int) -> None:
        """A running request wants so much context; the numbers are as in `Scheduler.grow`."""
        runner = self._runners.by_ticket[ticket]
        runner.active[ticket] = max(runner.active[ticket], wanted)
        self._growing[ticket] = _Growth(ticket, wanted, target)

    def forget(self, ticket: int) -> None:
        """A request has ended."""
        self._growing.pop(ticket, None)

    def tell_all(self, runner: Runner) -> list[Action]:
        """Nobody who runs there gets any more."""
        waiting = [growth for growth in self._growing.values() if growth.ticket in runner.active]
        return [self._grown(growth) for growth in waiting]

    def changed(self, runner: Runner, num_ctx: int, size: Charge, cache: CacheSize) -> list[Action]:
        """A Resize has ended, as ordered or not. If not, those who wait for it get what there is."""
        assert runner.resizing is not None
        failed = num_ctx < runner.resizing
        if failed:
            runner.refused_ctx = min(runner.refused_ctx, runner.resizing)
        if runner.shrinks and size.total >= runner.size.total:  # it cannot: do not try again
            runner.first_ctx, runner.first_cells, runner.first_size = num_ctx, cache.cells, size
        runner.spec = replace(runner.spec, num_ctx=num_ctx)
        runner.size, runner.cache, runner.resizing, runner.reserved, runner.shrinks = size, cache, None, NOTHING, False
        return self.tell_all(runner) if failed else []

    def grow_all(self, now: float) -> list[Action]:
        """One step for each request that wants more context; then cells for those that have got theirs."""
        actions = [action for growth in list(self._growing.values()) for action in self._grow(growth, now)]
        granted = [self._runners.by_ticket[action.ticket] for action in actions if isinstance(action, Grown)]
        return actions + [action for runner in granted for action in self._widen(runner)]

    def lengthen(
        self, runner: Runner, wanted: int, contexts: Sequence[int], now: float, ahead: Charge | None = None
    ) -> list[Action] | None:
        """One step towards a context of `wanted` tokens, for requests that wait with these `contexts`.

        None if there cannot be as much before others that run have ended; or not beside what is `ahead`: a
        load that was asked for before.
        """
        if runner.resizing is not None:
            return []
        if wanted >= runner.refused_ctx or self._possible_cells(runner) < wanted:
            return None
        most = self._most_cells(runner, ahead or NOTHING)
        if most >= wanted:
            return [self._order(runner, wanted, most, contexts)]
        return None if ahead is not None else self._make_room(runner, wanted, now)

    def widen_all(self) -> list[Action]:
        """Cells for those that have got their context, as soon as it does not change any more."""
        widening = [runner for runner in self._runners.ready if runner.widens and runner.resizing is None]
        for runner in widening:
            runner.widens = False
        return [action for runner in widening for action in self._widen(runner)]

    def shrink(self, runner: Runner) -> Action:
        """Order the first context. From now on no request is granted that needs the longer one."""
        runner.resizing, runner.shrinks = runner.first_ctx, True
        runner.spec = replace(runner.spec, num_ctx=runner.first_ctx)
        return Resize(runner.key, runner.first_ctx, runner.first_cells)

    def _grow(self, growth: _Growth, now: float) -> list[Action]:
        """Order a longer context if there is memory for it, or make that; tell the request if there cannot be any."""
        runner = self._runners.by_ticket[growth.ticket]
        if runner.spec.num_ctx >= growth.wanted:  # also while that changes: it becomes no less
            return [self._grown(growth)]
        if runner.resizing is not None:
            return []
        most = self._most_cells(runner)
        if most >= growth.wanted:
            return [self._order(runner, int(min(most, growth.target)), most)]
        aim = int(min(growth.wanted, self._possible_cells(runner)))
        if aim <= runner.spec.num_ctx:
            return [self._grown(growth)]
        return [self._order(runner, aim, most)] if most >= aim else self._make_room(runner, aim, now)

    def _make_room(self, runner: Runner, cells: int, now: float) -> list[Action]:
        """Let idle models go, and contexts shrink, for so many cells."""
        room = self._runners.room_for(runner.size_with(cells), self._runners.others(runner), now, drains=False)
        spec = replace(runner.spec, trace_id="")  # the request that grows is not the one that has loaded the model
        unloads = [self._runners.unload(victim, UnloadReason.ROOM_FOR_CONTEXT, spec) for victim in room.idle]
        return [*unloads, *(self.shrink(other) for other in room.shrinking)]

    def _widen(self, runner: Runner) -> list[Action]:
        """Order more cells for a context that is long enough, so that all can run at once, if that costs nobody."""
        if runner.resizing is not None:
            runner.widens = not runner.shrinks
            return []
        if any(ticket in runner.active for ticket in self._growing):
            return []
        most = self._most_cells(runner)
        if min(most, runner.demand()) < runner.cache.cells + CONTEXT_PADDING:
            return []
        return [self._order(runner, runner.spec.num_ctx, most)]

    def _most_cells(self, runner: Runner, ahead: Charge = NOTHING) -> float:
        """How many cells it can have beside the others as they are, and what is `ahead`."""
        others = self._runners.others(runner)
        return runner.most_cells(self._runners.room(others, total(other.taken for other in others) + ahead))

    def _possible_cells(self, runner: Runner) -> float:
        """How many it can have once idle models have gone and contexts have shrunk."""
        others = self._runners.others(runner)
        staying = [other for other in others if not other.quiet and other.state is not State.LEAVING]
        return runner.most_cells(self._runners.room(staying, total(other.least for other in staying)))

    def _grown(self, growth: _Growth) -> Action:
        """Tell a request what context it may use now."""
        del self._growing[growth.ticket]
        runner = self._runners.by_ticket[growth.ticket]
        num_ctx = min(growth.target, runner.spec.num_ctx)
        runner.active[growth.ticket] = num_ctx
        return Grown(growth.ticket, num_ctx)

    def _order(self, runner: Runner, num_ctx: int, most: float, contexts: Sequence[int] = ()) -> Action:
        """Order a longer context, and cells for all that run and that wait with these `contexts`: at most so many."""
        cells = max(runner.cache.cells, int(min(most, padded(max(num_ctx, runner.demand(contexts))))))
        runner.resizing, runner.reserved = num_ctx, runner.size_with(cells) - runner.size
        return Resize(runner.key, num_ctx, cells)
