"""The memory that models may take together, GPUs' and this machine's, as the one number that the scheduler counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from engine.loading.devices import Device
from engine.loading.memory import MemoryPlan
from engine.loading.placement import Placement
from engine.loading.state import CacheSize

HOST_SHARE = 0.9  # of this machine's memory: what all models together may take


@dataclass(frozen=True, slots=True)
class Ledger:
    """What models may take: bytes of all GPUs together (0 without any) and of this machine.

    A model's charge is what it takes on GPUs, or in this machine's memory in proportion to both, whichever is more. So
    the charges of models that fit the `budget` together are a promise for both memories. Without GPUs they are bytes.
    """

    gpus: int
    host: int

    @classmethod
    def of(cls, host: Device, gpus: Sequence[Device], overhead: int) -> Ledger:
        """Of this machine; `overhead` bytes of each GPU are not for models."""
        return cls(sum(max(0, gpu.total - overhead) for gpu in gpus), int(host.total * HOST_SHARE))

    @property
    def budget(self) -> int:
        """The charges of all models together, at most."""
        return self.gpus or self.host

    def charge(self, placement: Placement, more: int = 0) -> int:
        """What a load counts for that takes `more` bytes beside its plan, where its layers are."""
        on_gpus, machine = placement.sums(lambda share: share.total)
        if placement.gpus:
            on_gpus += more
        else:
            machine += more
        return self._scale(on_gpus, machine)

    def cache(self, plan: MemoryPlan) -> CacheSize:
        """A loaded model's KV cache, whose tokens count as much as they are charged."""
        if plan.generates:
            per_cell = self._scale(*plan.placement.sums(lambda share: share.per_cell))
        else:
            per_cell = plan.bytes_per_cell if plan.placement.gpus else self._scale(0, plan.bytes_per_cell)
        return CacheSize(plan.n_cells, max(1, per_cell), plan.n_parallel)

    def _scale(self, on_gpus: float, machine: float) -> int:
        if not self.gpus:
            return math.ceil(machine)
        return math.ceil(max(on_gpus, machine * self.gpus / max(self.host, 1)))
