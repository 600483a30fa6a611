"""One loaded model: its process, the bytes that it takes, and the log lines of its load and its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from engine.api import LoadPlan, RunningModel
from engine.loading import devices
from engine.loading.charge import Charge
from engine.loading.ledger import Ledger
from engine.loading.memory import MemoryPlan
from engine.loading.planner import LoadPlanner
from engine.loading.process import RunnerProcess
from engine.loading.state import CacheSize, LoadSpec, RunnerView
from engine.messages import Loaded
from engine.model import Model
from registry.logfields import fields
from registry.names import ModelName

log = logging.getLogger("pronk.engine")


def shown_plan(
    model: Model, plan: MemoryPlan, *, num_ctx: int, loaded: bool = False, evicts: Sequence[str] = (), reloads: str = ""
) -> LoadPlan:
    """A plan for those who ask for one; `evicts` and `reloads`: the names of the models that would go."""
    placement = plan.placement
    return LoadPlan(
        name=model.name.full,
        loaded=loaded,
        fits=loaded or placement.fits,
        context_length=num_ctx,
        parallel=plan.n_parallel,
        cells=plan.n_cells,
        size=plan.size,
        prompt_cache=plan.prompt_cache,
        refused=not (loaded or placement.possible),
        size_vram=placement.on_gpus,
        embedding_size=plan.embedding_bytes,
        layers=placement.layers,
        gpu_layers=placement.gpu_layers,
        cpu_experts=placement.cpu_experts,
        devices=placement.shown(),
        evicts=tuple(evicts),
        reloads=reloads,
    )


@dataclass(slots=True)
class LoadedModel:
    """A model, the process that has loaded it, and the bytes that it takes beside its prompt cache (`size`).

    `num_ctx` are the tokens of context that it has now, and `plan` is what it takes for them, by what its process has
    reported: on each device so many bytes more than planned as `surplus` says, by handle. `embedding_bytes` are those
    that texts to embed have added. `names` are the full names under which it was asked for, with the digests of their
    manifests, the latest one at the end.
    """

    model: Model
    process: RunnerProcess
    spec: LoadSpec
    size: int
    embedding_bytes: int
    num_ctx: int
    plan: MemoryPlan
    surplus: dict[str, int] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    lost: bool = False

    @classmethod
    def of(cls, model: Model, process: RunnerProcess, spec: LoadSpec, plan: MemoryPlan, loaded: Loaded) -> LoadedModel:
        """A model just loaded. Its size is the planned one, corrected by what its process reports of each device."""
        real = replace(plan, placement=plan.placement.measured(loaded.buffers, passes=plan.generates))
        surplus = {share.device.handle: share.size for share in real.placement.shares}
        for share in plan.placement.shares:
            surplus[share.device.handle] -= share.size
        return cls(model, process, spec, real.size, 0, plan.num_ctx, real, surplus)

    @property
    def label(self) -> str:
        """Its name in the log and in metrics: the one that it was loaded by."""
        return self.model.name.shortest

    def memory(self) -> Iterator[tuple[str, int, int]]:
        """For each device: its handle (`cpu` for this machine), bytes planned and bytes that are really taken."""
        for share in self.plan.placement.shares:
            handle, size = share.device.handle, share.size
            yield handle or "cpu", size - self.surplus.get(handle, 0), size

    def charged(self, ledger: Ledger) -> tuple[Charge, CacheSize]:
        """What it counts for, and its KV cache."""
        return ledger.charge(self.plan.placement, self.size - self.plan.size), ledger.cache(self.plan)

    async def change_context(self, num_ctx: int, cells: int, planner: LoadPlanner) -> None:
        """Give it so many tokens of context and cells, or as many as there is memory for. Raises RunnerDied."""
        before, started = (self.num_ctx, self.plan.n_cells), time.monotonic()
        planned, plan = num_ctx, self.plan.with_cells(cells)
        if num_ctx > self.num_ctx or cells > self.plan.n_cells:
            planned, plan = await planner.with_context(self.plan, num_ctx, cells)
        changes = (planned, plan.n_cells) != before
        if changes and await self.process.resize(planned, plan.n_cells if plan.generates else 0):
            self.size += plan.size - self.plan.size
            self.num_ctx, self.plan = planned, plan
            self._log_context(*before, time.monotonic() - started)
        if self.num_ctx < num_ctx:
            values = {"context": self.num_ctx, "wanted": num_ctx, "pid": self.process.pid}
            log.warning("no memory for a longer context", extra=fields(model=self.model.name.shortest, **values))

    def count_embedding(self) -> None:
        """Add to the size what texts to embed may take by now: more, where the context has grown."""
        needed = self.plan.embedding_for(self.model.header, self.num_ctx)
        self.size += max(0, needed - self.embedding_bytes)
        self.embedding_bytes = max(needed, self.embedding_bytes)

    def asked_as(self, model: Model) -> None:
        """A request has asked for it by this name."""
        self.names.pop(model.name.full, None)
        self.names[model.name.full] = model.digest

    @property
    def name(self) -> str:
        """The name by which it was last asked for."""
        return ModelName.parse(next(reversed(self.names), self.model.name.full)).shortest

    def shown(self, view: RunnerView, now: float) -> RunningModel:
        """The model as `/api/ps` shows it. `now` is the time by the scheduler's clock, in seconds."""
        (name, digest), *others = reversed(self.names.items() or {self.model.name.full: self.model.digest}.items())
        return RunningModel(
            name=name,
            digest=digest,
            size=self.size,
            size_vram=self.size if self.plan.placement.complete else self.plan.placement.on_gpus,
            context_length=self.num_ctx,
            expires_at=time.time() + view.expiry(now) - now,
            stats=self.process.stats,
            devices=self.plan.placement.shown(),
            others=tuple(others),
            prompt_cache=self.plan.prompt_cache,
        )

    def planned(self) -> LoadPlan:
        """What it takes, as the answer to who asks for a plan."""
        return shown_plan(self.model, self.plan, num_ctx=self.num_ctx, loaded=True)

    def log_load(self, plan: MemoryPlan, seconds: float) -> None:
        """Log one line: the plan beside what the load really took. `seconds`: its duration."""
        loaded = self.process.loaded
        assert loaded is not None
        placement = self.plan.placement
        names = [share.device.name for share in placement.gpus]
        log.info(
            "loaded",
            extra=fields(
                model=self.model.name.shortest,
                pid=self.process.pid,
                seconds=seconds,
                planned_bytes=plan.size,
                resident_bytes=devices.resident_bytes(self.process.pid),
                mapped_bytes=loaded.mapped,
                host_bytes=loaded.host,
                cache_bytes=plan.cache,
                prompt_cache_bytes=plan.prompt_cache,
                cells=plan.n_cells,
                parallel=plan.n_parallel,
                context=loaded.n_ctx,
                layers=placement.layers,
                gpu_layers=placement.gpu_layers,
                cpu_experts=placement.cpu_experts or None,
                taken_bytes=self.size,
                gpu_bytes=placement.on_gpus or None,
                devices=", ".join(names if placement.complete else [*names, "cpu"]),
                cpu_variant=loaded.cpu_variant or None,
            ),
        )

    def _log_context(self, num_ctx: int, cells: int, seconds: float) -> None:
        """Log one line: the context had `num_ctx` tokens and `cells` before."""
        grown = (self.num_ctx, self.plan.n_cells) > (num_ctx, cells)
        values = {"context": self.num_ctx, "context_before": num_ctx, "cells": self.plan.n_cells, "cells_before": cells}
        names = {"model": self.model.name.shortest, "pid": self.process.pid}
        log.info(
            "context grown" if grown else "context shrunk",
            extra=fields(**names, **values, bytes=self.size, seconds=seconds),
        )

    def log_unload(self, reason: str, seconds: float | None = None, **values: str | float | None) -> None:
        """Log one line: why it ended. `evicted_for` in `values` names the model that takes its place."""
        values = {"model": self.model.name.shortest, "reason": reason, **values}
        message = "evicted" if "evicted_for" in values else "unloaded"
        log.info(message, extra=fields(**values, pid=self.process.pid, bytes=self.size, seconds=seconds))
