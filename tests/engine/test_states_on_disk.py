"""Prompts that were seen before a model was unloaded, a server stopped or killed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.api import GenerateRequest
from engine.engine import Engine
from engine.fair_queue import CACHE_OWNER
from engine.loading.derivations import Weights
from engine.loading.load_attempt import has_lasting_states
from registry.bundled import MODELS
from registry.gguf import GGUFHeader, read_header
from registry.gguf.header import TensorInfo
from registry.names import ModelName
from tests.engine.runner.test_windows import words
from tests.engine.running import collect, running, unload_all

MIB = 1 << 20
PROMPT = words(450)
CACHED = 640  # tokens of it, up to the last border
OPTIONS = {"num_predict": 8, "num_ctx": 1024, "temperature": 0}


async def ask(engine: Engine, prompt: str = PROMPT, model: str = "tinychat") -> tuple[str, int]:
    """The answer, and how many tokens of the prompt were not computed."""
    request = GenerateRequest(model=model, prompt=prompt, raw=True, options=dict(OPTIONS))
    content, _, final = await collect(engine.generate(request))
    return content, final.prompt_eval_cached


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.state"))


def left(folder: Path) -> list[Path]:
    """Files that were not written to their end."""
    return [*folder.rglob(".new-*")]


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in threads and processes
            await asyncio.sleep(0.01)


def settings(folder: Path, limit: int = 100 * MIB) -> dict[str, Any]:
    return {"disk_cache": (folder / "cache", limit), "num_parallel": 2, "prompt_cache": 64 * MIB}


async def test_states_outlive_the_process_and_the_server(tmp_path: Path) -> None:
    async with running(tmp_path / "models", **settings(tmp_path)) as engine:
        answer, cached = await ask(engine)
        assert cached == 0
        await unload_all(engine)
        assert await ask(engine) == (answer, CACHED)
        assert len(files(tmp_path)) == 1
        await ask(engine, "Quite another story. " + PROMPT)
    assert len(files(tmp_path)) == 2, "a server that stops writes, too"
    async with running(tmp_path / "models", **settings(tmp_path)) as engine:
        assert await ask(engine) == (answer, CACHED)


async def test_without_the_setting_nothing_is_written(tmp_path: Path) -> None:
    async with running(tmp_path / "models", num_parallel=2) as engine:
        answer, _ = await ask(engine)
        await unload_all(engine)
        assert await ask(engine) == (answer, 0)
    assert not files(tmp_path)


async def test_states_of_deleted_models_are_removed(tmp_path: Path) -> None:
    async with running(tmp_path / "models", **settings(tmp_path)) as engine:
        await ask(engine)
        await unload_all(engine)
        await eventually(lambda: len(files(tmp_path)) == 1)
        store = engine.store
        tinychat, copy = ModelName.parse("tinychat"), ModelName.parse("copy")
        await asyncio.to_thread(store.copy, tinychat, copy)
        await asyncio.to_thread(store.delete, tinychat)
        await asyncio.sleep(0.3)
        assert len(files(tmp_path)) == 1, "another name has these weights"
        await ask(engine, "Quite another story. " + PROMPT, model="copy")
        await asyncio.to_thread(store.delete, copy)
        await eventually(lambda: not engine.running() and not files(tmp_path))
    assert not files(tmp_path), "nor were they written when the model was unloaded"


async def test_what_was_deleted_while_no_server_ran(tmp_path: Path) -> None:
    async with running(tmp_path / "models", **settings(tmp_path)) as engine:
        await ask(engine)
        store = engine.store
    assert files(tmp_path)
    store.delete(ModelName.parse("tinychat"))
    async with running(tmp_path / "models", **settings(tmp_path)):
        await eventually(lambda: not files(tmp_path))


async def test_api_keys_have_states_of_their_own(tmp_path: Path) -> None:
    async with running(tmp_path / "models", **settings(tmp_path)) as engine:
        CACHE_OWNER.set("alice")
        answer, _ = await ask(engine)
        await unload_all(engine)
        CACHE_OWNER.set("bob")
        assert await ask(engine) == (answer, 0)
        await unload_all(engine)
        CACHE_OWNER.set("alice")
        assert await ask(engine) == (answer, CACHED)
    assert all(b"alice" not in file.read_bytes() for file in files(tmp_path))


async def test_a_folder_that_cannot_be_used_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cache").write_text("")
    async with running(tmp_path / "models", **settings(tmp_path)) as engine:
        answer, _ = await ask(engine)
        await unload_all(engine)
        assert await ask(engine) == (answer, 0)
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert told == ["prompt cache on disk is off: File exists"]


async def test_a_process_that_is_killed_while_it_writes(tmp_path: Path) -> None:
    async with running(tmp_path / "models", **settings(tmp_path)) as engine:
        answer, _ = await ask(engine)
        for delay in (0.0, 0.002, 0.005, 0.01, 0.02):
            await ask(engine)
            (loaded,) = engine._pool._loaded.values()
            await engine.unload("tinychat")
            await asyncio.sleep(delay)
            loaded.process.kill()
            await loaded.process.exited.wait()
            again, cached = await ask(engine)
            assert again == answer
            assert cached in (0, CACHED)
    assert not left(tmp_path)


async def test_a_process_that_does_not_answer_holds_up_an_unload_for_a_while_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.loading.pool.UNLOAD_PATIENCE", 0.2)
    async with running(tmp_path / "models", **settings(tmp_path)) as engine:
        answer, _ = await ask(engine)
        (loaded,) = engine._pool._loaded.values()
        monkeypatch.setattr(loaded.process, "_send", ignoring(loaded.process._send))
        await unload_all(engine)
        assert not files(tmp_path)
        assert await ask(engine) == (answer, 0)


def ignoring(send: Callable[[Any], None]) -> Callable[[Any], None]:
    """A connection on which the request to write gets lost."""
    return lambda message: None if type(message).__name__ == "WriteStates" else send(message)


async def test_least_recently_used_states_go_first(tmp_path: Path) -> None:
    prompts = [f"Story {number}. {PROMPT}" for number in range(4)]
    async with running(tmp_path / "models", **settings(tmp_path)) as engine:
        await ask(engine, prompts[0])
    size = files(tmp_path)[0].stat().st_size
    async with running(tmp_path / "models", **settings(tmp_path, 3 * size + size // 2)) as engine:
        for prompt in prompts[1:]:
            assert (await ask(engine, prompts[0]))[1] == CACHED
            await unload_all(engine)
            await ask(engine, prompt)
            await unload_all(engine)
        await eventually(lambda: len(files(tmp_path)) == 3)
        cached = [(await ask(engine, prompt))[1] for prompt in (prompts[1], prompts[0], prompts[2])]
    assert cached == [0, CACHED, CACHED]


def test_where_the_context_chooses_the_rope_nothing_is_kept() -> None:
    path = MODELS[ModelName.parse("tinychat")].path
    header = read_header(path)
    assert has_lasting_states(Weights(path, header))
    factors = TensorInfo("rope_factors_long.weight", "F32", (8,), 0, 32)
    longer = GGUFHeader(header.version, header.metadata, (*header.tensors, factors), header.data_offset)
    assert not has_lasting_states(Weights(path, longer))
