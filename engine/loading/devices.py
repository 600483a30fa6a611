"""This machine's processors, memory and GPUs, read at the start and before each load.

GPUs are what llama.cpp's own backends list. NVIDIA's library tells beside that what other programs take of a card.
"""

from __future__ import annotations

import functools
import logging
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import psutil

from engine.loading.control_group import cpu_quota, memory_limit, swap_limit
from engine.messages import BackendDevice
from engine.spawn import child_environment
from modelfile.backends import gpu_backends
from modelfile.crashes import processor
from modelfile.operating_system import allowed_processors, cpu_info
from registry.logfields import fields

FEATURES = (
    *("sse4_2", "avx", "f16c", "fma", "avx2", "bmi2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16"),
    *("amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2", "sme"),
)
"""Instruction sets that llama.cpp has code for, as Linux spells them: of x86, of AMX, of ARM."""


PROBE = "engine.runner.probe"
PROBE_TIMEOUT = 30.0  # seconds; drivers may take some to wake a card
KINDS = {"mtl": "metal", "hip": "rocm"}
"""Other names of backends, in lower case."""
log = logging.getLogger("pronk.engine")


@dataclass(frozen=True, slots=True)
class Device:
    """A memory for weights and KV cache; `total` and `free` in bytes.

    `kind` is "cpu", or the backend: "cuda", "rocm", "vulkan", "metal", "sycl". `name` is the product's, `handle` what
    llama.cpp calls it ("CUDA0"). A `unified` one uses the machine's own memory. `foreign` bytes are other programs'.
    The machine's own memory may be written out to `swap` bytes.
    """

    kind: str
    name: str
    total: int
    free: int
    handle: str = ""
    unified: bool = False
    address: str = ""
    foreign: int = 0
    swap: int = 0


def gpus(environ: Mapping[str, str], ours: Collection[int] = ()) -> list[Device]:
    """The GPUs that llama.cpp would use, by its own rules; empty where it is compiled for none.

    A process of its own looks at them. `ours` are the process ids that do not count as foreign.
    """
    if not gpu_backends():
        return []
    with _nvidia_library() as nvml:
        return [_with_foreign(nvml, device, ours) for device in usable(listed(environ))]


def listed(environ: Mapping[str, str]) -> list[BackendDevice]:
    """All devices of llama.cpp's backends; none if the process that looks for them fails, which the log tells."""
    command = [sys.executable, "-P", "-m", PROBE]
    try:
        done = subprocess.run(
            command,
            env=child_environment(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_TIMEOUT,
            check=True,
            start_new_session=True,
        )
        return msgspec.json.decode(done.stdout, type=list[BackendDevice])
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError) as error:
        log.warning("devices cannot be listed: %s", error)
        return []


def usable(found: Iterable[BackendDevice]) -> list[Device]:
    """Those that llama.cpp would put layers on: each card once, integrated ones only where there are no others."""
    dedicated: list[BackendDevice] = []
    integrated: list[BackendDevice] = []
    for device in found:
        if device.kind == "gpu" and device.backend != "RPC":
            if not device.address or device.address not in {other.address for other in dedicated}:
                dedicated.append(device)
        elif device.kind == "igpu" and (not integrated or device.backend == integrated[0].backend):
            integrated.append(device)
    return [_device(device) for device in dedicated or integrated]


def tell_changes(before: Sequence[Device], after: Sequence[Device]) -> None:
    """Log which GPUs have gone since the last look, and which are new."""
    for gone in set(map(_identity, before)) - set(map(_identity, after)):
        log.warning("a GPU has gone", extra=fields(device=gone[0], name=gone[1]))
    for new in set(map(_identity, after)) - set(map(_identity, before)):
        log.info("a GPU is there", extra=fields(device=new[0], name=new[1]))


def refreshed(known: Sequence[Device]) -> list[Device]:
    """GPUs that were found before, with what NVIDIA's driver says of their memory now; others as they were."""
    if not known:
        return []
    with _nvidia_library() as nvml:
        return [_with_foreign(nvml, device, ()) for device in known]


def cards() -> list[Device]:
    """The NVIDIA GPUs that the driver knows, whatever llama.cpp is compiled for; empty without its library."""
    with _nvidia_library() as nvml:
        if nvml is None:
            return []
        handles = map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
        memories = ((handle, nvml.nvmlDeviceGetMemoryInfo(handle)) for handle in handles)
        return [Device("cuda", str(nvml.nvmlDeviceGetName(h)), int(m.total), int(m.free)) for h, m in memories]


def host() -> Device:
    """The machine's own memory, within the limit of the container if there is one."""
    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    if (limited := memory_limit()) is not None and limited[0] < total:
        total, free = limited[0], min(free, max(limited[0] - limited[1], 0))
    swap = psutil.swap_memory().total
    return Device("cpu", _processor(), total, free, swap=min(swap, swap_limit(swap)))


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
    quota = cpu_quota()
    return max(1, allowed if quota is None else min(allowed, int(quota)))


def container_limits() -> tuple[int | None, float | None]:
    """Bytes of memory and number of processors that the control group allows; None where it sets no limit."""
    limited = memory_limit()
    return limited and limited[0], cpu_quota()


def processor_features() -> tuple[str, ...]:
    """Those of the `FEATURES` that the processor has; empty where the system does not tell."""
    lines = (line for line in cpu_info().splitlines() if line.lower().startswith(("flags", "features")))
    flags = next(lines, "").partition(":")[2].split()
    return tuple(name for name in FEATURES if name in flags)


_processor = functools.cache(processor)


def _device(found: BackendDevice) -> Device:
    kind = KINDS.get(found.backend.lower(), found.backend.lower())
    unified = found.kind == "igpu" or kind == "metal"
    return Device(kind, found.description, found.total, found.free, found.name, unified, found.address)


def _identity(device: Device) -> tuple[str, str]:
    return device.handle, device.name


def _with_foreign(nvml: Any, device: Device, ours: Collection[int]) -> Device:
    """The device with what the driver knows of it: what is free, and what processes take that are not ours."""
    if nvml is None or not device.address or device.kind != "cuda":
        return device
    try:
        handle = nvml.nvmlDeviceGetHandleByPciBusId(device.address)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError:
        return device
    taken = sum(process.usedGpuMemory or 0 for process in running if process.pid in ours)
    return replace(device, free=int(memory.free), foreign=max(0, int(memory.used) - taken))


@contextmanager
def _nvidia_library() -> Iterator[Any]:
    """NVIDIA's management library while the context lasts, None where there is no driver."""
    import pynvml  # deferred: it loads the driver's library

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()
