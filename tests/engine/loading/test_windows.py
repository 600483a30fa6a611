"""Which layers have a sliding window, and how many cells llama.cpp makes for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.loading.devices import Device
from engine.loading.memory import CACHE_SHARE, Limits, MemoryPlan, Request, plan, with_context
from engine.loading.placement import CELL_OVERHEAD
from engine.loading.sizes import CacheTypes, ModelSizes
from engine.loading.state import LoadOptions
from engine.loading.windows import window_cells
from engine.messages import HOST, DeviceBuffers
from engine.runner.shape import Budget, Shape
from registry.gguf import GGUFHeader, read_header
from tests.engine.runner.passes import Passes
from tests.memory.headers import KNOWN
from tests.modelfile.published.pairs import PAIRS

GIB = 1 << 30
STREAMS, CELLS = 2, 1280
WINDOWED = ("gemma3", "gemma3n", "gemma4", "gptoss", "laguna", "olmo3")
PLAIN = ("glm4moelite", "lfm2")
LOGGED = 2 * 5243  # bytes: llama.cpp's log rounds the size of each cache to hundredths of a MiB


@pytest.mark.parametrize("name", [*WINDOWED, *PLAIN])
def test_llama_cpp_makes_as_many_cells_of_as_many_layers(name: str, tmp_path: Path) -> None:
    path = PAIRS[name]().expected.write(tmp_path / "model.gguf")
    sizes = ModelSizes.of(read_header(path))
    passes = Passes(Shape(STREAMS, CELLS), path)
    seen, windowed = sizes.cells(CacheTypes())
    total = STREAMS * CELLS
    windows = window_cells(total, STREAMS, sizes.window) if sizes.window else 0
    assert (windowed > 0, windows > 0, windows < total) == (name in WINDOWED, name in WINDOWED, True)
    taken = sum(size for (kind, _), size in passes.context._context_buffers.items() if kind == "KV")
    passes.close()
    assert abs(taken - seen * total - windowed * windows) <= LOGGED


def test_a_stream_has_no_more_cells_for_windows_than_for_the_rest() -> None:
    assert window_cells(32_768, 1, 1024) == 1536
    assert window_cells(32_768, 4, 1024) == 4 * 1536
    assert window_cells(4096, 4, 1024) == 4096
    assert window_cells(32_768, 2, 130) == 2 * 768


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> GGUFHeader:
    """Gemma 3 4B: 29 of 34 layers have a window of 1024 tokens; a token takes 4096 bytes in each."""
    return read_header(KNOWN["gemma-3-4b"]().write(tmp_path_factory.mktemp("headers") / "gemma.gguf"))


def planned(header: GGUFHeader, num_ctx: int, free: int = 64 * GIB, **limits: Any) -> MemoryPlan:
    return plan(header, Request(options=LoadOptions(num_ctx=num_ctx)), Limits(prompt_cache=0, **limits), cpu(free), ())


def cpu(free: int) -> Device:
    return Device("cpu", "cpu", 2 * free, free)


def test_a_plan_counts_windows_and_the_rest_apart(gemma: GGUFHeader) -> None:
    small, full = planned(gemma, 32_768, parallel=1), planned(gemma, 32_768, parallel=1, swa_full=True)
    assert (small.swa_full, full.swa_full) == (False, True)
    assert full.cache == 32_768 * (34 * 4096 + 2 * CELL_OVERHEAD)
    assert small.cache == 32_768 * (5 * 4096 + CELL_OVERHEAD) + 1536 * (29 * 4096 + CELL_OVERHEAD)
    share = small.placement.host
    assert full.placement.host.compute - share.compute == 512 * 2 * (32_768 - 1536), "the mask"
    buffers = DeviceBuffers(HOST, share.weights, 32_768 * 5 * 4096 + 1536 * 29 * 4096, share.compute)
    assert small.placement.measured([buffers], passes=True).host == share


def test_each_request_at_once_has_windows_of_its_own(gemma: GGUFHeader) -> None:
    for free in (8 * GIB, 16 * GIB, 64 * GIB):
        found = planned(gemma, 4096, free)
        share = found.placement.host
        widest = Budget(found.n_cells, found.n_parallel, 4096).widest
        assert widest.streams == found.n_parallel
        assert share.windows == window_cells(widest.total, widest.streams, 1024)
        spare = free - share.total + share.cache
        assert share.cache <= max(spare * CACHE_SHARE, planned(gemma, 4096, free, parallel=1).cache)
    assert planned(gemma, 4096, 8 * GIB).n_parallel < planned(gemma, 4096).n_parallel == 16


def test_a_longer_context_takes_larger_windows_while_streams_are_short(gemma: GGUFHeader) -> None:
    short = planned(gemma, 4096, parallel=8)
    assert short.n_parallel == 8
    few = short.with_cells(8 * 512)
    assert (few.placement.host.windows, few.placement.windows_grow) == (8 * 512, True)
    assert (short.placement.host.windows, short.placement.windows_grow) == (8 * 1536, False)
    assert few.with_cells(short.n_cells) == short
    num_ctx, grown = with_context(few, 1 << 20, 1 << 20, cpu(GIB), ())
    assert few.n_cells < num_ctx <= grown.n_cells
    assert grown.cache <= 0.9 * GIB
