"""The benchmark's models: files in the project's cache, made if missing, and their names on a server."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.api import Api
from bench.endless import make_endless
from bench.serving import PROJECT
from registry.bundled import MODELS as BUNDLED
from registry.names import ModelName

CACHE = PROJECT / ".cache" / "bench"


@dataclass(frozen=True, slots=True)
class BenchModel:
    """A GGUF, its name on a server, and its label in the table."""

    name: str
    label: str
    gguf: Path


Q8_0 = BenchModel("bench-q8_0", "Q8_0", CACHE / "q8_0.gguf")
Q4_K_M = BenchModel("bench-q4_k_m", "Q4_K_M", CACHE / "q4_k_m.gguf")
TINYCHAT = BenchModel("bench-tinychat", "tinychat", CACHE / "tinychat.gguf")
RANDOM = (Q8_0, Q4_K_M)
MODELS = (*RANDOM, TINYCHAT)


def prepare() -> None:
    """Make missing files: takes about a minute and 2 GB of disk, half of which stays in use."""
    CACHE.mkdir(parents=True, exist_ok=True)
    missing = [model.gguf.stem for model in RANDOM if not model.gguf.exists()]
    if missing:
        subprocess.run([sys.executable, "-m", "bench.random_model", str(CACHE), *missing], cwd=PROJECT, check=True)
    TINYCHAT.gguf.write_bytes(make_endless(BUNDLED[ModelName.parse("tinychat")].path))


def provide(api: Api) -> None:
    """Create missing models on a server. Raises CannotCreate."""
    for model in MODELS:
        if not api.has(model.name):
            api.create(model.name, model.gguf)
