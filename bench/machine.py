"""On what the figures were measured: without that they say nothing."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import psutil

from engine.loading.devices import compute_threads

CPU_INFO = Path("/proc/cpuinfo")


def describe() -> dict[str, str]:
    """Processor, memory, versions."""
    return {
        "processor": processor(),
        "cores": f"{psutil.cpu_count(logical=False)}, {compute_threads()} threads for llama.cpp",
        "memory": f"{psutil.virtual_memory().total / (1 << 30):.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "llama-cpp-python": version("llama-cpp-python"),
    }


def processor() -> str:
    """The processor's name as far as the system tells it."""
    if CPU_INFO.exists():
        for line in CPU_INFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
