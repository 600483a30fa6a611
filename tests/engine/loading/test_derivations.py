"""Models in published layouts, as the engine runs them: like the same models in llama.cpp's own layout."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.api import ChatRequest, Delta, EmbedRequest, Final, GenerateRequest, Message, ModelLoading
from engine.engine import Engine
from engine.errors import EngineStopped, LoadFailed, ModelNotFound
from engine.loading.config import PoolConfig
from engine.loading.derivations import RepackCache
from engine.loading.image_tokens import LEAST_IMAGE_TOKENS
from engine.loading.memory import BYTES_OF_MASK, FULL_CONTEXTS_CPU, PROJECTOR_OVERHEAD
from engine.model import Models
from registry.gguf import read_header
from registry.manifest import CONFIG, MODEL, Layer, Manifest
from registry.names import ModelName
from registry.storage.store import Store
from tests.engine.running import collect, make_engine
from tests.modelfile.published.llama3 import END_OF_TURN, llama3
from tests.modelfile.published.models import Model
from tests.modelfile.published.pairs import PAIRS
from tests.processes import NewChildren
from tests.seen import files
from tests.serving import PATIENCE

BULK = 32 << 10  # rows of a kilobyte: so much that it can be given up before it is copied
MAKING = "repack starts"


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    engine = make_engine(tmp_path / "models")
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
async def derivations(tmp_path: Path) -> AsyncIterator[RepackCache]:
    children = NewChildren()
    derivations = RepackCache(Store(tmp_path / "models"), os.environ)
    yield derivations
    await derivations.close()
    assert not children()


def add(root: Path, name: str, model: Model) -> None:
    """Store a model of these weights."""
    store = Store(root / "models")
    weights = store.add_file(model.write(root / "model.gguf"))
    config = store.add_blob(b'{"model_format":"gguf"}')
    store.write_manifest(ModelName.parse(name), Manifest(Layer(CONFIG, *config), (Layer(MODEL, *weights),)))


def large() -> Model:
    """A published model that takes a moment to copy."""
    model = PAIRS["gemma3"]().published
    model.weights["mm.bulk"] = np.zeros((BULK, 512), np.float16)
    return model


def ask(model: str, **options: object) -> GenerateRequest:
    wishes = {"temperature": 0, "num_predict": 8, "num_ctx": 2048} | options
    return GenerateRequest(model=model, prompt="hello ab", raw=True, options=wishes)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


async def answer(engine: Engine, model: str) -> tuple[str, Final]:
    content, _, final = await collect(engine.generate(ask(model)))
    return content, final


async def test_while_files_are_made_the_model_is_loading(engine: Engine, tmp_path: Path) -> None:
    add(tmp_path, "published", large())
    told = [event async for event in engine.generate(replace(ask("published"), progress=True))]
    assert told[0] == ModelLoading(0.0)
    assert isinstance(told[-1], Final)


@pytest.mark.parametrize("name", ["gemma3", "gptoss", "qwen25vl", "mistral3"])
async def test_answers(engine: Engine, tmp_path: Path, name: str) -> None:
    pair = PAIRS[name]()
    add(tmp_path, "published", pair.published)
    add(tmp_path, "expected", pair.expected)
    content, final = await answer(engine, "published")
    expected, other = await answer(engine, "expected")
    assert content == expected
    assert final.prompt_eval_count == other.prompt_eval_count
    running = {model.name.rpartition("/")[2]: model.size for model in engine.running()}
    difference = running["published:latest"] - running["expected:latest"]
    if name == "gptoss":
        assert abs(difference) < 0.01 * running["expected:latest"]
    else:  # it has the eyes of the published file, too
        mask = BYTES_OF_MASK * (LEAST_IMAGE_TOKENS * 4) ** 2 if name == "qwen25vl" else 0
        header = read_header(tmp_path / "model.gguf")  # of the file that was added last
        cells = FULL_CONTEXTS_CPU * min(2048, header.size("context_length"))
        rows = cells * header.size("embedding_length") * 4
        assert 0 < rows < PoolConfig(environ={}).image_cache
        seeing = PROJECTOR_OVERHEAD + rows + mask
        assert difference == pytest.approx(seeing, rel=0.02)


@pytest.mark.parametrize("name", ["gemma3", "mistral3"])  # one picture is too much for the context of our Qwen
async def test_a_model_sees_with_what_is_in_its_own_file(engine: Engine, tmp_path: Path, name: str) -> None:
    add(tmp_path, "published", PAIRS[name]().published)
    prompts = []
    for picture in ("checker.png", "gradient.png", "checker.png"):
        request = replace(ask("published"), prompt="[img-0] hello", images=(files()[picture],), logprobs=True)
        events = [event async for event in engine.generate(request)]
        prompts.append([logprob for event in events if isinstance(event, Delta) for logprob in event.logprobs])
    assert prompts[0][0] != prompts[1][0]
    assert prompts[0][0].logprob == pytest.approx(prompts[2][0].logprob, abs=0.01)


async def test_vectors(engine: Engine, tmp_path: Path) -> None:
    pair = PAIRS["embeddinggemma"]()
    add(tmp_path, "published", pair.published)
    add(tmp_path, "expected", pair.expected)
    found, expected = [
        (await engine.embed(EmbedRequest(model=model, texts=["hello ab"]))).vectors
        for model in ("published", "expected")
    ]
    assert list(found[0]) == pytest.approx(list(expected[0]), abs=1e-5)


async def test_llama_3_stops_where_a_turn_ends(engine: Engine, tmp_path: Path) -> None:
    add(tmp_path, "published", llama3())
    request = ask("published", logit_bias={str(END_OF_TURN): 100.0})
    content, _, final = await collect(engine.generate(request))
    assert (content, final.done_reason) == ("", "stop")
    assert not Store(tmp_path / "models").derived.folder.exists()


async def test_llama_3_gets_one_start_of_text(engine: Engine, tmp_path: Path) -> None:
    model = llama3()
    del model.metadata["tokenizer.ggml.add_bos_token"]
    model.metadata["tokenizer.chat_template"] = "{{ bos_token }}zebra"
    add(tmp_path, "published", model)
    request = ChatRequest(model="published", messages=[Message("user", "Hi")], options={"num_predict": 1})
    _, _, final = await collect(engine.chat(request))
    assert final.prompt_eval_count == len(["<|begin_of_text|>", "zebra"])


async def test_what_was_made_stays(engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pronk.engine")
    add(tmp_path, "published", PAIRS["gptoss"]().published)
    first, _ = await answer(engine, "published")
    await engine.stop()
    again = make_engine(tmp_path / "models")
    await again.start()
    assert (await answer(again, "published"))[0] == first
    await again.stop()
    assert caplog.text.count(MAKING) == 1
    (repacked,) = [record for record in caplog.records if record.getMessage() == "repacked"]
    values = vars(repacked)["fields"]
    assert values["model"] == "published:latest"
    assert values["bytes"] > 0


async def test_two_loads_at_once(derivations: RepackCache, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pronk.engine")
    for name in ("one", "other"):
        add(tmp_path, name, large())
    models = [Models(Store(tmp_path / "models")).resolve(name) for name in ("one", "other")]
    first, second = await asyncio.gather(*map(derivations.weights, models))
    assert first.path == second.path
    assert first.header.architecture == "gemma3"
    assert caplog.text.count(MAKING) == 1


async def test_it_is_finished_for_the_next(
    derivations: RepackCache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pronk.engine")
    add(tmp_path, "m", large())
    model = Models(Store(tmp_path / "models")).resolve("m")
    waiter = asyncio.create_task(derivations.weights(model))
    await until(lambda: MAKING in caplog.text)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert (await derivations.weights(model)).path.is_file()
    assert caplog.text.count(MAKING) == 1


async def test_it_is_given_up_at_the_end(derivations: RepackCache, tmp_path: Path) -> None:
    add(tmp_path, "m", large())
    model = Models(Store(tmp_path / "models")).resolve("m")
    children = NewChildren()
    waiter = asyncio.create_task(derivations.weights(model))
    await until(lambda: bool(children()))
    await derivations.close()
    with pytest.raises(EngineStopped):
        await waiter
    with pytest.raises(EngineStopped):
        await derivations.weights(model)


async def test_its_blob_stays_until_it_is_made(derivations: RepackCache, tmp_path: Path) -> None:
    add(tmp_path, "m", large())
    store = derivations._store
    model = Models(store).resolve("m")
    children = NewChildren()
    waiter = asyncio.create_task(derivations.weights(model))
    await until(lambda: bool(children()))
    await asyncio.to_thread(store.delete, ModelName.parse("m"))
    assert (await waiter).path.is_file()


async def test_a_failure_is_told_and_not_remembered(derivations: RepackCache, tmp_path: Path) -> None:
    add(tmp_path, "m", PAIRS["gptoss"]().published)
    model = Models(Store(tmp_path / "models")).resolve("m")
    folder = tmp_path / "models" / "derived"
    folder.write_text("in the way")
    with pytest.raises(LoadFailed, match="failed to load model: cannot write a derived file: File exists"):
        await derivations.weights(model)
    folder.unlink()
    assert (await derivations.weights(model)).header.architecture == "gpt-oss"


async def test_a_model_that_has_gone(derivations: RepackCache, tmp_path: Path) -> None:
    add(tmp_path, "m", PAIRS["gptoss"]().published)
    model = Models(Store(tmp_path / "models")).resolve("m")
    model.weights.unlink()
    with pytest.raises(ModelNotFound):
        await derivations.weights(model)


async def test_an_unknown_layout_is_refused_before_a_process_tries(engine: Engine, tmp_path: Path) -> None:
    add(tmp_path, "m", Model("deepseekocr", {"deepseekocr.block_count": 1}, {"x": np.zeros(32, np.float32)}))
    with pytest.raises(LoadFailed, match="'deepseekocr' in the layout of Ollama's own engine is not supported yet"):
        await answer(engine, "m")
    assert engine.running() == []
