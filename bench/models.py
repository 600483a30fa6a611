"""The benchmark's models: files in the project's cache, made if missing, and their names on a server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
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
    """A GGUF, its name on a server, its label in the table, and how many words a prompt of the traffic may have.

    With a `tiny` one only what the server costs is measured, with one that has a `projector` only pictures are.
    """

    name: str
    label: str
    gguf: Path
    longest: int
    tiny: bool = False
    projector: Path | None = None

    @property
    def files(self) -> list[Path]:
        """What it is made of."""
        return [self.gguf, *([self.projector] if self.projector else [])]


Q8_0 = BenchModel("bench-words-q8_0", "Q8_0", CACHE / "words-q8_0.gguf", 900)
Q4_K_M = BenchModel("bench-words-q4_k_m", "Q4_K_M", CACHE / "words-q4_k_m.gguf", 900)
TINYCHAT = BenchModel("bench-tinychat", "tinychat", CACHE / "tinychat.gguf", 120, tiny=True)
_SIGHT = BUNDLED[ModelName.parse("sight")]
SIGHT = BenchModel("bench-sight", "sight", _SIGHT.path, 120, projector=_SIGHT.projector)
MODELS = (Q8_0, Q4_K_M, TINYCHAT, SIGHT)


def prepare(models: Sequence[BenchModel]) -> None:
    """Make missing files: takes about a minute and 2 GB of disk, half of which stays in use."""
    CACHE.mkdir(parents=True, exist_ok=True)
    missing = [str(model.gguf) for model in models if not (model.tiny or model.gguf.exists())]
    if missing:
        subprocess.run([sys.executable, "-m", "bench.random_model", *missing], cwd=PROJECT, check=True)
    TINYCHAT.gguf.write_bytes(make_endless(BUNDLED[ModelName.parse("tinychat")].path))


def provide(api: Api, models: Sequence[BenchModel]) -> None:
    """Create missing models on a server. Raises CannotCreate."""
    for model in models:
        if not api.has(model.name):
            api.create(model.name, *model.files)
