"""The scheduler's data: how a load is specified, the actions that the scheduler orders, and the state of a process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from engine.loading.charge import NOTHING, Charge, Room, charge
from engine.messages import CONTEXT_PADDING, padded
from engine.unloading import UnloadReason

DEFAULT_PLACEMENT = (-1, None, None)
"""`LoadOptions.placement` of a request that asks for no particular one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What a request may ask of a load.

    `num_ctx` is the effective context in tokens; `num_ctx_auto`: the request did not ask for one, so it may be lowered.
    `num_gpu` layers go to GPUs, `main_gpu` first; these and `use_mmap` ask for a placement of the weights, -1 and None
    mean as it is, or the default one.
    """

    num_ctx: int
    num_ctx_auto: bool = True
    num_gpu: int = -1
    main_gpu: int | None = None
    use_mmap: bool | None = None

    @property
    def placement(self) -> tuple[int, int | None, bool | None]:
        """Where the weights go: it changes only how long answers take, not what they say."""
        return self.num_gpu, self.main_gpu, self.use_mmap

    @property
    def asks_for_placement(self) -> bool:
        """Whether the request asks for a placement of its own."""
        return self.placement != DEFAULT_PLACEMENT


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSpec(LoadOptions):
    """How a model is to be loaded. `key` is the path of its weights: names that share weights share one process.

    `bytes_needed` is the estimate that must fit, or several, of which one must. `projector` is the path of the file
    with which it sees or hears, "" for none. `evicts`: other models may be unloaded for it. `trace_id` is the request's
    id in the log.
    """

    key: str
    adapters: tuple[str, ...] = ()
    projector: str = ""
    bytes_needed: int | tuple[Charge, ...] = 0
    evicts: bool = field(default=True, compare=False)
    trace_id: str = field(default="", compare=False)

    @property
    def needs(self) -> tuple[Charge, ...]:
        """`bytes_needed` by device: the ways in which the model may be placed, best first."""
        return self.bytes_needed if isinstance(self.bytes_needed, tuple) else (charge(self.bytes_needed),)

    def suffices(self, other: LoadSpec) -> bool:
        """Whether a model loaded as `self` can answer a request for `other`, wherever the weights are.

        A larger context serves a smaller one.
        """
        return (
            self.key == other.key
            and (self.adapters, self.projector) == (other.adapters, other.projector)
            and (other.num_ctx <= self.num_ctx or (self.num_ctx_auto and other.num_ctx_auto))
        )

    def serves(self, other: LoadSpec) -> bool:
        """As `suffices`, and the weights are placed as the request asks."""
        return self.suffices(other) and self.places(other)

    def places(self, other: LoadSpec) -> bool:
        """Whether the weights are where a request for `other` wants them. What it does not name is as it is."""
        return (
            other.num_gpu in (-1, self.num_gpu)
            and other.main_gpu in (None, self.main_gpu)
            and other.use_mmap in (None, self.use_mmap is not False)
        )

    def lacks_only_context(self, other: LoadSpec) -> bool:
        """Whether a model loaded as `self` would serve a request for `other` if its context were longer."""
        asked = (other.key, other.adapters, other.projector)
        alike = (self.key, self.adapters, self.projector) == asked and self.places(other)
        return alike and not self.suffices(other)


class Refusal(Enum):
    """Why a request is refused."""

    BUSY = "busy"
    LOAD_FAILED = "load failed"


@dataclass(frozen=True, slots=True)
class StartLoad:
    """Start a process and load this model; answered by `loaded`, `load_failed` or `out_of_memory`.

    `attempt` counts up from 1 where memory was short: later ones are leaner.
    """

    key: str
    spec: LoadSpec
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Unload:
    """End the process of this idle model; answered by `unloaded`.

    `evicted_for` is the load that takes its place, or the model whose context grows. It was to stay for `keep_alive`
    seconds.
    """

    key: str
    reason: UnloadReason = field(default=UnloadReason.IDLE, compare=False)
    evicted_for: LoadSpec | None = field(default=None, compare=False)
    keep_alive: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class AbortLoad:
    """End the process of a load that no request waits for any more; answered by `unloaded`."""

    key: str


@dataclass(frozen=True, slots=True)
class Grant:
    """The model is loaded and the request may run, until it calls `finished`."""

    ticket: int
    key: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request will not run. `detail` is the text of a failed load."""

    ticket: int
    reason: Refusal
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Resize:
    """Give a loaded model a context of `num_ctx` tokens, or as many as can be had; answered by `context_changed`.

    `cells`: tokens for all sequences together, as far as there is plenty of memory.
    """

    key: str
    num_ctx: int
    cells: int


@dataclass(frozen=True, slots=True)
class Grown:
    """A running request that wanted more context may use `num_ctx` tokens: as many as it wanted, or all it can have.

    0: its process has died.
    """

    ticket: int
    num_ctx: int


Action = StartLoad | Unload | AbortLoad | Grant | Refuse | Resize | Grown


