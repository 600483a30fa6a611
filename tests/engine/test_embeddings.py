"""Vectors through the façade, on real processes: the bundled model, which also writes, and a tiny BERT."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from engine.api import ChatRequest, Delta, Embeddings, EmbedRequest, Message
from engine.embeddings import SLICE
from engine.engine import Engine
from engine.errors import (
    CapabilityMissing,
    ContextExceeded,
    EngineStopped,
    InvalidRequest,
    ModelNotFound,
    RunnerDied,
)
from modelfile.convert import convert
from modelfile.parameters import OptionError
from registry.names import ModelName
from tests.engine.berts import spoilt, tiny_bert
from tests.engine.runner.harness import TINYCHAT
from tests.engine.running import collect, gone, running, unload_all
from tests.engine.test_engine import ask, store_model
from tests.modelfile.convert.checkpoints import files_in
from tests.modelfile.convert.test_families import write_nomic

LONG = "count to five and tell a story about the quick brown fox " * 80


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """An engine that all may ask."""
    async with running_with_bert(tmp_path_factory.mktemp("shared")) as engine:
        yield engine


@pytest_asyncio.fixture(loop_scope="module")
async def own_engine(tmp_path: Path) -> AsyncIterator[Engine]:
    """An engine for one test."""
    async with running_with_bert(tmp_path) as engine:
        yield engine


@asynccontextmanager
async def running_with_bert(folder: Path) -> AsyncIterator[Engine]:
    async with running(folder / "models", environ=os.environ) as engine:
        store_model(engine.store, "bert", tiny_bert(folder / "bert.gguf").read_bytes())
        yield engine


async def embed(engine: Engine, *texts: str, model: str = "bert", **fields: Any) -> Embeddings:
    return await engine.embed(EmbedRequest(model=model, texts=list(texts), **fields))


def cosine(one: array[float], other: array[float]) -> float:
    a, b = np.array(one), np.array(other)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def length(vector: array[float]) -> float:
    return float(np.linalg.norm(np.array(vector)))


@pytest.mark.parametrize(("model", "width"), [("bert", 64), ("tinychat", 256)])
async def test_vectors_in_order(engine: Engine, model: str, width: int) -> None:
    texts = ["the dog", "the fox", "", "the dog"]
    result = await embed(engine, *texts, model=model)
    assert [len(vector) for vector in result.vectors] == [width] * 4
    assert [length(vector) for vector in result.vectors] == pytest.approx([1] * 4)
    assert cosine(result.vectors[0], result.vectors[3]) > 0.9999
    assert cosine(result.vectors[0], result.vectors[1]) < 0.999
    (alone,) = (await embed(engine, "the fox", model=model)).vectors
    assert cosine(result.vectors[1], alone) > 0.9999
    assert result.load_duration > 0
    assert result.prompt_eval_count >= len(texts)


async def test_more_texts_than_go_into_one_message(engine: Engine) -> None:
    texts = [f"the dog number {number}" for number in range(SLICE + 9)]
    result = await embed(engine, *texts)
    assert len(result.vectors) == len(texts)
    (last,) = (await embed(engine, texts[-1])).vectors
    assert cosine(result.vectors[-1], last) > 0.9999
    with pytest.raises(ContextExceeded, match=rf"^the input length exceeds the context length: input\[{SLICE}\]$"):
        await embed(engine, *["a"] * SLICE, LONG, truncate=False)


async def test_long_texts_are_cut_or_refused(engine: Engine) -> None:
    assert (await embed(engine, LONG)).prompt_eval_count == 128
    assert (await embed(engine, LONG, options={"num_ctx": 10})).prompt_eval_count == 10
    assert (await embed(engine, LONG, options={"num_ctx": 1000})).prompt_eval_count == 128
    with pytest.raises(ContextExceeded, match=r"^the input length exceeds the context length$"):
        await embed(engine, LONG, truncate=False)
    with pytest.raises(ContextExceeded, match=r"^input after truncation exceeds maximum context length$"):
        await embed(engine, LONG, options={"num_ctx": 1})
    assert (await embed(engine, LONG, model="tinychat")).prompt_eval_count == 1024


@pytest.mark.parametrize("options", [{"num_batch": 1}, {"num_batch": 100_000}, {"num_thread": 1}, {"num_thread": 512}])
async def test_load_options_change_no_vector(engine: Engine, options: dict[str, int]) -> None:
    text = LONG[:600]
    for model in ("bert", "tinychat"):
        (vector,) = (await embed(engine, text, model=model)).vectors
        (other,) = (await embed(engine, text, model=model, options=options)).vectors
        assert cosine(vector, other) > 0.9999


async def test_dimensions(engine: Engine) -> None:
    (whole,) = (await embed(engine, "the dog")).vectors
    (cut,) = (await embed(engine, "the dog", dimensions=8)).vectors
    assert len(cut) == 8
    assert length(cut) == pytest.approx(1)
    assert cosine(cut, whole[:8]) > 0.9999


async def test_vectors_of_some_models_keep_their_length_if_nobody_minds(engine: Engine, tmp_path: Path) -> None:
    """And a text of theirs is one pass, however long it is."""
    write_nomic(tmp_path)
    convert(files_in(tmp_path), tmp_path / "nomic.gguf", lambda done, total: None)
    store_model(engine.store, "nomic", (tmp_path / "nomic.gguf").read_bytes())
    text = LONG * 3
    result = await embed(engine, text, model="nomic")
    (raw,) = (await embed(engine, text, model="nomic", normalize=False)).vectors
    assert result.prompt_eval_count == 2048
    assert length(result.vectors[0]) == pytest.approx(1)
    assert abs(length(raw) - 1) > 0.1
    assert cosine(result.vectors[0], raw) > 0.9999
    (bert,) = (await embed(engine, "the dog", normalize=False)).vectors
    assert abs(length(bert) - 1) > 0.1
    (chat,) = (await embed(engine, "the dog", model="tinychat", normalize=False)).vectors
    assert length(chat) == pytest.approx(1)


async def test_a_model_for_vectors_is_loaded_and_goes(engine: Engine) -> None:
    await unload_all(engine)
    await engine.load(EmbedRequest(model="bert", keep_alive=math.inf))
    (loaded,) = engine.running()
    assert loaded.context_length == 128
    assert math.isinf(loaded.expires_at)
    await engine.unload("bert")
    await gone(engine)


async def test_keep_alive_zero_answers_first(engine: Engine) -> None:
    await unload_all(engine)
    assert (await embed(engine, "the dog", keep_alive=0)).vectors
    await gone(engine)


async def test_one_process_writes_and_embeds_at_once(engine: Engine) -> None:
    """And what embedding takes counts as soon as it takes it."""
    await unload_all(engine)
    await collect(engine.generate(ask("Hi")))
    (before,) = engine.running()
    long = asyncio.create_task(embed(engine, *[LONG] * 4, model="tinychat"))
    answers = await asyncio.gather(*(collect(engine.generate(ask("Count to 5"))) for _ in range(3)))
    assert {content for content, _, _ in answers} == {"1, 2, 3, 4, 5"}
    assert len((await long).vectors) == 4
    (after,) = engine.running()
    assert after.size > before.size
    await embed(engine, "again", model="tinychat")
    assert engine.running()[0].size == after.size


async def test_streams_go_on_beside_many_texts(engine: Engine) -> None:
    pieces = 0
    await embed(engine, "warm", model="tinychat")
    texts = asyncio.create_task(embed(engine, *[LONG] * 6, model="tinychat"))
    while not texts.done():
        request = ChatRequest(model="tinychat", messages=[Message("user", "Count to 9")], options={"num_predict": 30})
        async for event in engine.chat(request):
            pieces += isinstance(event, Delta) and not texts.done()
    assert len(texts.result().vectors) == 6
    assert pieces > 5


async def test_who_leaves_leaves_no_work_behind(engine: Engine) -> None:
    await unload_all(engine)
    task = asyncio.create_task(embed(engine, *[LONG] * 10_000, model="tinychat"))
    while not engine.running():  # noqa: ASYNC110 - what is waited for is another process
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(20):
        assert (await embed(engine, "the dog", model="tinychat")).vectors


async def test_a_text_without_numbers_is_named_and_harms_nobody(engine: Engine, tmp_path: Path) -> None:
    bad = spoilt(TINYCHAT, tmp_path / "spoilt.gguf", token=ord("q") - ord("!"))
    store_model(engine.store, "spoilt", bad.read_bytes())
    good = asyncio.create_task(embed(engine, *["the dog"] * 20, model="spoilt"))
    with pytest.raises(InvalidRequest, match=r"^embedding contains NaN or Inf values: input\[2\]$"):
        await embed(engine, "the dog", "the fox", "q", model="spoilt")
    assert len((await good).vectors) == 20


async def test_what_only_embeds_does_not_write(engine: Engine) -> None:
    with pytest.raises(CapabilityMissing, match=r'^"bert" does not support chat$'):
        await collect(engine.chat(ChatRequest(model="bert", messages=[Message("user", "Hi")])))
    with pytest.raises(CapabilityMissing, match=r'^"bert" does not support generate$'):
        await collect(engine.generate(ask("Hi", "bert")))


async def test_refusals(own_engine: Engine) -> None:
    with pytest.raises(ModelNotFound):
        await embed(own_engine, "a", model="zz")
    with pytest.raises(OptionError, match=r'^option "num_ctx" must be of type integer$'):
        await embed(own_engine, "a", options={"num_ctx": "many"})
    weights = own_engine.store.find(ModelName.parse("bert")).manifest.layers[0].digest
    own_engine.store.blob_path(weights).unlink()
    with pytest.raises(ModelNotFound):
        await embed(own_engine, "a")


@pytest.mark.parametrize("end", ["death", "stop"])
async def test_the_end_of_the_process_is_the_end_of_the_request(tmp_path: Path, end: str) -> None:
    async with running_with_bert(tmp_path) as engine:
        await embed(engine, "warm", model="tinychat")
        task = asyncio.create_task(embed(engine, *[LONG] * 10_000, model="tinychat"))
        await asyncio.sleep(0.1)
        if end == "stop":
            await engine.stop()
        else:  # behind the first death it begins anew
            killed: set[int] = set()
            async with asyncio.timeout(60):
                while len(killed) < 2:
                    for pid in {loaded.process.pid for loaded in engine._pool._loaded.values()} - killed:
                        os.kill(pid, signal.SIGKILL)
                        killed.add(pid)
                    await asyncio.sleep(0.1)
        with pytest.raises(EngineStopped if end == "stop" else RunnerDied):
            await task
