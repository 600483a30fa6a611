"""The memory that models may take: of each GPU, and of this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from engine.loading.charge import Charge
from engine.loading.devices import Device
from engine.loading.memory import MemoryPlan
from engine.loading.placement import Placement, Share
from engine.loading.state import CacheSize
from engine.messages import HOST

HOST_SHARE = 0.9  # of this machine's memory: what all models together may take


@dataclass(frozen=True, slots=True)
class Ledger:
    """`budget` are the bytes of each device that all models together may take.

    A model's charge is what it takes of each. What it takes of a unified GPU is the machine's memory too.
    """

    budget: Mapping[str, int]

    @classmethod
    def of(cls, host: Device, gpus: Sequence[Device], overhead: int) -> Ledger:
        """Of this machine; `overhead` bytes of each GPU are not for models."""
        return cls({HOST: int(host.total * HOST_SHARE)} | {gpu.handle: max(0, gpu.total - overhead) for gpu in gpus})

    def charge(self, placement: Placement, more: int = 0) -> Charge:
        """What a load counts for that takes `more` bytes beside its plan, where its last layers are."""
        return _charged(placement, lambda share: share.total + (more if share is placement.computing else 0))

    def cache(self, plan: MemoryPlan) -> CacheSize:
        """A loaded model's KV cache, whose tokens count as much as they are charged."""
        placement = plan.placement
        if plan.generates:
            per_cell = _charged(placement, lambda share: share.per_cell)
        else:
            per_cell = _charged(placement, lambda share: plan.bytes_per_cell if share is placement.computing else 0)
        return CacheSize(plan.n_cells, per_cell, plan.n_parallel)


def _charged(placement: Placement, value: Callable[[Share], float]) -> Charge:
    """A value of each share, where it counts."""
    unified = [share for share in placement.gpus if share.device.unified]
    of_gpus = [(share.device.handle, value(share)) for share in placement.gpus]
    return Charge.of([*of_gpus, (HOST, value(placement.host)), *((HOST, value(share)) for share in unified)])
