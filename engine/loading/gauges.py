"""How full the machine and its models are now, as Prometheus metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client.core import Metric

from engine import metrics
from engine.loading import devices
from engine.loading.devices import Device
from engine.stats import Stats


@dataclass(frozen=True, slots=True)
class ModelState:
    """A loaded model: its label, its process, and for each device bytes planned and bytes that are taken."""

    label: str
    pid: int
    stats: Stats
    memory: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolState:
    """The loaded models, and how many are being loaded. `waiting` requests wait for theirs, at most `max_queue`.

    `disk_cache`: bytes of the prompt cache on disk.
    """

    models: Sequence[ModelState]
    loading: int
    waiting: int
    max_queue: int
    gpus: Sequence[Device]
    disk_cache: int = 0


def gauges(state: PoolState) -> list[Metric]:
    """The metrics of a state, and of the devices' memory now. Blocking; for any thread.

    Two processes may have the same label for a moment, when a model has been replaced: they are added up.
    """
    planned: Counter[tuple[str, ...]] = Counter()
    real: Counter[tuple[str, ...]] = Counter()
    resident: Counter[tuple[str, ...]] = Counter()
    for model in state.models:
        resident[model.label,] += devices.resident_bytes(model.pid)
        for device, planned_bytes, real_bytes in model.memory:
            planned[model.label, device] += planned_bytes
            real[model.label, device] += real_bytes
    memories = {(each.handle or "cpu", each.name): each for each in (devices.host(), *devices.refreshed(state.gpus))}
    return [
        metrics.LOADED.now(len(state.models)),
        metrics.LOADING.now(state.loading),
        metrics.QUEUE.now(state.waiting),
        metrics.QUEUE_LIMIT.now(state.max_queue),
        *(metric.now(_sums(state, field)) for metric, field in metrics.OF_STATS.items()),
        metrics.DISK_BYTES.now(state.disk_cache),
        metrics.PLANNED_BYTES.now(planned),
        metrics.REAL_BYTES.now(real),
        metrics.RESIDENT_BYTES.now(resident),
        metrics.DEVICE_BYTES.now({labels: device.total for labels, device in memories.items()}),
        metrics.DEVICE_FREE_BYTES.now({labels: device.free for labels, device in memories.items()}),
    ]


def _sums(state: PoolState, field: str) -> Counter[tuple[str, ...]]:
    sums: Counter[tuple[str, ...]] = Counter()
    for model in state.models:
        sums[model.label,] += getattr(model.stats, field)
    return sums
