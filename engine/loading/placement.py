"""Where a model goes: which layers on which GPU, what stays on the CPU, and what that takes on each device. Pure.

- A model that fits on one GPU goes there, unless it is to be spread; else on as few as it fits on.
- If it does not fit on all of them, the experts of a mixture go to the CPU first, those of the first layers before the
  others; then whole layers, again the first ones. The order of layers and devices is llama.cpp's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from engine.api import DeviceShare
from engine.errors import ModelTooLarge
from engine.loading.devices import Device
from engine.loading.sizes import F32, CacheTypes, LayerSizes, ModelSizes, Pass
from engine.loading.windows import window_cells
from engine.messages import HOST, MICRO_BATCH, DeviceBuffers, padded

CELL_OVERHEAD = 112  # bytes: llama.cpp's own notes on a token in the cache
STEPS = 40  # of a search for how far GPUs are filled


@dataclass(frozen=True, slots=True)
class Share:
    """What a load takes on one device, in bytes.

    `cell` are those of each token in the KV cache, and `notes` what llama.cpp notes of it beside that; `window_cell`
    those of each of the `windows` tokens in the cache of layers with a sliding window. `state` are those of all
    recurrent states, `compute` the buffers of a pass. `other` is what is no layer's: a projector, adapters, on the CPU
    also the process and its caches. With time, a prompt cache may take `prompt_cache` bytes, and the buffers of a pass
    `more_compute`, where one sequence has all cells. Of the weights, `mapped` bytes are pages of the file, which the
    system drops where memory is short.
    """

    device: Device
    layers: int = 0
    weights: int = 0
    cell: float = 0
    notes: int = 0
    cells: int = 0
    window_cell: float = 0
    windows: int = 0
    state: int = 0
    compute: int = 0
    other: int = 0
    prompt_cache: int = 0
    more_compute: int = 0
    mapped: int = 0

    @property
    def per_cell(self) -> float:
        """What each token of the cache takes."""
        return self.cell + self.notes

    @property
    def per_window_cell(self) -> float:
        """What each token in the cache of windows takes."""
        return self.window_cell + self.notes

    @property
    def caches(self) -> float:
        """The KV caches."""
        return self.per_cell * self.cells + self.per_window_cell * self.windows

    @property
    def cache(self) -> int:
        """The KV caches and the recurrent states."""
        return round(self.caches) + self.state

    @property
    def size(self) -> int:
        """What the load takes, at first."""
        return self.weights + self.cache + self.compute + self.other

    @property
    def total(self) -> int:
        """All that it may take."""
        return self.size + self.prompt_cache + self.more_compute


@dataclass(frozen=True, slots=True)
class Placement:
    """One share for each device: the GPUs that are used, in llama.cpp's order, and the CPU at the end.

    `gpu_layers` of the `layers`, one of which is the output, are on GPUs. The experts of the first `cpu_experts` layers
    are on the CPU. Of `streams` sequences, caches of their own have a `window` of so many tokens; 0: they have all.
    """

    shares: tuple[Share, ...]
    layers: int
    gpu_layers: int = 0
    cpu_experts: int = 0
    streams: int = 1
    window: int = 0

    @property
    def host(self) -> Share:
        """The CPU's share."""
        return self.shares[-1]

    @property
    def gpus(self) -> tuple[Share, ...]:
        """Those of the GPUs."""
        return self.shares[:-1]

    @property
    def size(self) -> int:
        """Bytes that the load takes on all devices together."""
        return sum(share.size for share in self.shares)

    @property
    def total(self) -> int:
        """Bytes that it may take on all devices together, its prompt cache included."""
        return sum(share.total for share in self.shares)

    @property
    def on_gpus(self) -> int:
        """Bytes on all GPUs together."""
        return sum(share.total for share in self.gpus)

    @property
    def complete(self) -> bool:
        """Whether GPUs compute all of it."""
        return self.gpu_layers == self.layers and not self.cpu_experts

    @property
    def fits(self) -> bool:
        """Whether each device has as much free. A unified GPU's share is the machine's memory too."""
        _, machine = self.sums(lambda share: share.size)
        return machine <= self.host.device.free and all(share.size <= share.device.free for share in self.gpus)

    @property
    def own(self) -> int:
        """Bytes of this machine's memory that the system cannot take back: all but pages of the file."""
        _, machine = self.sums(lambda share: share.size - share.mapped)
        return round(machine)

    @property
    def possible(self) -> bool:
        """Whether the machine has so much memory at all, its swap included."""
        return self.own <= self.host.device.total + self.host.device.swap

    def require(self) -> None:
        """Raise ModelTooLarge unless it is `possible`."""
        if not self.possible:
            raise ModelTooLarge(self.own, self.host.device.total + self.host.device.swap)

    def sums(self, value: Callable[[Share], float]) -> tuple[float, float]:
        """A value's sums: over GPUs, and over this machine's memory, to which that of unified GPUs belongs."""
        machine = value(self.host) + sum(value(share) for share in self.gpus if share.device.unified)
        return sum(value(share) for share in self.gpus), machine

    @property
    def computing(self) -> Share:
        """The share of the device on which texts that are embedded or ranked are computed."""
        return self.gpus[-1] if self.gpus else self.host

    def with_texts(self, compute: int) -> Placement:
        """The same with so many bytes for computing texts."""
        share = self.computing
        shares = (replace(each, compute=compute) if each is share else each for each in self.shares)
        return replace(self, shares=tuple(shares))

    def measured(self, buffers: Sequence[DeviceBuffers], *, passes: bool) -> Placement:
        """The same with what llama.cpp has really allocated; `passes`: for passes and caches too."""
        real = {taken.device: taken for taken in buffers}
        keys = [share.device.handle for share in self.gpus] + [HOST]
        return replace(
            self,
            shares=tuple(
                _measured(share, real[key], passes=passes) if key in real else share
                for key, share in zip(keys, self.shares, strict=True)
            ),
        )

    def shown(self) -> tuple[DeviceShare, ...]:
        """The shares for those who ask for them."""
        return tuple(
            DeviceShare(
                kind=share.device.kind,
                name=share.device.name,
                handle=share.device.handle,
                total=share.device.total,
                free=share.device.free,
                layers=share.layers,
                weights=share.weights,
                cache=share.cache,
                compute=share.compute,
                other=share.other,
                prompt_cache=share.prompt_cache,
            )
            for share in self.shares
        )

    def with_cells(self, cells: int, streams: int = 0) -> Placement:
        """The same with another number of tokens in the KV cache, and perhaps of streams."""
        streams = streams or self.streams
        windows = window_cells(cells, streams, self.window) if self.window else 0
        shares = tuple(replace(share, cells=cells, windows=windows) for share in self.shares)
        return replace(self, shares=shares, streams=streams)

    @property
    def windows_grow(self) -> bool:
        """Whether more cells make the cache of windows larger, too: streams are shorter than it may become."""
        return self.host.windows < self.streams * padded(self.window + MICRO_BATCH) if self.window else False


