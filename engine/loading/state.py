"""The nouns of scheduling: what a load is asked for, what the scheduler orders, what it knows of a loaded model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

NO_WISH = (-1, None, None)
"""The placement of weights that nobody has a wish about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSpec:
    """How a model is to be loaded. `key` is the path of its weights: names that share weights share one process.

    `num_ctx` is the effective context in tokens, `num_ctx_auto` says that nobody asked for it. `num_gpu`, `main_gpu`
    and `use_mmap` are wishes about where the weights are; -1 and None are none. `bytes_needed` is the estimate that
    the budget is held against. `trace_id` is the id in the log of the request that asks.
    """

    key: str
    num_ctx: int
    num_ctx_auto: bool = True
    num_gpu: int = -1
    main_gpu: int | None = None
    use_mmap: bool | None = None
    adapters: tuple[str, ...] = ()
    bytes_needed: int = 0
    trace_id: str = field(default="", compare=False)

    @property
    def placement(self) -> tuple[int, int | None, bool | None]:
        """Where the weights shall be. It changes no answer, only what answers cost."""
        return self.num_gpu, self.main_gpu, self.use_mmap

    @property
    def placed_by_wish(self) -> bool:
        """Whether somebody wants the weights elsewhere than they would be by themselves."""
        return self.placement != NO_WISH

    def suffices(self, wanted: LoadSpec) -> bool:
        """Whether a model that was loaded so can answer a request that wants it so, wherever its weights are.

        A smaller context is served by a larger one.
        """
        return (
            self.key == wanted.key
            and self.adapters == wanted.adapters
            and (wanted.num_ctx <= self.num_ctx or (self.num_ctx_auto and wanted.num_ctx_auto))
        )

    def serves(self, wanted: LoadSpec) -> bool:
        """Whether it is loaded just as the request wants it: without a wish, where it is by itself."""
        return self.suffices(wanted) and self.placement == wanted.placement


class Refusal(Enum):
    """Why a request is turned away."""

    BUSY = "busy"
    LOAD_FAILED = "load failed"


@dataclass(frozen=True, slots=True)
class StartLoad:
    """Start a process and load this model; answered by `loaded` or `load_failed`."""

    key: str
    spec: LoadSpec


@dataclass(frozen=True, slots=True)
class Unload:
    """End the process of this idle model; answered by `unloaded`.

    `reason` is for the log; `evicted_for` is the load that takes its place.
    """

    key: str
    reason: str = field(default="", compare=False)
    evicted_for: LoadSpec | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class AbortLoad:
    """Nobody waits for this load any more: end its process; answered by `unloaded`."""

    key: str


@dataclass(frozen=True, slots=True)
class Grant:
    """The model is loaded and the request may run; `finished` gives its place back."""

    ticket: int
    key: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request will not run. `detail` is the text of a failed load."""

    ticket: int
    reason: Refusal
    detail: str = ""


Action = StartLoad | Unload | AbortLoad | Grant | Refuse


class State(Enum):
    """The life of a process. Before LOADING and after LEAVING there is none."""

    LOADING = "loading"
    READY = "ready"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class RunnerView:
    """A process as others may see it. `expires_at` is None until its first answer has ended."""

    key: str
    spec: LoadSpec
    state: State
    active: int
    keep_alive: float
    expires_at: float | None
    size: int

    def expiry(self, now: float) -> float:
        """When it will be unloaded, as far as that can be told: inf for never."""
        return now + self.keep_alive if self.expires_at is None else self.expires_at


@dataclass(slots=True)
class Runner:
    """A process as the scheduler keeps it. Times are in seconds of the caller's clock, sizes in bytes."""

    spec: LoadSpec
    keep_alive: float
    size: int
    state: State = State.LOADING
    cost: float = 0.0
    last_used: float = 0.0
    expires_at: float | None = None
    active: set[int] = field(default_factory=set)

    @property
    def key(self) -> str:
        """The path of the weights."""
        return self.spec.key

    @property
    def idle(self) -> bool:
        """Loaded, with nothing to do."""
        return self.state is State.READY and not self.active

    def serves(self, wanted: LoadSpec, *, anywhere: bool) -> bool:
        """Whether a request can run in it now; `anywhere`: a wish about the place of the weights must wait."""
        spec = self.spec
        return self.state is State.READY and (spec.suffices if anywhere else spec.serves)(wanted)

    def eviction_score(self, now: float) -> tuple[bool, float]:
        """The lowest goes first: what is pinned goes last; then what was long idle for what loading it again costs."""
        return math.isinf(self.keep_alive), -(now - self.last_used) / max(self.cost, 0.001)

    def view(self) -> RunnerView:
        """A copy for others."""
        return RunnerView(
            self.key, self.spec, self.state, len(self.active), self.keep_alive, self.expires_at, self.size
        )
