"""How many sequences fit, and what they are expected to take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.loading.devices import Device
from engine.loading.memory import MAX_PARALLEL_CPU, Limits, MemoryPlan, Request, copied_bytes, plan, with_context
from engine.loading.placement import CELL_OVERHEAD
from engine.loading.sizes import CacheTypes, ModelSizes
from engine.loading.state import LoadOptions
from engine.messages import CONTEXT_PADDING, HOST, DeviceBuffers
from registry.gguf import GGUFHeader, read_header
from tests.engine.runner.harness import TINYCHAT

GIB = 1 << 30
CELL = 3072 + CELL_OVERHEAD  # bytes of one token: 6 layers × 2 heads × 64, twice, in 16 bits
MARGIN = 1 << 30


def enlarged(header: GGUFHeader, factor: int) -> GGUFHeader:
    """The same with larger weights."""
    return replace(header, tensors=tuple(tensor._replace(size=tensor.size * factor) for tensor in header.tensors))


@pytest.fixture(scope="module")
def header() -> GGUFHeader:
    """Tinychat's, with weights of about 1 GiB."""
    small = read_header(TINYCHAT)
    return enlarged(small, GIB // ModelSizes.of(small).weights)


def cpu(free: int) -> Device:
    return Device("cpu", "cpu", 2 * free, free)


def gpu(free: int, name: str = "CUDA0") -> Device:
    return Device("cuda", "gpu", 2 * free, free, name)


def asked(num_ctx: int = 4096, copied: int = 0, **options: Any) -> Request:
    return Request(options=LoadOptions(**{"num_ctx": num_ctx, "num_ctx_auto": False} | options), copied=copied)


Planned = Callable[..., MemoryPlan]


@pytest.fixture
def planned(header: GGUFHeader) -> Planned:
    def planned(
        *, parallel: int | None = None, host: Device | None = None, gpus: tuple[Device, ...] = (), **wishes: Any
    ) -> MemoryPlan:
        limits = Limits(parallel=parallel, prompt_cache=wishes.pop("prompt_cache", None))
        return plan(header, asked(**wishes), limits, host or cpu(64 * GIB), gpus)

    return planned


@pytest.mark.parametrize(
    ("cache_type", "expected"),
    [("f16", 3072), ("f32", 6144), ("q8_0", 1632), ("q4_0", 864), ("q8_0,q4_0", 816 + 432), ("nonsense", 3072)],
)
def test_a_token_takes_what_its_keys_and_values_take(header: GGUFHeader, cache_type: str, expected: int) -> None:
    assert ModelSizes.of(header).cell(CacheTypes.parse(cache_type)) == expected


def test_types_that_a_model_cannot_have(header: GGUFHeader) -> None:
    """Blocks of 32 do not divide heads of 80; a compressed state has one type."""
    sizes = ModelSizes.of(header)
    wanted = CacheTypes("q8_0", "q4_0")
    assert sizes.usable(wanted) == wanted
    assert replace(sizes, head=(80, 64)).usable(wanted) == CacheTypes("f16", "q4_0")
    assert replace(sizes, latent=1).usable(wanted) == CacheTypes("q8_0", "q8_0")
    assert replace(sizes, head=(80, 80)).usable(CacheTypes("bf16", "f32")) == CacheTypes("bf16", "f32")


def test_with_plenty_of_memory_there_are_eight_full_contexts_for_sixteen(planned: Planned) -> None:
    assert (planned().n_parallel, planned().n_cells) == (16, 8 * 4096)


def test_the_limit_of_sequences_is_kept(planned: Planned) -> None:
    assert (planned(parallel=3).n_parallel, planned(parallel=3).n_cells) == (3, 3 * 4096)
    assert (planned(parallel=1).n_parallel, planned(parallel=1).n_cells) == (1, 4096)
    assert planned(parallel=100_000, num_ctx=256).n_parallel == 128  # more than llama.cpp has ids for


def test_contexts_are_padded_as_llama_cpp_does(planned: Planned) -> None:
    assert planned(num_ctx=300, parallel=1).n_cells == 512


def test_one_sequence_gets_its_context_whatever_the_memory_and_short_ones_share_it(planned: Planned) -> None:
    tight = planned(host=cpu(GIB), num_ctx=16384)
    assert (tight.n_parallel, tight.n_cells) == (8, 16384)
    small = planned(host=cpu(GIB), num_ctx=2048)
    assert (small.n_parallel, small.n_cells) == (1, 2048)


def test_a_gpu_takes_more_sequences_and_all_layers_that_fit(planned: Planned) -> None:
    assert planned(gpus=(gpu(80 * GIB),)).n_parallel == 32
    assert planned(gpus=(gpu(80 * GIB),)).gpu_layers == -1
    assert planned(gpus=(gpu(80 * GIB),), num_gpu=0).gpu_layers == 0
    assert planned(gpus=(gpu(80 * GIB),), num_gpu=3).gpu_layers == 3
    assert 0 < planned(gpus=(gpu(MARGIN + GIB * 3 // 4),)).gpu_layers < 7


@given(free=st.integers(0, 100 * GIB), num_ctx=st.integers(4, 1 << 20), limit=st.none() | st.integers(1, 100))
def test_a_plan_is_always_one_that_can_be_loaded(
    header: GGUFHeader, free: int, num_ctx: int, limit: int | None
) -> None:
    memory_plan = plan(header, asked(num_ctx), Limits(parallel=limit), cpu(free), ())
    assert 1 <= memory_plan.n_parallel <= (limit or MAX_PARALLEL_CPU)
    assert num_ctx <= memory_plan.n_cells
    assert memory_plan.n_cells % 256 == 0
    assert memory_plan.cache == memory_plan.n_cells * CELL
    assert memory_plan.total > memory_plan.cache + ModelSizes.of(header).weights


def test_a_header_without_shapes_is_no_error(header: GGUFHeader) -> None:
    bare = replace(header, metadata={"general.architecture": "none"}, tensors=())
    assert ModelSizes.of(bare).cell(CacheTypes()) == 0
    assert plan(bare, asked(), Limits(), cpu(GIB), ()).n_cells == 8 * 4096


def test_copied_weights_are_there_twice(planned: Planned) -> None:
    once, twice = planned(parallel=1), planned(parallel=1, copied=GIB // 2)
    assert twice.total - once.total == twice.placement.host.weights - once.placement.host.weights == GIB // 2


def test_what_copies_take_is_not_there_for_the_cache(planned: Planned) -> None:
    tight = {"host": cpu(6 * GIB), "num_ctx": 65536}
    assert planned(**tight, copied=GIB).n_cells < planned(**tight).n_cells


def test_only_the_processors_layers_are_copied(header: GGUFHeader, planned: Planned) -> None:
    whole, none = planned(gpus=(gpu(64 * GIB),), copied=GIB), planned(gpus=(gpu(64 * GIB),))
    assert whole.placement.host.weights == none.placement.host.weights == ModelSizes.of(header).entry
    some = planned(gpus=(gpu(64 * GIB),), num_gpu=2, copied=GIB).placement.host.weights
    assert 0 < some - planned(gpus=(gpu(64 * GIB),), num_gpu=2).placement.host.weights < GIB


def test_what_is_copied() -> None:
    header = read_header(TINYCHAT)
    every = sum(tensor.size for tensor in header.tensors if len(tensor.shape) > 1)
    (tokens,) = (tensor.size for tensor in header.tensors if tensor.name == "token_embd.weight")
    assert copied_bytes(header, {"Q8_0"}, mapped=True, generates=True) == every, "it also writes with the embedding"
    assert copied_bytes(header, {"Q8_0"}, mapped=True, generates=False) == every - tokens
    assert copied_bytes(header, {"Q8_0"}, mapped=False, generates=True) == tokens
    assert copied_bytes(header, {"Q4_0", "F32"}, mapped=True, generates=True) == 0


def longer(
    before: MemoryPlan, num_ctx: int, cells: int = 0, host: Device | None = None, gpus: tuple[Device, ...] = ()
) -> tuple[int, MemoryPlan]:
    return with_context(before, num_ctx, cells or num_ctx, host or cpu(64 * GIB), gpus)


def test_a_longer_context_takes_its_cells(planned: Planned) -> None:
    before = planned(parallel=1, prompt_cache=0)
    num_ctx, after = longer(before, 20_000)
    assert (num_ctx, after.n_cells) == (20_000, 20_224)
    assert after.total - before.total == after.cache - before.cache == (20_224 - 4096) * CELL
    assert (after.n_parallel, after.gpu_layers) == (1, before.gpu_layers)


def test_cells_that_there_are_suffice(planned: Planned) -> None:
    before = planned(prompt_cache=0)
    assert longer(before, 8 * 4096) == (8 * 4096, before)
    assert longer(before, 8 * 4096, host=cpu(0)) == (8 * 4096, before), "without free memory too"


def test_a_context_becomes_as_long_as_memory_allows(planned: Planned) -> None:
    before = planned(parallel=1, prompt_cache=0)
    free = cpu(int((before.cache + 1000 * CELL) / 0.9))
    num_ctx, after = longer(before, 20_000, host=free)
    assert (num_ctx, after.n_cells) == (4096 + 768, 4096 + 768), "the old cells may still be there meanwhile"
    assert longer(before, 20_000, host=cpu(before.cache)) == (4096, before)


def test_cells_for_others_take_no_more_than_at_a_load(planned: Planned) -> None:
    before = planned(parallel=4, prompt_cache=0)
    assert longer(before, 8192, 32_768)[1].n_cells == 32_768
    free = cpu(int((before.cache + 40_000 * CELL) / 0.9) + 1)
    cells = longer(before, 8192, 32_768, host=free)[1].n_cells
    assert cells == before.n_cells == 16_384, "a quarter of 56,384 would be less"
    assert longer(before, 30_000, 120_000, host=free)[1].n_cells == 30_208


def test_on_gpus_their_memory_counts(planned: Planned) -> None:
    before = planned(gpus=(gpu(8 * GIB),), parallel=1, prompt_cache=0)
    assert longer(before, 20_000, gpus=(gpu(10_000 * 3072),))[0] == 4096 + 8960
    assert longer(before, 20_000, gpus=(gpu(0),))[0] == 4096
    assert longer(before, 20_000)[0] == 4096, "the GPU has gone"


@given(
    num_ctx=st.integers(4096, 200_000),
    cells=st.integers(0, 400_000),
    free=st.integers(0, GIB),
    parallel=st.integers(1, 8),
)
def test_no_context_takes_more_than_there_is(
    header: GGUFHeader, num_ctx: int, cells: int, free: int, parallel: int
) -> None:
    limits = Limits(parallel=parallel, prompt_cache=0)
    before = plan(header, asked(), limits, cpu(64 * GIB), ())
    got, after = longer(before, num_ctx, cells, host=cpu(free))
    assert 4096 <= got <= num_ctx
    assert after.n_cells >= max(got, before.n_cells)
    assert after.n_cells % CONTEXT_PADDING == 0
    assert after.cache == after.n_cells * CELL
    assert after == before or after.cache <= free


def test_an_automatic_context_is_lowered_before_layers_leave_the_gpu(header: GGUFHeader) -> None:
    """Of 256k tokens only some fit beside the weights: 32k do, and with less memory 4k."""
    for free, automatic, expected in [
        (MARGIN + 3 * GIB, True, (262_144, True)),
        (MARGIN + 3 * GIB // 2, True, (32_768, True)),
        (MARGIN + ModelSizes.of(header).weights + (40 << 20), True, (4096, True)),
        (MARGIN + 3 * GIB // 2, False, (262_144, False)),
    ]:
        request = asked(262_144, num_ctx_auto=automatic)
        found = plan(header, request, Limits(parallel=1), cpu(64 * GIB), (gpu(free),))
        assert (found.num_ctx, found.placement.complete) == expected


def test_the_least_automatic_context_is_kept(header: GGUFHeader) -> None:
    request = asked(262_144, num_ctx_auto=True)
    limits = Limits(parallel=1, least_context=32_768)
    found = plan(header, request, limits, cpu(64 * GIB), (gpu(MARGIN + ModelSizes.of(header).weights + (40 << 20)),))
    assert (found.num_ctx, found.placement.complete) == (32_768, False)


@given(
    free=st.lists(st.integers(0, 100 * GIB), min_size=1, max_size=4),
    num_ctx=st.integers(4, 300_000),
    parallel=st.none() | st.integers(1, 32),
    spread=st.booleans(),
)
def test_no_gpu_gets_more_than_it_has_free(
    header: GGUFHeader, free: list[int], num_ctx: int, parallel: int | None, spread: bool
) -> None:
    gpus = tuple(gpu(size, f"CUDA{number}") for number, size in enumerate(free))
    limits = Limits(parallel=parallel, spread=spread, margins=(MARGIN, MARGIN // 2))
    found = plan(header, asked(num_ctx), limits, cpu(1000 * GIB), gpus)
    for share in found.placement.gpus:
        assert share.total <= share.device.free
    assert sum(share.layers for share in found.placement.shares) == 7
    assert found.n_cells >= num_ctx


def test_what_llama_cpp_reports_replaces_what_was_planned(planned: Planned) -> None:
    placement = planned(gpus=(gpu(80 * GIB),), parallel=1).placement
    buffers = (DeviceBuffers(HOST, 11, 0, 12), DeviceBuffers("CUDA0", 2 * GIB, placement.gpus[0].cache + 5, 13))
    real = placement.measured(buffers, passes=True)
    assert (real.host.weights, real.host.compute, real.host.other) == (11, 12, placement.host.other)
    (card,) = real.gpus
    assert (card.weights, card.cache, card.compute) == (2 * GIB, placement.gpus[0].cache + 5, 13)


def test_buffers_that_other_shapes_of_the_cache_need_stay_charged(planned: Planned) -> None:
    """llama.cpp reserves them for the cells as they are divided now; one long sequence makes them grow."""
    host = (placement := planned(num_ctx=100_000, parallel=16).placement).host
    cache = round(host.cell * host.cells)
    real = placement.measured((DeviceBuffers(HOST, host.weights, cache, 13),), passes=True).host
    assert real.compute == 13 < host.compute
    assert real.size < host.size
    assert real.total == host.total
    larger = (DeviceBuffers(HOST, host.weights, cache, host.compute + 9),)
    assert placement.measured(larger, passes=True).host.total == host.total + 9
