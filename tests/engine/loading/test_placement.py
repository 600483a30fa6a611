"""Where well-known models go on machines that are not here."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.loading.devices import Device
from engine.loading.memory import Limits, MemoryPlan, Request, plan
from engine.loading.placement import Demand, Placement, Wish, place
from engine.loading.sizes import CacheTypes, LayerSizes, ModelSizes, Pass
from engine.loading.state import LoadOptions
from registry.gguf import GGUFHeader, read_header
from tests.memory.headers import KNOWN

GIB = 1 << 30
HOST = Device("cpu", "cpu", 64 * GIB, 60 * GIB)
LARGE_HOST = Device("cpu", "cpu", 512 * GIB, 500 * GIB)
SMALL_CARD = (Device("cuda", "RTX 4060", 8 * GIB, 76 * GIB // 10, "CUDA0"),)
TWO_CARDS = tuple(Device("cuda", "RTX 3090", 24 * GIB, 235 * GIB // 10, f"CUDA{i}") for i in range(2))
H200 = (Device("cuda", "H200", 141 * GIB, 139 * GIB, "CUDA0"),)
MAC = Device("cpu", "M4", 16 * GIB, 13 * GIB)
MAC_GPU = (Device("metal", "M4", 11 * GIB, 11 * GIB, "MTL0", unified=True),)


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, GGUFHeader]:
    folder = tmp_path_factory.mktemp("headers")
    return {name: read_header(model().write(folder / f"{name}.gguf")) for name, model in KNOWN.items()}


def planned(
    header: GGUFHeader,
    host: Device,
    gpus: tuple[Device, ...],
    num_ctx: int = 4096,
    *,
    automatic: bool = True,
    num_gpu: int = -1,
    main_gpu: int | None = None,
    limits: Limits | None = None,
) -> MemoryPlan:
    request = Request(options=LoadOptions(num_ctx=num_ctx, num_ctx_auto=automatic, num_gpu=num_gpu, main_gpu=main_gpu))
    return plan(header, request, limits or Limits(), host, gpus)


def test_a_small_card_takes_what_fits_and_the_rest_stays(headers: dict[str, GGUFHeader]) -> None:
    small = planned(headers["llama-3.1-8b"], HOST, SMALL_CARD).placement
    assert small.complete
    assert small.fits
    large = planned(headers["qwen3-32b"], HOST, SMALL_CARD).placement
    assert 10 < large.gpu_layers < 40
    assert large.fits
    (card,) = large.gpus
    assert card.device.free - card.total >= GIB, "the margin"
    assert card.device.free - card.total < GIB + 400 * 2**20, "one more layer would not fit"


def test_experts_leave_a_small_card_before_layers(headers: dict[str, GGUFHeader]) -> None:
    mixture = planned(headers["qwen3-30b-a3b"], HOST, SMALL_CARD).placement
    assert (mixture.gpu_layers, mixture.layers) == (49, 49)
    assert 20 < mixture.cpu_experts < 48
    assert mixture.fits
    assert not mixture.complete
    huge = planned(headers["deepseek-v3"], LARGE_HOST, SMALL_CARD).placement
    assert huge.cpu_experts > 0
    assert huge.gpu_layers < huge.layers, "not even what is no expert fits"
    assert huge.gpus[0].total <= huge.gpus[0].device.free - GIB


def test_two_cards(headers: dict[str, GGUFHeader]) -> None:
    one = planned(headers["qwen3-8b"], HOST, TWO_CARDS).placement
    assert [share.device.handle for share in one.gpus] == ["CUDA0"], "it fits on one"
    spread = planned(headers["qwen3-8b"], HOST, TWO_CARDS, limits=Limits(spread=True)).placement
    assert [share.layers for share in spread.gpus] in ([18, 19], [19, 18])
    both = planned(headers["llama-3.1-70b"], HOST, TWO_CARDS).placement
    assert both.complete
    assert sum(share.layers for share in both.gpus) == 81
    assert all(share.total <= share.device.free - GIB for share in both.gpus)
    assert abs(both.gpus[0].total - both.gpus[1].total) < GIB, "both are filled alike"
    chosen = planned(headers["qwen3-8b"], HOST, TWO_CARDS, main_gpu=1).placement
    assert [share.device.handle for share in chosen.gpus] == ["CUDA1"]


def test_a_large_card(headers: dict[str, GGUFHeader]) -> None:
    for name in headers:
        found = planned(headers[name], LARGE_HOST, H200, 262_144)
        assert found.placement.gpus[0].total <= 138 * GIB
        assert found.placement.complete == (name != "deepseek-v3")
    full = planned(headers["gemma-3-27b"], HOST, H200, 262_144, limits=Limits(swa_full=True))
    assert full.num_ctx == 32_768, "all of it would take more"
    assert planned(headers["gemma-3-27b"], HOST, H200, 262_144).num_ctx == 262_144, "most layers have windows"
    assert planned(headers["llama-3.1-70b"], HOST, H200, 262_144).num_ctx == 262_144


def test_memory_that_cpu_and_gpu_share_counts_once(headers: dict[str, GGUFHeader]) -> None:
    found = planned(headers["qwen3-8b"], MAC, MAC_GPU).placement
    assert found.complete
    assert found.fits
    larger = planned(headers["mistral-small-24b"], MAC, MAC_GPU).placement
    assert not larger.complete
    assert larger.gpus[0].total <= 10 * GIB


def test_without_a_gpu_all_is_the_processors(headers: dict[str, GGUFHeader]) -> None:
    for name, header in headers.items():
        found = planned(header, LARGE_HOST, ()).placement
        assert (found.gpus, found.gpu_layers, found.on_gpus) == ((), 0, 0), name
        assert found.host.weights == ModelSizes.of(header).weights
    assert planned(headers["llama-3.1-8b"], HOST, H200, num_gpu=0).placement.gpus == ()


def test_the_number_of_layers_that_was_asked_for(headers: dict[str, GGUFHeader]) -> None:
    for gpus in (SMALL_CARD, TWO_CARDS, H200):
        assert planned(headers["qwen3-32b"], HOST, gpus, num_gpu=5).placement.gpu_layers == 5
        assert planned(headers["qwen3-32b"], HOST, gpus, num_gpu=500).placement.gpu_layers == 65, "fits or not"
    forced = planned(headers["qwen3-32b"], HOST, SMALL_CARD, limits=Limits(fits=False)).placement
    assert forced.complete
    assert not forced.fits


def test_what_stays_free(headers: dict[str, GGUFHeader]) -> None:
    header = headers["llama-3.1-70b"]
    less = planned(header, HOST, TWO_CARDS, limits=Limits(margins=(8 * GIB, 2 * GIB), overhead=GIB)).placement
    assert not less.complete
    for share, free in zip(less.gpus, (9 * GIB, 3 * GIB), strict=True):
        assert share.device.free - share.total >= free


@pytest.mark.parametrize("spread", [False, True])
def test_a_projector_has_room_on_the_card_that_it_goes_to(spread: bool) -> None:
    """Not on the first card, which is full."""
    sizes = ModelSizes((LayerSizes(weights=100),) * 3, 70, 50, 30, 1, 1, 0, 1, 0, 1, 10)
    demand = Demand(sizes, CacheTypes(), 10, Pass(1, 10, 1), projector=90, host=40)
    whole = sizes.weights - sizes.entry + sizes.tied + sizes.compute(demand.run)
    host = Device("cpu", "cpu", 1 << 40, 1 << 40)
    for free, layers in ((whole + 90, 4), (whole + 89, 3)):
        gpus = [Device("cuda", "x", size, size, f"CUDA{number}") for number, size in enumerate((0, free))]
        found = place(demand, Wish(spread=spread), host, gpus)
        assert [(share.device.handle, share.layers, share.other) for share in found.gpus] == [("CUDA1", layers, 90)]
        assert found.gpus[0].total <= free


LAYER = st.builds(
    LayerSizes,
    weights=st.integers(100, 1000),
    experts=st.integers(0, 100),
    keys=st.integers(0, 3),
    values=st.integers(0, 3),
    state=st.integers(0, 20),
)


@given(
    layers=st.lists(LAYER, max_size=30),
    free=st.lists(st.integers(0, 20_000), max_size=4),
    num_gpu=st.integers(-1, 40),
    spread=st.booleans(),
    fits=st.booleans(),
    margin=st.integers(0, 100),
)
def test_nothing_is_lost_and_nothing_is_there_twice(
    layers: list[LayerSizes], free: list[int], num_gpu: int, spread: bool, fits: bool, margin: int
) -> None:
    sizes = ModelSizes(tuple(layers), 70, 50, 30, 1, 1, 0, 1, 0, 1, 10)
    demand = Demand(sizes, CacheTypes(), 10, Pass(1, 10, 1, streams=2), projector=5, adapters=6, host=40)
    gpus = [Device("cuda", "x", size, size, f"CUDA{number}") for number, size in enumerate(free)]
    host = Device("cpu", "cpu", 1 << 40, 1 << 40)
    found: Placement = place(demand, Wish(num_gpu, None, spread, [margin] * len(gpus), fits), host, gpus)
    assert sum(share.layers for share in found.shares) == len(layers) + 1
    once = sizes.weights + (sizes.tied if found.gpu_layers else 0)
    assert sum(share.weights for share in found.shares) == once
    assert sum(share.state for share in found.shares) == 2 * sizes.state
    assert round(sum(share.cell for share in found.shares)) == sizes.cell(CacheTypes())
    assert sum(share.other for share in found.shares) == 5 + 6 + 40
    assert [share.device.handle for share in found.gpus] == sorted(share.device.handle for share in found.gpus)
    if num_gpu >= 0 and gpus:
        assert found.gpu_layers == min(num_gpu, len(layers) + 1)
    elif fits:
        assert all(share.total <= share.device.free - margin for share in found.gpus)
    assert found.with_cells(20).total - found.total == round(10 * sum(share.per_cell for share in found.shares))
