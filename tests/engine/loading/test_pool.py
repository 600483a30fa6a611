"""Models that are loaded and evicted by real processes."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from engine.api import Event, GenerateRequest, PlanRequest
from engine.engine import Engine
from engine.errors import ModelNotFound, RunnerDied, ServerBusy
from engine.loading import devices
from engine.loading.process import RunnerProcess
from modelfile.operating_system import is_stopped
from registry import bundled
from registry.manifest import MODEL, Layer, Manifest
from registry.names import ModelName
from tests.engine.running import collect, endless, running
from tests.serving import GREEDY

TINYCHAT = ModelName.parse("tinychat")
TWO_CORES = pytest.mark.skipif(devices.usable_processors() < 2, reason="loads run side by side on two cores or more")


def store_models(engine: Engine, *names: str) -> None:
    """Store the bundled weights under other digests."""
    data = (Path(bundled.__file__).parent / "tinychat.gguf").read_bytes()
    base = engine.store.find(TINYCHAT).manifest
    for number, name in enumerate(names):
        blob = engine.store.add_blob(data.replace(b"tinychat", f"tinycha{number}".encode(), 1))
        engine.store.write_manifest(ModelName.parse(name), Manifest(base.config, (Layer(MODEL, *blob),)))


async def answer(engine: Engine, model: str, **options: Any) -> str:
    request = GenerateRequest(model=model, prompt="Count to 5", options=GREEDY | {"num_predict": 3} | options)
    return (await collect(engine.generate(request)))[0]


def told(caplog: pytest.LogCaptureFixture, message: str) -> list[Any]:
    """The models of the records with this message."""
    return [vars(record)["fields"]["model"] for record in caplog.records if record.message == message]


@TWO_CORES
async def test_two_models_load_at_the_same_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pronk.engine")
    async with running(tmp_path / "models") as engine:
        store_models(engine, "a", "b")
        await asyncio.gather(*(answer(engine, model) for model in "aabb"))
        events = [record.message for record in caplog.records if record.message in ("load starts", "loaded")]
        assert events == ["load starts", "load starts", "loaded", "loaded"]
        assert sorted(told(caplog, "loaded")) == ["a:latest", "b:latest"]


@TWO_CORES
async def test_a_load_is_given_up_beside_another(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pronk.engine")
    async with running(tmp_path / "models") as engine:
        store_models(engine, "a", "b")
        wanted = asyncio.create_task(answer(engine, "a"))
        unwanted = asyncio.create_task(answer(engine, "b"))
        while len(told(caplog, "load starts")) < 2:  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0.001)
        unwanted.cancel()
        await wanted
        assert told(caplog, "load aborted: nobody waits for it") == ["b:latest"]
        assert told(caplog, "loaded") == ["a:latest"]
        assert await answer(engine, "b") == await wanted


async def test_sixty_requests_for_three_models_in_turn_cost_few_loads(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pronk.engine")
    async with running(tmp_path / "models", max_loaded_models=1) as engine:
        store_models(engine, *"abc")
        texts = await asyncio.gather(*(answer(engine, "abc"[i % 3]) for i in range(60)))
        assert len(set(texts)) == 1
        assert len(told(caplog, "loaded")) <= 6


async def test_a_request_that_could_only_wait_is_refused_before_its_model_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path / "models", max_loaded_models=1, max_queue=0) as engine:
        store_models(engine, *"abc")
        for model in "bca":
            await answer(engine, model)
        story = engine.generate(endless("a"))
        await anext(story)
        waiting = asyncio.create_task(answer(engine, "b"))
        while not told_waiting(engine):  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0.001)
        monkeypatch.setattr(engine.models, "resolve", None)
        for model in "bc":
            with pytest.raises(ServerBusy):
                await answer(engine, model)
        monkeypatch.undo()
        assert (await engine.plan(PlanRequest(model="c"))).fits, "a plan waits in no queue"
        await story.aclose()
        assert await waiting == await answer(engine, "c")


def told_waiting(engine: Engine) -> bool:
    return engine._pool.must_refuse(str(engine.models.resolve("c").weights))


def replace_weights(engine: Engine, name: str) -> None:
    """Store other weights under a name; the old ones go."""
    data = (Path(bundled.__file__).parent / "tinychat.gguf").read_bytes()
    base = engine.store.find(TINYCHAT).manifest
    layer = Layer(MODEL, *engine.store.add_blob(data + bytes(4096)))
    engine.store.write_manifest(ModelName.parse(name), Manifest(base.config, (layer,)), prune=True)


async def waiting_behind_a_story(engine: Engine) -> tuple[AsyncGenerator[Event, None], asyncio.Task[str]]:
    """A story of the only model that may be loaded, and a request for `b` that waits for its end."""
    story = engine.generate(endless("a"))
    await anext(story)
    waiting = asyncio.create_task(answer(engine, "b"))
    while not engine._pool._scheduler.waiting:  # noqa: ASYNC110 - nothing else tells
        await asyncio.sleep(0.001)
    return story, waiting


async def test_a_request_whose_model_is_replaced_while_it_waits_runs_on_the_new_one(tmp_path: Path) -> None:
    async with running(tmp_path / "models", max_loaded_models=1) as engine:
        store_models(engine, "a", "b")
        old = engine.models.resolve("b").weights
        story, waiting = await waiting_behind_a_story(engine)
        await asyncio.to_thread(replace_weights, engine, "b")
        assert not old.exists()
        await story.aclose()
        assert await waiting == await answer(engine, "a")


async def test_a_request_whose_model_is_deleted_while_it_waits_is_told_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path / "models", max_loaded_models=1) as engine:
        store_models(engine, "a", "b")
        story, waiting = await waiting_behind_a_story(engine)
        await asyncio.to_thread(engine.store.delete, ModelName.parse("b"))
        await story.aclose()
        with pytest.raises(ModelNotFound, match=r"^model 'b' not found$"):
            await waiting
        (failure,) = [record for record in caplog.records if record.getMessage().startswith("failed to load b:latest")]
        assert "FileNotFoundError" in failure.fields["cause"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGHUP, signal.SIGSTOP])
async def test_an_idle_process_that_is_of_no_use_is_replaced_when_it_is_needed(
    how: signal.Signals, tmp_path: Path
) -> None:
    async with running(tmp_path / "models", watchdog=math.inf) as engine:
        text = await answer(engine, "tinychat")
        for pause in (0.0, 0.1):
            (loaded,) = engine._pool._loaded.values()
            os.kill(loaded.process.pid, how)
            while how == signal.SIGSTOP and not is_stopped(loaded.process.pid):
                time.sleep(0.001)  # noqa: ASYNC251 - until the signal has reached it, it is as any other
            time.sleep(pause)  # noqa: ASYNC251 - the event loop is not to see the end
            assert await answer(engine, "tinychat") == text
            assert loaded.process.exited.is_set() or not loaded.process.alive
        assert len(engine.running()) == 1


async def test_a_request_whose_process_is_killed_before_a_word_begins_anew_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path / "models") as engine:
        text = await long_read(engine)
        for deaths in (1, 2):
            asked = asyncio.create_task(long_read(engine))
            killed: list[RunnerProcess] = []
            for _ in range(deaths):
                killed.append(await process_with_work(engine, killed))
                killed[-1].kill()
            if deaths == 1:
                assert await asked == text
            else:
                with pytest.raises(RunnerDied, match="it was killed"):
                    await asked
        assert await long_read(engine) == text
        found = await engine.metrics()
    assert [record.getMessage() for record in caplog.records].count("request begins anew") == 2
    samples = [sample for family in found for sample in family.samples if sample.name == "pronk_answers_total"]
    ends = {sample.labels["end"]: sample.value for sample in samples}
    assert ends == {"length": 3, "failed": 1}, "who begins anew is counted at its end"


async def long_read(engine: Engine) -> str:
    """The answer to a prompt that takes so long to read that the process can be killed before its first word."""
    options = GREEDY | {"num_predict": 3, "num_ctx": 8192}
    request = GenerateRequest(model="tinychat", prompt="one two " * 3000, raw=True, options=options)
    return (await collect(engine.generate(request)))[0]


async def process_with_work(engine: Engine, others: list[RunnerProcess]) -> RunnerProcess:
    """The process of the loaded model, none of the `others`, once it has a request of which nothing has come back."""
    async with asyncio.timeout(60):
        return await _with_work(engine, others)


async def _with_work(engine: Engine, others: list[RunnerProcess]) -> RunnerProcess:
    while True:
        for loaded in engine._pool._loaded.values():
            process = loaded.process
            if process not in others and process._streams:
                return process
        await asyncio.sleep(0)
