"""`python -m tests.memory`: what loads take beside what was planned for them, as two tables.

First well-known models, without their weights: our sums beside what llama.cpp would reserve. Then small models that are
loaded, with their contexts filled by as many requests as they take at once: predicted beside mapped pages of the file
and the process's own memory. The exit code is 1 if a sum misses the goal, which no machine changes, or if a load is far
from it: what a process takes besides differs with libraries and processors.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.table import markdown
from engine.api import GenerateRequest, PlanRequest
from engine.engine import Engine
from engine.errors import RunnerError
from engine.selftest import processor
from tests.engine.running import collect, gone, running
from tests.engine.test_engine import store_model
from tests.memory.known import compared
from tests.memory.models import WINDOWS, requantised, smollm2, tiny
from tests.memory.reserved import MIB, RUNS

LEAST, MOST = 0.98, 1.15
FAR_LESS, FAR_MORE = 0.9, 1.3
BUNDLED = "tinychat"
QUICK_TOKENS = 1500  # in all prompts of one load together


@dataclass(frozen=True)
class Load:
    """A model, its context, requests at once, and the types of its KV cache."""

    model: str
    num_ctx: int
    parallel: int
    types: str = "f16"
    flash_attention: bool | None = None
    swa_full: bool = False

    @property
    def label(self) -> str:
        """For the table."""
        more = ("" if self.flash_attention is None else ", no FA") + (", full" if self.swa_full else "")
        return f"{self.num_ctx} × {self.parallel} {self.types}{more}"


@dataclass(frozen=True)
class Taken:
    """Bytes of a load: planned before it, in the ledger after it, and measured when its context had been filled."""

    load: Load
    planned: int
    ledger: int
    real: int

    @property
    def ratio(self) -> float:
        """Predicted over real."""
        return self.planned / self.real


def loads(models: dict[str, Path]) -> Iterator[Load]:
    """What is measured."""
    for parallel in (1, 4, 8, 32):
        yield Load(BUNDLED, 1024, parallel)
    yield Load(BUNDLED, 256, 1)
    for types in ("q8_0", "q4_0", "f32", "q8_0,q4_0"):
        yield Load(BUNDLED, 1024, 8, types)
    yield Load(BUNDLED, 1024, 8, flash_attention=False)
    for name in models:
        if name.startswith("smollm2"):
            yield Load(name, 2048, 1)
            yield Load(name, 1024, 4, "q8_0")
        elif name == WINDOWS:
            yield Load(name, 4096, 4)
            yield Load(name, 4096, 4, swa_full=True)
        else:
            yield Load(name, 256, 4)
    if "smollm2-q4_1" in models:
        yield Load("smollm2-q4_1", 8192, 1)
        yield Load("smollm2-q4_1", 8192, 4)


async def measured(load: Load, models: dict[str, Path], folder: Path, most_tokens: float) -> Taken:
    """Load a model, fill its context with prompts of at most `most_tokens` in all, and see what it takes."""
    settings: dict[str, Any] = {"num_parallel": load.parallel, "kv_cache_type": load.types, "prompt_cache": 0}
    settings |= {"flash_attention": load.flash_attention, "swa_full": load.swa_full}
    async with running(folder, **settings) as engine:
        if load.model != BUNDLED:
            store_model(engine.store, load.model, models[load.model].read_bytes())
        options = {"num_ctx": load.num_ctx, "num_predict": 4}
        await engine.load(GenerateRequest(model=load.model, options=options))  # tells what the CPU's layouts copy
        await engine.unload(load.model)
        await gone(engine)
        planned = await engine.plan(PlanRequest(model=load.model, options=options))
        await engine.load(GenerateRequest(model=load.model, options=options, keep_alive=600.0))
        words = int(min(load.num_ctx, most_tokens / load.parallel))
        prompts = [f"{number} " + "a b c d " * (words // 4) for number in range(load.parallel)]
        requests = (
            GenerateRequest(model=load.model, prompt=prompt, raw=True, options=options | {"num_keep": 4})
            for prompt in prompts
        )
        await asyncio.gather(*(_fill(engine, request) for request in requests))
        (ledger,) = engine.running()
        return Taken(load, planned.size, ledger.size, _real(engine))


async def _fill(engine: Engine, request: GenerateRequest) -> None:
    with suppress(RunnerError):  # random weights may give logits that are no numbers, behind the whole prompt
        await collect(engine.generate(request))


def _real(engine: Engine) -> int:
    """Mapped pages of the file, and the process's own memory."""
    (loaded,) = engine._pool._loaded.values()
    assert loaded.process.loaded is not None
    memory = psutil.Process(loaded.process.pid).memory_info()
    return loaded.process.loaded.mapped + int(memory.rss - memory.shared)


def main() -> int:
    """Measure, print the tables; returns the exit code."""
    options = _parser().parse_args()
    logging.disable(logging.WARNING)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pronk-memory-") as temporary:
        folder = Path(temporary)
        figures = list(compared(folder))
        models = tiny(folder)
        if smol := smollm2():
            models["smollm2-q4_1"] = smol
            models |= {f"smollm2-{kind}": requantised(smol, kind) for kind in (("q4_0",) if options.quick else FILES)}
        taken = []
        for number, load in enumerate(loads(models)):
            short = options.quick and load.model.startswith("smollm2")
            most_tokens = QUICK_TOKENS if short else math.inf
            taken.append(asyncio.run(measured(load, models, folder / f"store-{number}", most_tokens)))
            print(f"{load.model} {load.label}: {taken[-1].ratio:.2f}", file=sys.stderr)
    worst: dict[str, list[float]] = {}
    for figure in figures:
        worst.setdefault(figure.name, []).append(figure.ratio)
    head = ("without weights", "least predicted ÷ reserved", "most", f"of {len(RUNS)} contexts")
    rows = [(name, f"{min(r):.3f}", f"{max(r):.3f}", _verdict(min(r), max(r))) for name, r in worst.items()]
    print(markdown([head, *rows]), end="\n\n")
    head = ("model", "context × requests", "predicted MiB", "ledger MiB", "real MiB", "predicted ÷ real", "")
    print(markdown([head, *map(_row, taken)]), end="\n\n")
    print(f"{processor()}; {time.monotonic() - started:.0f} s; goal {LEAST} to {MOST}")
    sums_hold = all(LEAST <= figure.ratio <= MOST for figure in figures)
    return int(not (sums_hold and all(FAR_LESS <= load.ratio <= FAR_MORE for load in taken)))


FILES = ("q4_0", "q8_0", "f16")


def _row(taken: Taken) -> tuple[str, ...]:
    sizes = (f"{size / MIB:.1f}" for size in (taken.planned, taken.ledger, taken.real))
    return taken.load.model, taken.load.label, *sizes, f"{taken.ratio:.3f}", _verdict(taken.ratio, taken.ratio)


def _verdict(least: float, most: float) -> str:
    return "" if least >= LEAST and most <= MOST else "NO"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make memory", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer files and shorter prompts")
    return parser


if __name__ == "__main__":
    sys.exit(main())
