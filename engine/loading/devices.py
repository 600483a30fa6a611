"""This machine's processors, memory and GPUs, read at the start and before each load."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Literal

import psutil

from modelfile.operating_system import allowed_processors, control_group, cpu_info, has_metal

FEATURES = (
    *("sse4_2", "avx", "f16c", "fma", "avx2", "bmi2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16"),
    *("amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2", "sme"),
)
"""Instruction sets that llama.cpp has code for, as Linux spells them: of x86, of AMX, of ARM."""


@dataclass(frozen=True, slots=True)
class Device:
    """A memory for weights and KV cache; `total` and `free` in bytes."""

    kind: Literal["cpu", "cuda", "metal"]
    name: str
    total: int
    free: int


def gpus() -> list[Device]:
    """NVIDIA GPUs by NVML, or Apple's unified memory; empty where there is neither."""
    if has_metal():
        memory = host()
        return [Device("metal", "Apple GPU", memory.total, memory.free)]
    return _nvidia()


def host() -> Device:
    """The machine's own memory, within the limit of the container if there is one."""
    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    limit, used = _cgroup_bytes("memory.max"), _cgroup_bytes("memory.current")
    if limit is not None and limit < total:
        total, free = limit, min(free, max(limit - (used or 0), 0))
    return Device("cpu", platform.processor() or platform.machine(), total, free)


def resident_bytes(pid: int) -> int:
    """Bytes that a process has in memory, mapped files included; 0 if it has ended."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def compute_threads() -> int:
    """Threads for llama.cpp: the physical cores that this process may use, at least one."""
    usable = usable_processors()
    return min(usable, psutil.cpu_count(logical=False) or usable)


def usable_processors() -> int:
    """Processors that this process may use by its CPU affinity and its control group's quota: at least one."""
    allowed = allowed_processors() or psutil.cpu_count() or 1
    quota = _cpu_quota()
    return max(1, allowed if quota is None else min(allowed, int(quota)))


def container_limits() -> tuple[int | None, float | None]:
    """Bytes of memory and number of processors that the control group allows; None where it sets no limit."""
    return _cgroup_bytes("memory.max"), _cpu_quota()


def processor_features() -> tuple[str, ...]:
    """Those of the `FEATURES` that the processor has; empty where the system does not tell."""
    lines = (line for line in cpu_info().splitlines() if line.lower().startswith(("flags", "features")))
    flags = next(lines, "").partition(":")[2].split()
    return tuple(name for name in FEATURES if name in flags)


def _nvidia() -> list[Device]:
    import pynvml  # deferred: it loads the driver's library

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        cards = []
        for i in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(i)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            cards.append(Device("cuda", str(pynvml.nvmlDeviceGetName(handle)), int(memory.total), int(memory.free)))
        return cards
    finally:
        pynvml.nvmlShutdown()


def _cpu_quota() -> float | None:
    """Processors that the control group allows; None where it sets no limit."""
    try:
        quota, period = (control_group("cpu.max") or "").split()
        return None if quota == "max" else int(quota) / int(period)
    except ValueError:
        return None


def _cgroup_bytes(name: str) -> int | None:
    try:
        return int(control_group(name) or "")
    except ValueError:  # no such limit, or "max"
        return None
