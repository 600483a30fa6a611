"""Our sums for well-known models, beside llama.cpp's own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from engine.loading.sizes import CacheTypes, ModelSizes
from engine.loading.windows import window_cells
from registry.gguf import read_header
from tests.memory.headers import KNOWN
from tests.memory.reserved import MIB, RUNS, Reserved


@dataclass(frozen=True)
class Compared:
    """Bytes of one model in one run: its weights, and what we say beside what llama.cpp says."""

    name: str
    run: int
    weights: int
    cache: int
    real_cache: int
    compute: int
    real_compute: int

    @property
    def ratio(self) -> float:
        """Predicted over real, all together."""
        return (self.weights + self.cache + self.compute) / (self.weights + self.real_cache + self.real_compute)


def compared(folder: Path) -> Iterator[Compared]:
    """Write the headers into `folder`, and compare."""
    paths = {name: make().write(folder / f"{name}.gguf") for name, make in KNOWN.items()}
    command = [sys.executable, "-m", "tests.memory.reserved", *map(str, paths.values())]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    sizes = {name: ModelSizes.of(read_header(path)) for name, path in paths.items()}
    for real in (Reserved(**figure) for figure in json.loads(output)):
        cells, keys, values, run, swa_full = RUNS[real.run]
        model = sizes[real.name]
        types = model.usable(CacheTypes(keys, values))
        cache = model.cell(types) * cells + model.state * run.streams
        if model.window and not swa_full:
            windows = window_cells(cells, run.streams, model.window)
            cache -= model.cells(types)[1] * (cells - windows)
            run = replace(run, window=windows // run.streams)
        yield Compared(
            real.name, real.run, model.weights, cache, real.cache, model.compute(run), max(real.compute, MIB)
        )
