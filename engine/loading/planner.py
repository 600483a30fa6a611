"""Makes memory plans in threads: a plan may read the model's file and asks the devices for their free memory."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from engine.loading import devices, memory
from engine.loading.charge import NOTHING, Charge, Room
from engine.loading.derivations import Weights
from engine.loading.devices import Device
from engine.loading.image_tokens import most_patches
from engine.loading.lean import fewer_layers, lean_limits, lean_spec
from engine.loading.load_queue import MOST_ATTEMPTS
from engine.loading.memory import Limits, MemoryPlan, Request
from engine.loading.state import LoadSpec
from engine.model import Model

ESTIMATES: Final = 256  # that are remembered
NO_LIMIT: Final[Mapping[str, int]] = {}

_Key = tuple[Path, tuple[int, int] | None, bool, LoadSpec, tuple[int, ...], bool]
"""Path and identity of the weights, whether the model generates, its load; what GPUs have free; whether on all."""


class LoadPlanner:
    """Says how much memory a load takes. Owned by the event loop, which it never blocks; `start` it first.

    The scheduler decides by an *estimate*: one sequence, on the machine as it was at the start. Estimates are cached
    until a child reports other types of copied weights than the one before. Each load gets a *plan* of its own, made
    from the memory that is free then.
    """

    def __init__(self, limits: Limits, environ: Mapping[str, str] | None = None) -> None:
        self._limits = limits
        self._environ = environ or {}
        self._host = devices.host()
        self._gpus: Sequence[Device] = ()
        self._seen: list[Device] = []  # the last time that anybody looked
        self._copied_types: frozenset[str] = frozenset()
        self._estimates: OrderedDict[_Key, MemoryPlan] = OrderedDict()  # the one that was used last at the end
        self._estimating = asyncio.Lock()  # the same estimate is made once, and nobody overtakes

    async def start(self) -> None:
        """Look for GPUs."""
        self._seen = await asyncio.to_thread(devices.gpus, self._environ)
        self._gpus = tuple(self._seen)

    @property
    def host(self) -> Device:
        """This machine's memory as it was at the start."""
        return self._host

    @property
    def gpus(self) -> Sequence[Device]:
        """The GPUs as they were at the start."""
        return self._gpus

    def set_copied_types(self, types: Collection[str]) -> None:
        """Set the tensor types (GGUF names) whose weights the library copies."""
        if self._copied_types != types:
            self._copied_types = frozenset(types)
            self._estimates.clear()

    async def estimate(self, model: Model, weights: Weights, spec: LoadSpec) -> MemoryPlan:
        """The least that a load takes; cached. Raises GGUFError or OSError."""
        return await self._estimate(model, weights, spec, self._gpus, spread=self._limits.spread)

    async def ways(self, model: Model, weights: Weights, spec: LoadSpec, estimate: MemoryPlan) -> list[MemoryPlan]:
        """How a model of which this is the estimate could be placed: on each GPU alone where it fits, or on all."""
        if len(self._gpus) < 2 or self._limits.spread or not self._limits.fits or spec.num_gpu >= 0:
            return [estimate]
        order = sorted(range(len(self._gpus)), key=lambda index: (index != spec.main_gpu, -self._gpus[index].free))
        others_full = [
            tuple(gpu if at == index else replace(gpu, free=0) for at, gpu in enumerate(self._gpus)) for index in order
        ]
        alone = [await self._estimate(model, weights, spec, gpus) for gpus in others_full]
        spread = await self._estimate(model, weights, spec, self._gpus, spread=True)
        complete = [plan for plan in alone if plan.placement.complete and plan.num_ctx == estimate.num_ctx]
        return [*(complete or [estimate]), *([spread] if len(spread.placement.gpus) > 1 else [])]

    async def _estimate(
        self, model: Model, weights: Weights, spec: LoadSpec, gpus: Sequence[Device], *, spread: bool = False
    ) -> MemoryPlan:
        key = weights.path, model.identity, model.generates, spec, tuple(gpu.free for gpu in gpus), spread
        async with self._estimating:
            if (estimate := self._estimates.get(key)) is not None:
                self._estimates.move_to_end(key)
                return estimate
            copied_types = self._copied_types
            one = replace(self._limits, parallel=1, spread=spread)
            plan = await asyncio.to_thread(self._plan, model, weights, spec, one, self._host, gpus)
            if copied_types is self._copied_types:
                self._estimates[key] = plan
                if len(self._estimates) > ESTIMATES:
                    self._estimates.popitem(last=False)
            return plan

    async def plan(
        self,
        model: Model,
        weights: Weights,
        spec: LoadSpec,
        ours: Collection[int] = (),
        *,
        attempt: int = 1,
        room: Room = NO_LIMIT,
        promised: Charge = NOTHING,
        freed: Mapping[str, int] = NO_LIMIT,
    ) -> MemoryPlan:
        """The plan for a load that starts now; `ours` are our processes. Raises GGUFError or OSError.

        `attempt`: as in `lean`. `room`: what it may take. Of the memory that is free, what is `promised` is for other
        loads. `freed` bytes of a device, by llama.cpp's name for it, will be free besides.
        """
        limits = lean_limits(self._limits, attempt)
        return await asyncio.to_thread(self._plan_now, model, weights, spec, limits, ours, room, promised, freed)

    async def attempt(
        self,
        model: Model,
        weights: Weights,
        spec: LoadSpec,
        number: int = 1,
        ours: Collection[int] = (),
        *,
        room: Room = NO_LIMIT,
        promised: Charge = NOTHING,
        freed: Mapping[str, int] = NO_LIMIT,
    ) -> tuple[int, LoadSpec, MemoryPlan]:
        """The plan for an attempt to load a model, its number and how it loads; the arguments are as in `plan`.

        It is a leaner attempt where the machine has less memory in all than the one asked for takes. If that is not
        `possible` either, none is.
        """

        async def planned(each: int, how: LoadSpec) -> MemoryPlan:
            return await self.plan(model, weights, how, ours, attempt=each, room=room, promised=promised, freed=freed)

        for each in range(number, MOST_ATTEMPTS + 1):
            chosen = lean_spec(spec, each)
            plan = await planned(each, chosen)
            fewer = fewer_layers(chosen, plan, each) if each == number else chosen
            if fewer is not chosen and (smaller := await planned(each, fewer)).placement.possible:
                chosen, plan = fewer, smaller
            if plan.placement.possible:
                break
        return each, chosen, plan

    async def require(self, model: Model, weights: Weights, spec: LoadSpec, estimate: MemoryPlan) -> MemoryPlan:
        """The estimate, or a leaner one if the machine has less memory in all. Raises ModelTooLarge."""
        if estimate.placement.possible:
            return estimate
        _, _, plan = await self.attempt(model, weights, spec, 2)
        plan.placement.require()
        return plan

    async def with_context(self, plan: MemoryPlan, num_ctx: int, cells: int) -> tuple[int, MemoryPlan]:
        """The plan of a loaded model for a longer context, as long as there is memory for: `memory.with_context`."""

        def measure() -> tuple[int, MemoryPlan]:
            return memory.with_context(plan, num_ctx, cells, devices.host(), self._look())

        return await asyncio.to_thread(measure)

    def _look(self, ours: Collection[int] = ()) -> list[Device]:
        """The GPUs as they are now. The log tells which have gone or come. Blocking."""
        before, self._seen = self._seen, devices.gpus(self._environ, ours)
        devices.tell_changes(before, self._seen)
        return self._seen

    def _plan_now(
        self,
        model: Model,
        weights: Weights,
        spec: LoadSpec,
        limits: Limits,
        ours: Collection[int],
        room: Room,
        promised: Charge,
        freed: Mapping[str, int],
    ) -> MemoryPlan:
        host, *gpus = (_with_free(device, freed) for device in (devices.host(), *self._look(ours)))
        host, *gpus = (_within(device, room, promised) for device in (host, *gpus))
        return self._plan(model, weights, spec, limits, host, gpus)

    def _plan(
        self, model: Model, weights: Weights, spec: LoadSpec, limits: Limits, host: Device, gpus: Sequence[Device]
    ) -> MemoryPlan:
        """Blocking."""
        weights.path.stat()  # gone, perhaps
        projector = 0
        if weights.projector is not None:
            patches = most_patches(weights, spec.num_ctx)
            projector = memory.projector_bytes(weights.projector.stat().st_size, patches)
        mapped = spec.use_mmap is not False
        request = Request(
            options=spec,
            copied=memory.copied_bytes(weights.header, self._copied_types, mapped=mapped, generates=model.generates),
            projector=projector,
            adapters=sum(Path(path).stat().st_size for path in spec.adapters),
            mapped=mapped,
            generates=model.generates,
        )
        return memory.plan(weights.header, request, limits, host, gpus)


def _within(device: Device, room: Room, promised: Charge) -> Device:
    free = min(device.free - promised.on(device.handle), room.get(device.handle, device.free))
    return replace(device, free=max(0, int(free)))


def _with_free(device: Device, freed: Mapping[str, int]) -> Device:
    return replace(device, free=min(device.total, device.free + freed.get(device.handle, 0)))