@dataclass(frozen=True, slots=True)
class Demand:
    """What is to be placed: a model with `cells` tokens of cache for `run.streams` sequences.

    Layers with a sliding window have `run.window` cells for each sequence, all of them if that is 0. `copied` bytes of
    the weights are there twice on the CPU. `projector` and `adapters` go to the first GPU, `host` is what the process
    takes besides, and `prompt_cache` what it may take with time. `mapped`: the file is not read, but mapped.
    """

    sizes: ModelSizes
    types: CacheTypes
    cells: int
    run: Pass
    copied: int = 0
    projector: int = 0
    adapters: int = 0
    host: int = 0
    prompt_cache: int = 0
    mapped: bool = True

    def cost(self, layer: int, *, experts: bool = True) -> int:
        """What a layer takes where it is computed; the one behind the last is the output."""
        if layer == len(self.sizes.layers):
            return self.sizes.output + self.sizes.tied
        sizes = self.sizes.layers[layer]
        cells = self.windows if self.is_small(sizes) else self.cells
        cache = self.types.bytes(sizes.keys, sizes.values) * cells + sizes.state * self.run.streams
        return sizes.weights - (0 if experts else sizes.experts) + round(cache)

    def is_small(self, layer: LayerSizes) -> bool:
        """Whether a layer's cache has no more than windows."""
        return layer.windowed and self.run.window > 0

    @property
    def windows(self) -> int:
        """Tokens in the cache of windows."""
        return self.run.window * self.run.streams

    def cell(self, layers: Iterable[LayerSizes]) -> float:
        """What one token takes in the cache of some layers."""
        own = list(layers)
        return self.types.bytes(sum(layer.keys for layer in own), sum(layer.values for layer in own))


