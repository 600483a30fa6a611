"""The bench's models: files in the project's cache, made when they are missing, and their names on a server."""

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
    """A GGUF, its name on a server, and how the table calls it."""

    name: str
    label: str
    gguf: Path


Q8_0 = BenchModel("bench-q8_0", "Q8_0", CACHE / "q8_0.gguf")
Q4_K_M = BenchModel("bench-q4_k_m", "Q4_K_M", CACHE / "q4_k_m.gguf")
TINYCHAT = BenchModel("bench-tinychat", "tinychat", CACHE / "tinychat.gguf")
RANDOM = (Q8_0, Q4_K_M)
MODELS = (*RANDOM, TINYCHAT)


def prepare() -> None:
    """Make the files that are missing: about a minute, and 2 GB of disk of which half is needed on."""
    CACHE.mkdir(parents=True, exist_ok=True)
    missing = [model.gguf.stem for model in RANDOM if not model.gguf.exists()]
    if missing:
        subprocess.run([sys.executable, "-m", "bench.random_model", str(CACHE), *missing], cwd=PROJECT, check=True)
    TINYCHAT.gguf.write_bytes(make_endless(BUNDLED[ModelName.parse("tinychat")].path))


def provide(api: Api) -> None:
    """Give a server those of the models that it lacks. Raises CannotCreate when it does not take them."""
    for model in MODELS:
        if not api.has(model.name):
            api.create(model.name, model.gguf)
