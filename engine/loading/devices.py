"""What this machine can compute on: its cores, its memory, its GPUs. Read at start and before each load."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

CGROUP = Path("/sys/fs/cgroup")
CPU_INFO = Path("/proc/cpuinfo")
FEATURES = (
    *("sse4_2", "avx", "f16c", "fma", "avx2", "bmi2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16"),
    *("amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2", "sme"),
)
"""As Linux spells them: of x86, of AMX, of ARM."""


@dataclass(frozen=True, slots=True)
class Device:
    """A place for weights and cache. Sizes in bytes; `free` is what can be taken now."""

    kind: Literal["cpu", "cuda", "metal"]
    name: str
    total: int
    free: int


def gpus() -> list[Device]:
    """NVIDIA GPUs by NVML, or Apple's unified memory; empty where there is neither."""
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        memory = host()
        return [Device("metal", "Apple GPU", memory.total, memory.free)]
    return _nvidia()


def host() -> Device:
    """The machine's own memory, within the limit of the container if there is one."""
    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    limit, used = _cgroup_number("memory.max"), _cgroup_number("memory.current")
    if limit is not None and limit < total:
        total, free = limit, min(free, max(limit - (used or 0), 0))
    return Device("cpu", platform.processor() or platform.machine(), total, free)


def resident_bytes(pid: int) -> int:
    """What a process has in memory, files that it maps included; 0 if it has gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def compute_threads() -> int:
    """Threads for llama.cpp: the physical cores that this process may use, at least one."""
    usable = usable_processors()
    return min(usable, psutil.cpu_count(logical=False) or usable)


def usable_processors() -> int:
    """Processors that this process may use, by its affinity and its control group's quota: at least one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1
    return max(1, min(allowed, _cpu_quota() or allowed))


def container_limits() -> tuple[int | None, float | None]:
    """Bytes of memory and processors that the control group allows; None where it sets no limit."""
    memory = _cgroup_number("memory.max")
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return memory, None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return memory, None


def processor_features() -> tuple[str, ...]:
    """Those of the processor's instruction sets that llama.cpp has code for; empty where the system does not tell."""
    try:
        lines = CPU_INFO.read_text(errors="replace").splitlines()
    except OSError:
        return ()
    flags = next(
        (line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "features"))), []
    )
    return tuple(name for name in FEATURES if name in flags)


def _nvidia() -> list[Device]:
    import pynvml  # deferred: it loads the driver's library

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        found = []
        for i in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(i)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            found.append(Device("cuda", str(pynvml.nvmlDeviceGetName(handle)), int(memory.total), int(memory.free)))
        return found
    finally:
        pynvml.nvmlShutdown()


def _cpu_quota() -> int | None:
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, int(quota) // int(period))


def _cgroup_number(name: str) -> int | None:
    try:
        return int((CGROUP / name).read_text())
    except (OSError, ValueError):  # no such limit, or "max"
        return None