@dataclass(frozen=True, slots=True)
class Wish:
    """How it is to be placed.

    `num_gpu` layers on GPUs, -1 for as many as fit; `main_gpu` is the first to try. `spread`: over all GPUs.
    `margins` bytes of each stay free; unless it `fits`, all is put on the GPUs whatever they have free.
    """

    num_gpu: int = -1
    main_gpu: int | None = None
    spread: bool = False
    margins: Sequence[int] = ()
    fits: bool = True


def place(demand: Demand, wish: Wish, host: Device, gpus: Sequence[Device]) -> Placement:
    """Decide where the parts of a model go."""
    count = len(demand.sizes.layers) + 1
    if not gpus or wish.num_gpu == 0:
        return _built(demand, host, (), (), 0)
    wanted = count if wish.num_gpu < 0 else min(wish.num_gpu, count)
    budgets = [_budget(demand, wish, index, host, gpus) for index in range(len(gpus))]
    extras = demand.projector + demand.adapters
    for chosen in _choices(budgets, wish):
        room = [budgets[index] for index in chosen]
        if counts := _filled(_costs(demand, wanted, 0), room, extras):
            return _built(demand, host, [gpus[index] for index in chosen], counts, 0)
    if wish.num_gpu > 0 or not wish.fits:
        return _built(demand, host, gpus, _forced(_costs(demand, wanted, 0), budgets), 0)
    layers = count - 1
    if any(layer.experts for layer in demand.sizes.layers):
        for experts in range(1, layers + 1):
            if counts := _filled(_costs(demand, wanted, experts), budgets, extras):
                return _built(demand, host, gpus, counts, experts)
    experts = layers if any(layer.experts for layer in demand.sizes.layers) else 0
    for fewer in range(wanted - 1, 0, -1):
        if counts := _filled(_costs(demand, fewer, experts), budgets, extras):
            return _built(demand, host, gpus, counts, experts)
    return _built(demand, host, (), (), 0)


def _choices(budgets: Sequence[int], wish: Wish) -> list[list[int]]:
    """The sets of GPUs to try, by their indexes: each alone, then more and more of them."""
    every = list(range(len(budgets)))
    if wish.spread or len(every) == 1:
        return [every]
    largest = sorted(every, key=lambda index: (index != wish.main_gpu, -budgets[index]))
    return [[index] for index in largest] + [sorted(largest[:size]) for size in range(2, len(every) + 1)]


def _budget(demand: Demand, wish: Wish, index: int, host: Device, gpus: Sequence[Device]) -> int:
    """Bytes for layers on a GPU; below 0 where not even the buffers of a pass have room."""
    gpu = gpus[index]
    free = min(gpu.free, host.free - demand.host - demand.prompt_cache) if gpu.unified else gpu.free
    return free - (wish.margins[index] if wish.margins else 0) - demand.sizes.compute(demand.run)


def _costs(demand: Demand, wanted: int, cpu_experts: int) -> list[int]:
    """What each of the last `wanted` layers takes on a GPU."""
    count = len(demand.sizes.layers) + 1
    return [demand.cost(layer, experts=layer >= cpu_experts) for layer in range(count - wanted, count)]


def _filled(costs: Sequence[int], budgets: Sequence[int], extras: int = 0) -> list[int] | None:
    """How many layers each device gets, all filled alike; None if they do not fit.

    The first device that gets some has room for `extras` bytes too.
    """
    for first, budget in enumerate(budgets):
        room = [-1] * first + [budget - extras, *budgets[first + 1 :]]
        counts = _filled_alike(costs, room)
        if counts is not None and (counts[first] or not extras):
            return counts
    return None


