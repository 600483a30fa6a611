"""Plans of loads: made in threads, once for each load, and not at all for a model that is loaded."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.scripts.gguf_new_metadata import MetadataDetails, copy_with_new_metadata

from engine.api import EmbedRequest, GenerateRequest
from engine.loading import devices, memory
from engine.loading.charge import Charge
from engine.loading.derivations import Weights
from engine.loading.devices import Device
from engine.loading.memory import Limits
from engine.loading.planner import ESTIMATES, LoadPlanner
from engine.loading.state import LoadSpec
from engine.model import Model, Models
from registry import bundled
from registry.gguf import GGUFArray, read_header
from registry.manifest import MODEL, Layer, Manifest
from registry.names import ModelName
from registry.storage.store import Store
from tests.engine.running import collect, running
from tests.serving import GREEDY

TINYCHAT = Path(bundled.__file__).parent / "tinychat.gguf"


class Watch:
    """Counts plans and openings of a file, and on which thread they were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = ""
        self.planned: list[int] = []
        self.opened: list[int] = []
        plan = memory.plan

        def counted(*arguments: object, **named: object) -> memory.MemoryPlan:
            self.planned.append(threading.get_ident())
            return plan(*arguments, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(memory, "plan", counted)
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and self.path and str(arguments[0]) == self.path:
            self.opened.append(threading.get_ident())

    def forget(self) -> None:
        self.planned.clear()
        self.opened.clear()


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


def store_with_head_counts(root: Path) -> Store:
    """A store in which `tinychat` has a file that tells its heads for each layer: a plan must open it."""
    store = Store(root / "models")
    header = read_header(TINYCHAT)
    key = f"{header.architecture}.attention.head_count_kv"
    counts = header.sizes("attention.head_count_kv") * header.size("block_count")
    details = MetadataDetails(GGUFValueType.ARRAY, counts, sub_type=GGUFValueType.UINT32)
    copy = root / "tinychat.gguf"
    copy_with_new_metadata(GGUFReader(TINYCHAT), GGUFWriter(copy, header.architecture), {key: details}, [])
    assert isinstance(read_header(copy).metadata[key], GGUFArray)
    layers = store.find(ModelName.parse("tinychat")).manifest
    others = [layer for layer in layers.layers if layer.media_type != MODEL]
    weights = Layer(MODEL, *store.add_file(copy))
    store.write_manifest(ModelName.parse("tinychat"), Manifest(layers.config, (weights, *others)))
    return store


def ask(**options: object) -> GenerateRequest:
    return GenerateRequest(model="tinychat", prompt="Count to 3", options=GREEDY | {"num_predict": 4} | options)


async def test_a_loaded_model_is_neither_planned_nor_opened_again(tmp_path: Path, watch: Watch) -> None:
    store = store_with_head_counts(tmp_path)
    watch.path = str(Models(store).resolve("tinychat").weights)
    async with running(tmp_path / "models") as engine:
        await collect(engine.generate(ask(num_ctx=1024)))
        assert len(watch.planned) == 2, "an estimate for the scheduler, and the plan of the load"
        assert watch.opened
        assert threading.get_ident() not in watch.planned + watch.opened, "not on the event loop"
        watch.forget()
        for num_ctx in range(100, 130):
            await collect(engine.generate(ask(num_ctx=num_ctx)))
        await engine.embed(EmbedRequest(model="tinychat", texts=["a"], options={"num_ctx": 64}))
        assert (watch.planned, watch.opened) == ([], [])


async def test_the_next_load_is_planned_once_and_needs_no_other_estimate(tmp_path: Path, watch: Watch) -> None:
    store_with_head_counts(tmp_path)
    async with running(tmp_path / "models") as engine:
        await collect(engine.generate(ask(num_ctx=512)))  # after this it is known what the library copies
        await collect(engine.generate(ask(num_ctx=1024)))
        await engine.unload("tinychat")
        watch.forget()
        await collect(engine.generate(ask(num_ctx=1024)))
        assert len(watch.planned) == 1


def tinychat(root: Path) -> tuple[Model, Weights]:
    model = Models(Store(root / "models")).resolve("tinychat")
    return model, Weights(model.weights, model.header)


def spec(model: Model, num_ctx: int) -> LoadSpec:
    return LoadSpec(key=str(model.weights), num_ctx=num_ctx)


async def test_an_estimate_is_made_once_for_each_spec(tmp_path: Path, watch: Watch) -> None:
    model, weights = tinychat(tmp_path)
    planner = LoadPlanner(Limits())
    small = await planner.estimate(model, weights, spec(model, 512))
    large = await planner.estimate(model, weights, spec(model, 1024))
    assert small.total < large.total
    for _ in range(10):
        assert await planner.estimate(model, weights, spec(model, 512)) is small
    assert len(watch.planned) == 2
    for num_ctx in range(2000, 2000 + ESTIMATES):
        await planner.estimate(model, weights, spec(model, num_ctx))
    watch.forget()
    assert await planner.estimate(model, weights, spec(model, 512)) == small
    assert len(watch.planned) == 1, "it was forgotten for others"


async def test_what_the_library_copies_makes_estimates_anew(tmp_path: Path, watch: Watch) -> None:
    model, weights = tinychat(tmp_path)
    types = {tensor.type for tensor in weights.header.tensors if len(tensor.shape) > 1}
    planner = LoadPlanner(Limits())
    before = await planner.estimate(model, weights, spec(model, 512))
    planner.set_copied_types(frozenset(types))
    after = await planner.estimate(model, weights, spec(model, 512))
    assert after.total > before.total
    planner.set_copied_types(frozenset(types))
    assert await planner.estimate(model, weights, spec(model, 512)) is after
    assert len(watch.planned) == 2


async def test_weights_that_have_gone_are_told_and_not_remembered(tmp_path: Path) -> None:
    model, weights = tinychat(tmp_path)
    planner = LoadPlanner(Limits())
    hidden = model.weights.rename(tmp_path / "hidden")
    with pytest.raises(FileNotFoundError):
        await planner.estimate(model, weights, spec(model, 512))
    hidden.rename(model.weights)
    assert (await planner.estimate(model, weights, spec(model, 512))).total > 0


GIB = 1 << 30
CARDS = tuple(Device("cuda", "card", size * GIB, size * GIB, f"CUDA{n}") for n, size in enumerate((10, 12)))


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gpus", lambda environ, ours=(): list(CARDS))


def handles(plan: memory.MemoryPlan) -> list[str]:
    return [share.device.handle for share in plan.placement.gpus]


async def ways(root: Path, limits: Limits, **options: Any) -> list[list[str]]:
    model, weights = tinychat(root)
    planner = LoadPlanner(limits)
    await planner.start()
    wanted = replace(spec(model, 512), **options)
    estimate = await planner.estimate(model, weights, wanted)
    return [handles(way) for way in await planner.ways(model, weights, wanted, estimate)]


@pytest.mark.usefixtures("cards")
async def test_a_model_may_go_to_each_card_where_it_fits_or_to_all(tmp_path: Path) -> None:
    assert await ways(tmp_path, Limits()) == [["CUDA1"], ["CUDA0"], ["CUDA0", "CUDA1"]], "the larger one first"
    assert await ways(tmp_path, Limits(), main_gpu=0) == [["CUDA0"], ["CUDA1"], ["CUDA0", "CUDA1"]]
    assert await ways(tmp_path, Limits(margins=(10 * GIB, GIB))) == [["CUDA1"]], "the margin leaves no room"
    assert await ways(tmp_path, Limits(spread=True)) == [["CUDA0", "CUDA1"]]
    assert await ways(tmp_path, Limits(), num_gpu=0) == [[]]


@pytest.mark.usefixtures("cards")
async def test_a_load_goes_where_the_ledger_has_room(tmp_path: Path) -> None:
    model, weights = tinychat(tmp_path)
    planner = LoadPlanner(Limits())
    await planner.start()
    wanted = spec(model, 512)
    assert handles(await planner.plan(model, weights, wanted)) == ["CUDA1"]
    assert handles(await planner.plan(model, weights, wanted, room={"CUDA1": 0.0})) == ["CUDA0"]
    promised = Charge.of([("CUDA1", 12 * GIB)])
    assert handles(await planner.plan(model, weights, wanted, promised=promised)) == ["CUDA0"]
    assert handles(await planner.plan(model, weights, wanted, room={"CUDA0": 0.0}, promised=promised)) == []
