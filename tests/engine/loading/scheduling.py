"""Schedulers whose tickets, clocks and processes are in the hands of a test."""

from typing import Any

from engine.loading.scheduler import Scheduler
from engine.loading.state import Action, CacheSize, Grant, LoadSpec, StartLoad, State

CTX = 1024  # tokens with which models are loaded below; each takes one byte of their size


def spec(key: str, **wishes: Any) -> LoadSpec:
    return LoadSpec(**{"key": key, "num_ctx": 4096, **wishes})


class Driver:
    """A scheduler with tickets that are counted, and a clock that is set by hand."""

    def __init__(
        self, max_loaded: int = 3, max_queue: int = 512, budget: int | None = None, max_loads: int = 1
    ) -> None:
        self.scheduler = Scheduler(max_loaded, max_queue, budget, max_loads)
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


class Contexts(Driver):
    """Models whose contexts grow, with `streams` sequences at once."""

    streams = 1

    def load(self, key: str, size: int = 10 * CTX, **wishes: Any) -> int:
        """Load a model for a request that goes on; returns its ticket."""
        wishes = {"num_ctx": CTX, "bytes_needed": size, **wishes}
        assert any(isinstance(action, StartLoad) for action in self.ask(key, **wishes))
        cache = CacheSize(wishes["num_ctx"], 1, self.streams)
        assert self.scheduler.loaded(key, self.now, 1.0, size, cache) == [Grant(self.tickets, key)]
        return self.tickets

    def grow(self, ticket: int, wanted: int, target: int | None = None) -> list[Action]:
        return self.scheduler.grow(ticket, wanted, target or wanted, self.now)

    def changed(self, key: str, num_ctx: int, cells: int = 0) -> list[Action]:
        """A context has changed, by default with as many cells; a model without its cache takes 9 * CTX bytes."""
        cells = cells or num_ctx
        cache = CacheSize(cells, 1, self.streams)
        return self.scheduler.context_changed(key, self.now, num_ctx, 9 * CTX + cells, cache)

    def load_grown(self, key: str, num_ctx: int) -> int:
        """Load a model for a request that goes on and needs more context, which it gets; returns its ticket."""
        ticket = self.load(key)
        self.grow(ticket, num_ctx)
        self.changed(key, num_ctx)
        return ticket

    def taken(self) -> dict[str, int]:
        return {view.key: view.size for view in self.scheduler.runners()}

    def contexts(self) -> dict[str, int]:
        return {view.key: view.spec.num_ctx for view in self.scheduler.runners()}
