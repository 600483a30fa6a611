"""A scheduler and processes that take their time, on a simulated clock: how long requests wait, and what is loaded."""

import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from engine.loading.scheduler import Scheduler
from engine.loading.state import AbortLoad, Action, Grant, LoadSpec, Refuse, StartLoad, Unload

LEAVING = 0.1  # seconds until a process has ended


@dataclass(frozen=True, slots=True)
class Request:
    """A request for a model, when it arrives, and how many seconds its answer takes."""

    at: float
    key: str
    seconds: float


@dataclass(slots=True)
class Simulation:
    """Runs `requests` to their end. `costs` are the seconds that the loads of models take.

    `waits` are the seconds from each request's arrival to its grant, in order of arrival; `loads` the models in the
    order in which they were loaded.
    """

    scheduler: Scheduler
    costs: dict[str, float]
    requests: list[Request]
    waits: dict[int, float] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)
    now: float = 0.0
    _events: list[tuple[float, int, Callable[[], list[Action]]]] = field(default_factory=list)
    _numbers: Iterable[int] = field(default_factory=itertools.count)

    def run(self) -> "Simulation":
        """Raises AssertionError if a request is never granted."""
        for ticket, request in enumerate(self.requests):
            self._at(request.at, lambda ticket=ticket, request=request: self._arrive(ticket, request))
        while self._events:
            deadline = self.scheduler.next_deadline(self.now)
            if deadline is not None and deadline < self._events[0][0]:
                self.now = deadline
                self._carry_out(self.scheduler.tick(self.now))
                continue
            self.now, _, event = heapq.heappop(self._events)
            self._carry_out(event())
        assert set(self.waits) == set(range(len(self.requests))), "some wait for ever"
        return self

    def _at(self, when: float, event: Callable[[], list[Action]]) -> None:
        heapq.heappush(self._events, (when, next(iter(self._numbers)), event))

    def _arrive(self, ticket: int, request: Request) -> list[Action]:
        return self.scheduler.request(ticket, LoadSpec(key=request.key, num_ctx=1), None, 1e9, self.now)

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case StartLoad(key):
                    self.loads.append(key)
                    cost = self.costs[key]
                    self._at(self.now + cost, lambda k=key, c=cost: self.scheduler.loaded(k, self.now, c, 0))
                case Unload(key) | AbortLoad(key):
                    self._at(self.now + LEAVING, lambda k=key: self.scheduler.unloaded(k, self.now))
                case Grant(ticket):
                    assert ticket not in self.waits
                    request = self.requests[ticket]
                    self.waits[ticket] = self.now - request.at
                    self._at(self.now + request.seconds, lambda t=ticket: self.scheduler.finished(t, self.now))
                case Refuse():
                    raise AssertionError("nobody is refused here")