class State(Enum):
    """The state of a process. It begins with LOADING; after LEAVING there is no process."""

    LOADING = "loading"
    READY = "ready"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class RunnerView:
    """A copy of a `Runner` for callers. `expires_at` is None until its first answer has ended."""

    key: str
    spec: LoadSpec
    state: State
    active: int
    keep_alive: float
    expires_at: float | None
    size: int

    def expiry(self, now: float) -> float:
        """When it will be unloaded if nothing else happens; inf: never."""
        return now + self.keep_alive if self.expires_at is None else self.expires_at


@dataclass(frozen=True, slots=True)
class CacheSize:
    """The KV cache of a loaded model: `cells` tokens of `per_token` bytes for `streams` sequences together."""

    cells: int = 0
    per_token: Charge | int = 1
    streams: int = 1

    @property
    def each(self) -> Charge:
        """What one token takes of each device."""
        return charge(self.per_token)

    @property
    def bytes(self) -> Charge:
        """What it takes of each."""
        return self.each * self.cells


NO_CACHE = CacheSize()


@dataclass(slots=True)
class Runner:
    """A process as the scheduler sees it. Times are seconds of the caller's clock, sizes bytes as a ledger counts them.

    `cost` is how long its load took, `ready_at` when that ended. `active` are the tickets of the requests that run in
    it, with the tokens of context that each may use or wants. `spec` has the context that it has now, `cache` its
    cells; it was loaded with `first_ctx` tokens and `first_cells`, and took `first_size` bytes. A context of
    `refused_ctx` tokens could not be had. While its context changes, `resizing` is the ordered number of tokens, and it
    takes `reserved` bytes more or `shrinks`; if it `widens`, more cells are looked for afterwards. `stopped` says
    why it is to go once it is idle, None if only its time is over.
    """

    spec: LoadSpec
    keep_alive: float
    size: Charge
    state: State = State.LOADING
    cost: float = 0.0
    ready_at: float = 0.0
    last_used: float = 0.0
    expires_at: float | None = None
    active: dict[int, int] = field(default_factory=dict)
    cache: CacheSize = NO_CACHE
    first_ctx: int = 0
    first_cells: int = 0
    first_size: Charge = NOTHING
    refused_ctx: float = math.inf
    resizing: int | None = None
    reserved: Charge = NOTHING
    shrinks: bool = False
    widens: bool = False
    stopped: UnloadReason | None = None

    @property
    def key(self) -> str:
        """The path of the weights."""
        return self.spec.key

    @property
    def idle(self) -> bool:
        """Loaded, with nothing to do."""
        return self.quiet and self.resizing is None

    @property
    def quiet(self) -> bool:
        """Loaded, and no request runs in it."""
        return self.state is State.READY and not self.active

    @property
    def pinned(self) -> bool:
        """Whether it is to stay loaded for ever: it goes last."""
        return math.isinf(self.keep_alive)

    @property
    def taken(self) -> Charge:
        """Bytes that it takes now, or that are reserved for its load."""
        return self.size + self.reserved

    @property
    def shrinkable(self) -> bool:
        """Whether its context has grown and no request in it needs that any more."""
        grown = self.state is State.READY and self.resizing is None and self.size.total > self.first_size.total
        return grown and max(self.active.values(), default=0) <= self.first_ctx

    @property
    def least(self) -> Charge:
        """Bytes that it will take if its context shrinks as far as it can, or does what was ordered."""
        return self.first_size if self.shrinkable or self.shrinks else self.taken

    def demand(self, more: Sequence[int] = ()) -> int:
        """Cells for all that run and may run at once, each with all of its context; `more`: contexts of others."""
        return sum(sorted([*self.active.values(), *more], reverse=True)[: self.cache.streams])

    def most_cells(self, room: Room) -> float:
        """How many cells it can have where it may take so much `room`. Those that it has cost nothing.

        While their number changes, the old ones may still take memory beside the new ones.
        """
        spare = (self.size + self.cache.bytes).left_of(room)
        more = min((spare[device] // each for device, each in self.cache.each.parts if device in spare), default=None)
        if more is None:
            return math.inf
        return self.cache.cells + max(0, more // CONTEXT_PADDING * CONTEXT_PADDING)

    def size_with(self, cells: int) -> Charge:
        """What it takes while it gets so many cells."""
        more = padded(cells) - self.cache.cells
        return self.size if more <= 0 else self.size + self.cache.bytes + self.cache.each * more

    def serves(self, other: LoadSpec, *, anywhere: bool) -> bool:
        """Whether a request can run in it now; `anywhere`: whatever its placement."""
        spec = self.spec
        return self.state is State.READY and (spec.suffices if anywhere else spec.serves)(other)

    def eviction_score(self, now: float) -> float:
        """Sort key for eviction, lowest first: by idle time over the cost of a load."""
        return -(now - self.last_used) / max(self.cost, 0.001)

    def view(self) -> RunnerView:
        """A copy for callers."""
        return RunnerView(
            self.key, self.spec, self.state, len(self.active), self.keep_alive, self.expires_at, self.size.total
        )
