"""How many sequences fit, and what they are expected to take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.loading.devices import Device
from engine.loading.memory import MemoryPlan, cache_bytes_per_token, copied_bytes, plan, with_context
from engine.messages import CONTEXT_PADDING
from registry.gguf import GGUFHeader, read_header
from tests.engine.runner.harness import TINYCHAT

GIB = 1 << 30


@pytest.fixture(scope="module")
def header() -> GGUFHeader:
    return read_header(TINYCHAT)


def cpu(free: int) -> Device:
    return Device("cpu", "cpu", 2 * free, free)


def gpu(free: int) -> Device:
    return Device("cuda", "gpu", 2 * free, free)


@pytest.fixture
def planned(header: GGUFHeader) -> Callable[..., MemoryPlan]:
    def planned(**wishes: Any) -> MemoryPlan:
        fields: dict[str, Any] = {"weights": GIB, "num_ctx": 4096, "cache_type": "f16", "parallel_limit": None}
        fields |= {"host": cpu(64 * GIB), "gpus": [], "num_gpu": -1}
        return plan(header, **(fields | wishes))

    return planned


@pytest.mark.parametrize(("cache_type", "expected"), [("f16", 3072), ("f32", 6144), ("q8_0", 1632), ("q4_0", 864)])
def test_a_token_takes_what_its_keys_and_values_take(header: GGUFHeader, cache_type: str, expected: int) -> None:
    assert cache_bytes_per_token(header, cache_type) == expected  # 6 layers × 2 heads × 64, twice


def test_with_plenty_of_memory_everybody_gets_a_full_context(planned: Callable[..., MemoryPlan]) -> None:
    assert (planned().n_parallel, planned().n_cells) == (8, 8 * 4096)


def test_the_limit_of_sequences_is_kept(planned: Callable[..., MemoryPlan]) -> None:
    assert (planned(parallel_limit=3).n_parallel, planned(parallel_limit=3).n_cells) == (3, 3 * 4096)
    assert (planned(parallel_limit=1).n_parallel, planned(parallel_limit=1).n_cells) == (1, 4096)
    assert planned(parallel_limit=100_000, num_ctx=256).n_parallel == 128  # more than llama.cpp has ids for


def test_contexts_are_padded_as_llama_cpp_does(planned: Callable[..., MemoryPlan]) -> None:
    assert planned(num_ctx=300, parallel_limit=1).n_cells == 512


def test_one_sequence_gets_its_context_whatever_the_memory_and_short_ones_share_it(
    planned: Callable[..., MemoryPlan],
) -> None:
    tight = planned(host=cpu(GIB), num_ctx=16384)
    assert (tight.n_parallel, tight.n_cells) == (8, 16384)
    small = planned(host=cpu(GIB), num_ctx=2048)
    assert (small.n_parallel, small.n_cells) == (1, 2048)


def test_a_gpu_takes_more_sequences_and_all_layers_that_fit(planned: Callable[..., MemoryPlan]) -> None:
    assert planned(gpus=[gpu(80 * GIB)]).n_parallel == 32
    assert planned(gpus=[gpu(80 * GIB)]).gpu_layers == -1
    assert planned(gpus=[gpu(80 * GIB)], num_gpu=0).gpu_layers == 0
    assert planned(gpus=[gpu(80 * GIB)], num_gpu=3).gpu_layers == 3
    assert 0 < planned(gpus=[gpu(GIB * 3 // 4)]).gpu_layers < 7


@given(free=st.integers(0, 100 * GIB), num_ctx=st.integers(4, 1 << 20), limit=st.none() | st.integers(1, 100))
def test_a_plan_is_always_one_that_can_be_loaded(
    header: GGUFHeader, free: int, num_ctx: int, limit: int | None
) -> None:
    memory_plan = plan(
        header,
        weights=GIB,
        num_ctx=num_ctx,
        cache_type="f16",
        parallel_limit=limit,
        host=cpu(free),
        gpus=[],
        num_gpu=-1,
    )
    assert 1 <= memory_plan.n_parallel <= (limit or 8)
    assert num_ctx <= memory_plan.n_cells
    assert memory_plan.n_cells % 256 == 0
    assert memory_plan.cache == memory_plan.n_cells * 3072
    assert memory_plan.total > memory_plan.cache + GIB


def test_a_header_without_shapes_is_no_error(tmp_path: Path) -> None:
    bare = GGUFHeader(**{**_fields(read_header(TINYCHAT)), "metadata": {"general.architecture": "none"}})
    assert cache_bytes_per_token(bare, "f16") == 1


def _fields(header: GGUFHeader) -> dict[str, Any]:
    return {name: getattr(header, name) for name in header.__dataclass_fields__}


def test_copied_weights_are_there_twice(planned: Callable[..., MemoryPlan]) -> None:
    once, twice = planned(parallel_limit=1), planned(parallel_limit=1, copied=GIB // 2)
    assert (twice.weights, twice.total - once.total) == (GIB + GIB // 2, GIB // 2)


def test_what_copies_take_is_not_there_for_the_cache(planned: Callable[..., MemoryPlan]) -> None:
    tight = {"host": cpu(6 * GIB), "num_ctx": 65536}
    assert planned(**tight, copied=GIB).n_cells < planned(**tight).n_cells


def test_only_the_processors_layers_are_copied(planned: Callable[..., MemoryPlan]) -> None:
    assert planned(gpus=[gpu(64 * GIB)], copied=GIB).weights == GIB
    assert planned(gpus=[gpu(64 * GIB)], num_gpu=2, copied=7 * 1024).weights == GIB + 5 * 1024  # of 7 layers


def test_what_is_copied(header: GGUFHeader) -> None:
    every = sum(tensor.size for tensor in header.tensors if len(tensor.shape) > 1)
    (tokens,) = (tensor.size for tensor in header.tensors if tensor.name == "token_embd.weight")
    assert copied_bytes(header, {"Q8_0"}, mapped=True, generates=True) == every, "it also writes with the embedding"
    assert copied_bytes(header, {"Q8_0"}, mapped=True, generates=False) == every - tokens
    assert copied_bytes(header, {"Q8_0"}, mapped=False, generates=True) == tokens
    assert copied_bytes(header, {"Q4_0", "F32"}, mapped=True, generates=True) == 0


CELL = 3072  # bytes of one token
Longer = tuple[int, MemoryPlan]


def longer(before: MemoryPlan, num_ctx: int, cells: int = 0, **wishes: Any) -> Longer:
    fields: dict[str, Any] = {"host": cpu(64 * GIB), "gpus": [], "gpu_share": 0.0}
    return with_context(before, num_ctx, cells or num_ctx, **(fields | wishes))


def test_a_longer_context_takes_its_cells(planned: Callable[..., MemoryPlan]) -> None:
    before = planned(parallel_limit=1, prompt_cache=0)
    num_ctx, after = longer(before, 20_000)
    assert (num_ctx, after.n_cells) == (20_000, 20_224)
    assert after.total - before.total == after.cache - before.cache == (20_224 - 4096) * CELL
    assert (after.weights, after.n_parallel, after.gpu_layers) == (before.weights, 1, before.gpu_layers)


def test_cells_that_there_are_suffice(planned: Callable[..., MemoryPlan]) -> None:
    before = planned(prompt_cache=0)
    assert longer(before, 8 * 4096) == (8 * 4096, before)
    assert longer(before, 8 * 4096, host=cpu(0)) == (8 * 4096, before), "without free memory too"


def test_a_context_becomes_as_long_as_memory_allows(planned: Callable[..., MemoryPlan]) -> None:
    before = planned(parallel_limit=1, prompt_cache=0)
    free = cpu(int((before.cache + 1000 * CELL) / 0.9))
    num_ctx, after = longer(before, 20_000, host=free)
    assert (num_ctx, after.n_cells) == (4096 + 768, 4096 + 768), "the old cells may still be there meanwhile"
    assert longer(before, 20_000, host=cpu(before.cache)) == (4096, before)


def test_cells_for_others_take_no_more_than_at_a_load(planned: Callable[..., MemoryPlan]) -> None:
    before = planned(parallel_limit=4, prompt_cache=0)
    assert longer(before, 8192, 32_768)[1].n_cells == 32_768
    free = cpu(int((before.cache + 40_000 * CELL) / 0.9) + 1)
    cells = longer(before, 8192, 32_768, host=free)[1].n_cells
    assert cells == before.n_cells == 16_384, "a quarter of 56,384 would be less"
    assert longer(before, 30_000, 120_000, host=free)[1].n_cells == 30_208


def test_on_gpus_their_memory_counts(planned: Callable[..., MemoryPlan]) -> None:
    before = planned(gpus=[gpu(8 * GIB)], parallel_limit=1, prompt_cache=0)
    free = [gpu(10_000 * CELL)]
    assert longer(before, 20_000, gpus=free, gpu_share=1.0, host=cpu(0))[0] == 4096 + 8960
    assert longer(before, 30_000, gpus=free, gpu_share=0.5, host=cpu(64 * GIB))[0] == 4096 + 17_920
    assert longer(before, 20_000, gpus=free, gpu_share=0.5, host=cpu(0))[0] == 4096


@given(
    num_ctx=st.integers(4096, 200_000),
    cells=st.integers(0, 400_000),
    free=st.integers(0, GIB),
    parallel=st.integers(1, 8),
)
def test_no_context_takes_more_than_there_is(
    header: GGUFHeader, num_ctx: int, cells: int, free: int, parallel: int
) -> None:
    before = plan(
        header,
        weights=GIB,
        num_ctx=4096,
        cache_type="f16",
        parallel_limit=parallel,
        host=cpu(64 * GIB),
        gpus=[],
        num_gpu=-1,
        prompt_cache=0,
    )
    got, after = longer(before, num_ctx, cells, host=cpu(free))
    assert 4096 <= got <= num_ctx
    assert after.n_cells >= max(got, before.n_cells)
    assert after.n_cells % CONTEXT_PADDING == 0
    assert after.cache == after.n_cells * CELL
    assert after == before or after.cache <= free