def _filled_alike(costs: Sequence[int], budgets: Sequence[int]) -> list[int] | None:
    best = _counts(costs, budgets)
    if best is None or len(budgets) == 1:
        return best
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        counts = _counts(costs, [budget * middle for budget in budgets])
        if counts is None:
            low = middle
        else:
            best, high = counts, middle
    return best


def _counts(costs: Sequence[int], budgets: Sequence[float]) -> list[int] | None:
    """Layers in their order, on one device after the other."""
    counts, device, left = [0] * len(budgets), 0, budgets[0]
    for cost in costs:
        while cost > left:
            device += 1
            if device == len(budgets):
                return None
            left = budgets[device]
        left -= cost
        counts[device] += 1
    return counts


def _forced(costs: Sequence[int], budgets: Sequence[int]) -> list[int]:
    """The same for layers that need not fit."""
    room = [max(budget, 1) for budget in budgets]
    while (counts := _filled(costs, room)) is None:
        room = [2 * budget for budget in room]
    return counts


def _built(demand: Demand, host: Device, gpus: Sequence[Device], counts: Sequence[int], cpu_experts: int) -> Placement:
    """The placement of so many of the last layers on each GPU."""
    sizes, run = demand.sizes, demand.run
    count = len(sizes.layers) + 1
    first = count - sum(counts)
    shares, at = [], first
    for gpu, layers in zip(gpus, counts, strict=True):
        if layers:
            shares.append(_share(demand, gpu, range(at, at + layers), cpu_experts))
            at += layers
    if shares:
        shares[0] = replace(shares[0], other=demand.projector + demand.adapters)
    rest = _share(demand, host, range(min(first, count - 1)), 0)
    moved = sum(layer.experts for layer in sizes.layers[first:cpu_experts])
    computed = rest.weights + moved + (0 if shares else sizes.output + sizes.tied)
    weights = sizes.entry + computed - (0 if shares else sizes.tied)
    copied = demand.copied * computed // max(1, sizes.weights - sizes.entry + sizes.tied)
    computes = first > 0 or cpu_experts > first
    entered = 2 * run.tokens * sizes.width * F32
    other = demand.host + (0 if shares else demand.projector + demand.adapters)
    shares.append(
        replace(
            rest,
            layers=first,
            weights=weights + copied,
            compute=(rest.compute if computes or not shares else entered) + sizes.outputs(run),
            notes=(1 if run.window else sizes.caches) * CELL_OVERHEAD,
            other=other,
            prompt_cache=demand.prompt_cache,
            mapped=weights if demand.mapped else 0,
        )
    )
    return Placement(
        tuple(shares),
        count,
        count - first if gpus else 0,
        cpu_experts if cpu_experts > first else 0,
        streams=run.streams,
        window=sizes.window if run.window else 0,
    )


def _measured(share: Share, real: DeviceBuffers, *, passes: bool) -> Share:
    share = replace(share, weights=real.weights, mapped=min(share.mapped, real.weights))
    if not passes:
        return share
    known = round(share.cell * share.cells + share.window_cell * share.windows)
    more = max(0, share.compute - real.compute)  # the plan is for the shape whose masks are largest
    return replace(share, state=max(0, real.cache - known), compute=real.compute, more_compute=more)


def _share(demand: Demand, device: Device, layers: range, cpu_experts: int) -> Share:
    """The share of some layers."""
    sizes, end = demand.sizes, len(demand.sizes.layers)
    own = [(number, sizes.layers[number]) for number in layers if number < end]
    weights = sum(layer.weights - (layer.experts if number < cpu_experts else 0) for number, layer in own)
    return Share(
        device,
        len(layers),
        weights + (sizes.output + sizes.tied if end in layers else 0),
        demand.cell(layer for _, layer in own if not demand.is_small(layer)),
        cells=demand.cells,
        window_cell=demand.cell(layer for _, layer in own if demand.is_small(layer)),
        windows=demand.windows,
        state=sum(layer.state for _, layer in own) * demand.run.streams,
        compute=sizes.compute(demand.run),
        mapped=weights if demand.mapped and device.unified else 0,
    )
