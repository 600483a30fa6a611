"""Models that are larger than the machine, or than what is free of it: real processes on machines that say so."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from engine.api import GenerateRequest, LoadPlan, PlanRequest
from engine.engine import Engine
from engine.errors import LoadFailed
from engine.loading import devices, shortage
from engine.loading.devices import Device
from tests.engine.running import collect, running
from tests.serving import GREEDY

MIB = 1 << 20
LITTLE = 256  # tokens of context


def machine(monkeypatch: pytest.MonkeyPatch, total: int, free: int, swap: int = 0) -> None:
    monkeypatch.setattr(devices, "host", lambda: Device("cpu", "processor", total, free, swap=swap))


async def planned(engine: Engine, **options: Any) -> LoadPlan:
    return await engine.plan(PlanRequest(model="tinychat", options=options))


async def answer(engine: Engine, **options: Any) -> int:
    """The number of tokens of an answer."""
    request = GenerateRequest(model="tinychat", prompt="Count to 3", options=GREEDY | {"num_predict": 4} | options)
    return (await collect(engine.generate(request)))[2].eval_count


def warnings(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    records = [record for record in caplog.records if record.message.startswith("memory is short: ")]
    return [{"text": record.message.partition(": ")[2], **vars(record)["fields"]} for record in records]


async def test_a_model_larger_than_the_machine_is_refused_before_anything_goes_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, 20 * MIB, 19 * MIB)
    async with running(tmp_path / "models") as engine:
        plan = await planned(engine)
        assert (plan.fits, plan.refused, plan.evicts) == (False, True, ())
        assert plan.size > 20 * MIB
        told = r"^model requires more system memory \(\d\d MB\) than is available \(20 MB\)$"
        with pytest.raises(LoadFailed, match=told):
            await answer(engine)
        assert engine.running() == []
        assert engine.loading() == []


async def test_swap_counts_as_memory_that_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 20 * MIB, 19 * MIB, swap=100 * MIB)
    async with running(tmp_path / "models") as engine:
        plan = await planned(engine)
        assert (plan.fits, plan.refused) == (False, False)


async def test_what_nobody_has_asked_for_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine(monkeypatch, 50 * MIB, 40 * MIB)
    async with running(tmp_path / "models", num_parallel=4, prompt_cache=0, context_length=1024) as engine:
        wanted = await planned(engine)
        assert (wanted.refused, wanted.parallel) == (False, 1), "the cells of four sequences would not fit"
        assert await answer(engine)
        assert [model.context_length for model in engine.running()] == [1024]


async def test_pages_of_the_file_need_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path / "models", num_parallel=1, prompt_cache=0) as engine:
        whole = await planned(engine, num_ctx=LITTLE)
    total = whole.size - MIB
    machine(monkeypatch, total, total)
    async with running(tmp_path / "models", num_parallel=1, prompt_cache=0) as engine:
        plan = await planned(engine, num_ctx=LITTLE)
        assert (plan.fits, plan.refused) == (False, False)
        assert await answer(engine, num_ctx=LITTLE)
        (told,) = warnings(caplog)
        assert told["text"] == shortage.LARGE
        assert told["own_bytes"] < told["memory_bytes"] == total < told["bytes"] == plan.size
        with pytest.raises(LoadFailed, match="more system memory"):
            await answer(engine, num_ctx=LITTLE, use_mmap=False)
        assert [model.name for model in engine.running()] == [plan.name], "it has not gone for what cannot be"


async def test_memory_that_others_use_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pronk.engine")
    machine(monkeypatch, 1000 * MIB, 10 * MIB)
    async with running(tmp_path / "models") as engine:
        assert not (await planned(engine)).fits
        assert await answer(engine)
        assert await answer(engine)
        (told,) = warnings(caplog)
        assert (told["text"], told["free_bytes"]) == (shortage.BUSY, 10 * MIB)


async def test_a_load_with_fewer_requests_at_once_than_asked_for_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pronk.engine")
    async with running(tmp_path / "models", num_parallel=1000) as engine:
        assert await answer(engine, num_ctx=LITTLE)
    (loading,) = [vars(record)["fields"] for record in caplog.records if record.message == "loading"]
    (told,) = [vars(record)["fields"] for record in caplog.records if record.message.startswith("fewer requests")]
    assert (told["asked"], told["parallel"]) == (1000, loading["parallel"])
    assert loading["bytes"] > 0


async def test_a_prompt_cache_is_no_part_of_the_size(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pronk.engine")
    async with running(tmp_path / "models", prompt_cache=200 * MIB) as engine:
        plan = await planned(engine)
        assert plan.prompt_cache == plan.devices[-1].prompt_cache == 200 * MIB
        assert plan.size == sum(share.size for share in plan.devices) < 100 * MIB
        assert await answer(engine)
        (model,) = engine.running()
        assert model.prompt_cache == 200 * MIB
        assert 0.9 < model.size / plan.size < 1.1
        (loaded,) = [vars(record)["fields"] for record in caplog.records if record.message == "loaded"]
        assert loaded["planned_bytes"] == plan.size
        (runner,) = engine._pool._loaded.values()
        charged = engine._pool._scheduler.runners()[0].size
        more = 200 * MIB + runner.plan.placement.host.more_compute
        assert charged == model.size + more, "the ledger counts what it may take"


async def test_a_plan_tells_what_becomes_of_the_loaded_model(tmp_path: Path) -> None:
    async with running(tmp_path / "models") as engine:
        await answer(engine, num_ctx=LITTLE)
        same, longer = await planned(engine, num_ctx=LITTLE), await planned(engine, num_ctx=1024)
        assert (same.loaded, same.grows, same.reloads) == (True, False, "")
        assert (longer.loaded, longer.grows, longer.context_length) == (True, True, 1024)
        assert longer.cells == same.cells, "they suffice"
        read = await planned(engine, num_ctx=LITTLE, use_mmap=False)
        assert (read.loaded, read.grows, read.reloads) == (False, False, "tinychat:latest")
        assert (await planned(engine, num_ctx=5000)).context_requested == 5000
        await answer(engine, num_ctx=LITTLE, use_mmap=False)
        as_it_is = await planned(engine, num_ctx=LITTLE)
        assert (as_it_is.loaded, as_it_is.reloads) == (True, ""), "what is not named is as loaded"


@pytest.mark.parametrize(
    ("types", "flash_attention", "kept"), [("iq4_nl", None, "iq4_nl,iq4_nl"), ("q8_0", False, "q8_0,f16")]
)
async def test_types_of_the_cache_take_what_is_planned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, types: str, flash_attention: bool | None, kept: str
) -> None:
    caplog.set_level(logging.INFO, "pronk.engine")
    settings = {"kv_cache_type": types, "flash_attention": flash_attention}
    async with running(tmp_path / "models", num_parallel=4, **settings) as engine:
        assert await answer(engine)
        plan = engine._pool._loaded[str(engine.models.resolve("tinychat").weights)].plan
        assert f"{plan.types.keys},{plan.types.values}" == kept
        share = plan.placement.host
        assert share.state < 0.01 * share.cache, "what llama.cpp has allocated beyond the plan"
        told = [record.message for record in caplog.records if record.message.startswith("quantised values")]
        assert len(told) == (flash_attention is False)
