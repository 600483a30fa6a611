"""Describes the machine of a measurement."""

from __future__ import annotations

import platform
from importlib.metadata import version

import psutil

from engine.loading.devices import compute_threads
from modelfile.crashes import processor


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
