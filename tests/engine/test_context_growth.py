"""The automatic context grows instead of cutting: the façade on real processes; 256 tokens at first, 1,024 at last."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine import generation
from engine.api import ChatRequest, Delta, EmbedRequest, Final, GenerateRequest, Message, RerankRequest
from engine.engine import Engine
from engine.errors import ContextExceeded, RunnerDied
from engine.loading import devices, load_options, memory
from engine.loading.devices import Device
from engine.loading.lease import Lease
from engine.loading.loaded_model import LoadedModel
from engine.loading.planner import LoadPlanner
from engine.messages import HOST
from registry.logfields import REQUEST_ID
from registry.manifest import MODEL, PARAMS, PROJECTOR, Layer, Manifest
from registry.names import ModelName
from tests.engine.berts import chat_reranker, pooled
from tests.engine.runner.harness import TINYCHAT
from tests.engine.running import collect, running
from tests.engine.test_embeddings import cosine
from tests.engine.test_engine import ask, other_weights, store_model
from tests.processes import short_of_memory
from tests.seen import files_of, gradient, saved
from tests.serving import GREEDY

FIRST, TRAINED = 256, 1024
MIB = 1 << 20
LEDGER = 87 * MIB
LAST = 3  # llama.cpp's number for the token that counts
GIGABYTES = 1 << 19  # tokens of KV cache
SENTENCE = "The cat sat on the mat. "
MIDDLING = SENTENCE * 40
LONG = SENTENCE * 60  # some 480 tokens
TOO_LONG = SENTENCE * 150


@pytest.fixture(autouse=True)
def small_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_options, "DEFAULT_CONTEXT", FIRST)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with running(tmp_path / "models", num_parallel=2) as engine:  # with cells for two first contexts
        yield engine


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "pronk.engine")
    return caplog


def raw(prompt: str, num_predict: int = 8, model: str = "tinychat", **fields: Any) -> GenerateRequest:
    return ask(prompt, model, raw=True, logprobs=True, options={"num_predict": num_predict}, **fields)


async def numbers(engine: Engine, request: GenerateRequest) -> tuple[str, list[float], Final]:
    """The text of an answer, the log-probabilities of its tokens, and its end."""
    events = [event async for event in engine.generate(request)]
    deltas = [event for event in events if isinstance(event, Delta)]
    final = events[-1]
    assert isinstance(final, Final)
    scores = [score.logprob for delta in deltas for score in delta.logprobs]
    return "".join(delta.content for delta in deltas), scores, final


def contexts(engine: Engine) -> dict[str, int]:
    return {ModelName.parse(model.name).model: model.context_length for model in engine.running()}


def sizes(engine: Engine) -> dict[str, int]:
    return {ModelName.parse(model.name).model: model.size for model in engine.running()}


def ledger(engine: Engine) -> list[int]:
    """Bytes that the scheduler counts for each model."""
    return [runner.taken.total for runner in engine._pool._scheduler._runners.by_key.values()]


def counted(engine: Engine) -> list[int]:
    """Bytes that it should count: with what may be taken later, which is no part of a size."""
    return [
        model.size + model.plan.placement.total - model.plan.placement.size for model in engine._pool._loaded.values()
    ]


def pids(engine: Engine) -> set[int]:
    return {loaded.process.pid for loaded in engine._pool._loaded.values()}


async def test_a_long_prompt_makes_the_context_grow(engine: Engine, lines: pytest.LogCaptureFixture) -> None:
    await numbers(engine, raw("Hello"))
    before, process = sizes(engine), pids(engine)
    assert contexts(engine) == {"tinychat": FIRST}
    text, scores, final = await numbers(engine, raw(LONG, 40))
    assert (final.prompt_cut, final.eval_count) == (0, 40)
    assert final.prompt_eval_count > FIRST
    assert contexts(engine) == {"tinychat": TRAINED}
    assert pids(engine) == process
    assert [r.getMessage() for r in lines.records].count("loaded") == 1
    assert "context grown" in lines.messages
    assert "prompt truncated" not in lines.messages
    plan = next(iter(engine._pool._loaded.values())).plan
    assert sizes(engine)["tinychat"] - before["tinychat"] == (TRAINED - 2 * FIRST) * plan.cache // plan.n_cells
    assert ledger(engine) == counted(engine)
    await engine.unload("tinychat")
    large = raw(LONG, 40)
    large.options["num_ctx"] = TRAINED
    assert (await numbers(engine, large))[:2] == (text, scores)


async def test_the_middle_size_is_enough_for_a_middling_prompt(engine: Engine) -> None:
    _, _, final = await numbers(engine, raw(SENTENCE * 32))
    assert FIRST < final.prompt_eval_count < 2 * FIRST - 8
    assert contexts(engine) == {"tinychat": 2 * FIRST}
    await numbers(engine, raw("Hello"))
    assert contexts(engine) == {"tinychat": 2 * FIRST}, "nobody wants the memory"


async def test_room_for_the_answer_counts(engine: Engine) -> None:
    await numbers(engine, raw("Hello", 240))
    assert contexts(engine) == {"tinychat": FIRST}
    await numbers(engine, raw("Hello", 300))
    assert contexts(engine) == {"tinychat": 2 * FIRST}


async def test_an_answer_grows_while_it_is_written(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "ROOM", 16)
    request = ask("Count to 100", think=False)
    content, _, final = await collect(engine.generate(request))
    assert final.prompt_eval_count + final.eval_count > FIRST
    assert contexts(engine) == {"tinychat": 2 * FIRST}
    await engine.unload("tinychat")
    request.options["num_ctx"] = TRAINED
    assert (await collect(engine.generate(request)))[0] == content
    assert content.endswith("100")


@pytest.mark.parametrize("who", ["request", "model", "environment"])
async def test_a_context_that_somebody_has_set_does_not_grow(
    tmp_path: Path, who: str, lines: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path / "models", context_length=FIRST if who == "environment" else 0) as engine:
        request = raw(LONG)
        if who == "request":
            request.options["num_ctx"] = FIRST
        if who == "model":
            manifest = engine.store.find(ModelName.parse("tinychat")).manifest
            parameters = Layer(PARAMS, *engine.store.add_blob(b'{"num_ctx": 256}'))
            others = tuple(layer for layer in manifest.layers if layer.media_type != PARAMS)
            engine.store.write_manifest(ModelName.parse("set"), replace(manifest, layers=(*others, parameters)))
            request.model = "set"
        _, _, final = await numbers(engine, request)
        assert final.prompt_cut > FIRST
        assert final.prompt_eval_count + final.prompt_cut > 2 * FIRST - 60
        assert set(contexts(engine).values()) == {FIRST}
        (line,) = [record for record in lines.records if record.getMessage() == "prompt truncated"]
        assert vars(line)["fields"]["tokens"] == final.prompt_cut
        _, _, final = await numbers(engine, replace(request, prompt="Hello"))
        assert final.prompt_cut == 0


async def test_what_is_longer_than_the_trained_context_is_cut_to_that(engine: Engine) -> None:
    _, _, final = await numbers(engine, raw(TOO_LONG))
    assert contexts(engine) == {"tinychat": TRAINED}
    assert final.prompt_eval_count > TRAINED // 2
    assert final.prompt_cut > 0


async def test_who_wants_no_cut_is_refused_only_beyond_the_trained_context(engine: Engine) -> None:
    _, _, final = await numbers(engine, raw(LONG, truncate=False))
    assert final.prompt_eval_count > FIRST
    await engine.unload("tinychat")
    await numbers(engine, raw("Hello"))
    with pytest.raises(ContextExceeded, match=r"exceeds the available context size \(1024 tokens\)") as refused:
        await numbers(engine, raw(TOO_LONG, truncate=False))
    assert refused.value.limit == TRAINED - 1
    assert contexts(engine) == {"tinychat": FIRST}, "it would have been in vain"


def conversation(turns: int) -> ChatRequest:
    messages = [Message(role, f"{role} {n}: {SENTENCE}") for n in range(turns) for role in ("user", "assistant")]
    options = GREEDY | {"num_predict": 4}
    return ChatRequest(model="tinychat", messages=[*messages, Message("user", "Who?")], options=options, think=False)


async def test_a_long_conversation_is_kept_as_long_as_the_context_can_grow(
    engine: Engine, lines: pytest.LogCaptureFixture
) -> None:
    _, _, final = await collect(engine.chat(conversation(16)))
    assert (final.prompt_left_out, final.prompt_cut) == (0, 0)
    assert final.prompt_eval_count > FIRST
    assert "prompt truncated" not in lines.messages
    whole = await engine.render(replace(conversation(60), truncate=False))
    _, _, final = await collect(engine.chat(conversation(60)))
    assert contexts(engine) == {"tinychat": TRAINED}
    assert TRAINED - 100 < final.prompt_eval_count < TRAINED
    assert final.prompt_left_out > 0
    assert final.prompt_cut == whole.token_count - final.prompt_eval_count
    assert "prompt truncated" in lines.messages


async def test_the_next_turn_of_a_grown_conversation_comes_from_the_cache(engine: Engine) -> None:
    request = conversation(16)
    request.options |= {"seed": -1, "temperature": 0.5}
    await collect(engine.chat(replace(request, messages=request.messages[:5])))
    _, _, final = await collect(engine.chat(request))
    assert final.prompt_eval_cached > 40, "what was there before it grew"
    request.messages += [Message("assistant", "Me."), Message("user", "And who?")]
    _, _, again = await collect(engine.chat(request))
    assert again.prompt_eval_cached > final.prompt_eval_count - 20


async def test_the_rows_of_pictures_count(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_options, "SMALLEST_SEEING_CONTEXT", FIRST)
    text, projector = files_of("llava")
    layers = (Layer(MODEL, *engine.store.add_file(text)), Layer(PROJECTOR, *engine.store.add_file(projector)))
    config = engine.store.find(ModelName.parse("tinychat")).manifest.config
    engine.store.write_manifest(ModelName.parse("sees"), Manifest(config, layers))
    pictures = tuple(saved(gradient(112, 84, turn % 3)) for turn in range(8))
    request = ask("What is this?", "sees", images=pictures, options={"num_predict": 20})
    content, _, final = await collect(engine.generate(request))
    assert final.prompt_eval_count > FIRST
    assert contexts(engine) == {"sees": 2 * FIRST}
    await engine.unload("sees")
    request.options["num_ctx"] = TRAINED
    assert (await collect(engine.generate(request)))[0] == content


async def test_four_grow_at_once_while_a_fifth_goes_on(tmp_path: Path, lines: pytest.LogCaptureFixture) -> None:
    async with running(tmp_path / "models") as engine:
        fifth = engine.generate(ask("Write a long story.", think=False, options={"num_predict": 200}))
        await anext(fifth)
        process = pids(engine)
        prompts = [f"{number}. " + SENTENCE * (35 + 15 * number) for number in range(4)]
        answers = await asyncio.gather(*(numbers(engine, raw(prompt, 20)) for prompt in prompts))
        story, _, end = await collect(fifth)
        assert all((final.prompt_cut, final.eval_count) == (0, 20) for _, _, final in answers)
        assert end.done_reason in ("stop", "length")
        assert story
        assert pids(engine) == process
        assert [r.getMessage() for r in lines.records].count("loaded") == 1
        await engine.unload("tinychat")
        for prompt, (text, scores, _) in zip(prompts, answers, strict=True):
            request = raw(prompt, 20)
            request.options["num_ctx"] = TRAINED
            assert (await numbers(engine, request))[:2] == (text, scores)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Device:
    """A machine with memory for two models, unless one has a large context: together they may take LEDGER."""
    machine = Device("cpu", "cpu", int(LEDGER / 0.9) + 1, 200 * MIB)
    monkeypatch.setattr(devices, "host", lambda: machine)
    return machine


async def test_a_grown_context_shrinks_before_a_model_goes(
    tmp_path: Path, host: Device, lines: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path / "models", prompt_cache=0) as engine:
        store_model(engine.store, "other", other_weights(1))
        await numbers(engine, raw("Hello"))
        first, process = sizes(engine)["tinychat"], pids(engine)
        await numbers(engine, raw(LONG))
        assert contexts(engine) == {"tinychat": TRAINED}
        await asyncio.gather(*(numbers(engine, raw(f"{number} {LONG}")) for number in range(8)))
        assert sizes(engine)["tinychat"] > first + 16 * MIB, "all eight had cells"
        assert ledger(engine) == counted(engine)
        await numbers(engine, raw("Hello", model="other"))
        assert contexts(engine) == {"tinychat": FIRST, "other": FIRST}
        assert sizes(engine)["tinychat"] == first
        assert ledger(engine) == counted(engine)
        assert sum(ledger(engine)) <= LEDGER
        assert process < pids(engine), "it was not loaded anew"
        assert "context shrunk" in lines.messages
        assert "evicted" not in lines.messages
        assert (await collect(engine.generate(ask("Count to 5", think=False))))[0] == "1, 2, 3, 4, 5"


async def test_an_idle_model_goes_for_a_longer_context_and_a_busy_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path / "models", num_parallel=1, prompt_cache=0) as engine:
        store_model(engine.store, "other", other_weights(1))
        REQUEST_ID.set("loads")
        await numbers(engine, raw("Hello"))
        REQUEST_ID.set("grows")
        story = engine.generate(ask("Write a long story.", "other", options={"num_predict": 40}))
        await anext(story)
        monkeypatch.setattr(engine._pool._scheduler._runners, "_budget", {HOST: sum(ledger(engine)) + 2 * MIB})
        _, _, final = await numbers(engine, raw(LONG))
        assert final.prompt_cut > 0
        assert FIRST < contexts(engine)["tinychat"] < TRAINED, "what there is"
        assert "prompt truncated" in lines.messages
        assert sum(ledger(engine)) <= engine._pool._scheduler._runners._budget[HOST]
        assert (await collect(story))[2].eval_count == 40
        _, _, final = await numbers(engine, raw(LONG))
        assert final.prompt_cut == 0
        assert contexts(engine) == {"tinychat": TRAINED}
        (evicted,) = [record for record in lines.records if record.getMessage() == "evicted"]
        assert not vars(evicted)["fields"]["request_id"], "not the one that has loaded"


async def test_without_free_memory_a_prompt_is_cut_as_little_as_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path / "models", num_parallel=1, prompt_cache=0) as engine:
        await numbers(engine, raw("Hello"))
        (loaded,) = engine._pool._loaded.values()
        cell = loaded.plan.cache // loaded.plan.n_cells
        free = int((loaded.plan.cache + FIRST * cell) / memory.FREE_SHARE) + cell
        monkeypatch.setattr(devices, "host", lambda: Device("cpu", "cpu", 1 << 40, free))
        _, _, final = await numbers(engine, raw(TOO_LONG))
        assert contexts(engine) == {"tinychat": 2 * FIRST}
        assert FIRST < final.prompt_eval_count < 2 * FIRST
        assert final.prompt_cut > 0
        assert "no memory for a longer context" in lines.messages
        with pytest.raises(ContextExceeded, match=r"\(512 tokens\)"):
            await numbers(engine, raw(SENTENCE * 70, truncate=False))
        monkeypatch.setattr(devices, "host", lambda: Device("cpu", "cpu", 1 << 40, 0))
        _, _, final = await numbers(engine, raw(SENTENCE * 54, 100))
        assert 2 * FIRST < final.prompt_eval_count + 100 < TRAINED
        assert (final.prompt_cut, final.eval_count) == (0, 100), "the answer goes on without its middle"


async def test_a_context_that_llamacpp_cannot_make(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, lines: pytest.LogCaptureFixture
) -> None:
    story = engine.generate(ask("Write a long story.", options={"num_predict": 60}))
    await anext(story)
    size = sizes(engine)

    async def gigabytes(self: LoadPlanner, plan: memory.MemoryPlan, num_ctx: int, cells: int) -> Any:
        return GIGABYTES, replace(plan, n_cells=2 * GIGABYTES)

    (pid,) = pids(engine)
    with monkeypatch.context() as patched, short_of_memory(pid, 256 * MIB):
        patched.setattr(LoadPlanner, "with_context", gigabytes)
        _, _, final = await numbers(engine, raw(LONG))
        assert final.prompt_cut > 0
        with pytest.raises(ContextExceeded, match=r"\(256 tokens\)"):
            await numbers(engine, raw(LONG, truncate=False))
    assert (contexts(engine), sizes(engine), ledger(engine)) == ({"tinychat": FIRST}, size, counted(engine))
    assert (await collect(story))[2].eval_count == 60
    assert "no memory for a longer context" in lines.messages
    assert (await numbers(engine, raw(LONG)))[2].prompt_cut == 0, "now there is"


class Held:
    """Holds each change of a context until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.free = asyncio.Event(), asyncio.Event()
        change = LoadedModel.change_context

        async def held(loaded: LoadedModel, num_ctx: int, cells: int, planner: LoadPlanner) -> None:
            self.begun.set()
            await self.free.wait()
            await change(loaded, num_ctx, cells, planner)

        monkeypatch.setattr(LoadedModel, "change_context", held)


async def test_who_leaves_while_the_context_grows(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    await numbers(engine, raw("Hello"))
    leaving, staying = (asyncio.create_task(numbers(engine, raw(f"{n} {LONG}"))) for n in range(2))
    await held.begun.wait()
    assert (await collect(engine.generate(ask("Count to 5", think=False, options={"num_predict": 40}))))[0], "goes on"
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    held.free.set()
    assert (await staying)[2].prompt_cut == 0
    assert contexts(engine) == {"tinychat": TRAINED}
    assert ledger(engine) == counted(engine)
    await engine.unload("tinychat")
    async with asyncio.timeout(20):
        while engine.running():  # noqa: ASYNC110 - what is waited for is another process's end
            await asyncio.sleep(0.01)


async def test_a_child_that_dies_while_its_context_grows(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, lines: pytest.LogCaptureFixture
) -> None:
    held = Held(monkeypatch)
    await numbers(engine, raw("Hello"))
    growing = [asyncio.create_task(numbers(engine, raw(f"{n} {LONG}"))) for n in range(2)]
    await held.begun.wait()
    (pid,) = pids(engine)
    os.kill(pid, signal.SIGKILL)
    held.free.set()
    assert [final.prompt_cut for _, _, final in await asyncio.gather(*growing)] == [0, 0], "they begin anew"
    assert lines.messages.count("request begins anew") == 2
    assert pid not in pids(engine)
    assert ledger(engine) == counted(engine)


async def test_texts_to_embed_are_not_cut_where_the_context_can_grow(
    engine: Engine, tmp_path: Path, lines: pytest.LogCaptureFixture
) -> None:
    store_model(engine.store, "embeds", pooled(TINYCHAT, tmp_path / "embeds.gguf", LAST).read_bytes())
    request = EmbedRequest(model="embeds", texts=["Hello", MIDDLING, SENTENCE])
    (hello,) = (await engine.embed(replace(request, texts=["Hello"]))).vectors
    before, process = sizes(engine), pids(engine)
    assert contexts(engine) == {"embeds": FIRST}
    set_by_request = replace(request, options={"num_ctx": FIRST})
    cut = await engine.embed(set_by_request)
    with pytest.raises(ContextExceeded, match=r"^the input length exceeds the context length: input\[1\]$"):
        await engine.embed(replace(set_by_request, truncate=False))
    assert contexts(engine) == {"embeds": FIRST}
    whole = await engine.embed(replace(request, truncate=False))
    assert whole.prompt_eval_count > cut.prompt_eval_count + 50
    assert contexts(engine) == {"embeds": 2 * FIRST}
    assert pids(engine) == process, "it was not loaded anew"
    assert "context grown" in lines.messages
    assert cosine(whole.vectors[0], hello) > 0.9999
    (loaded,) = engine._pool._loaded.values()
    assert sizes(engine)["embeds"] - before["embeds"] == FIRST * loaded.plan.bytes_per_cell > 0
    assert ledger(engine) == counted(engine)
    assert (await engine.embed(request)).prompt_eval_count == whole.prompt_eval_count
    with pytest.raises(ContextExceeded, match=r"^the input length exceeds the context length: input\[1\]$"):
        await engine.embed(replace(request, texts=["Hello", TOO_LONG], truncate=False))
    assert (await engine.embed(replace(request, texts=[TOO_LONG]))).prompt_eval_count == TRAINED
    await engine.unload("embeds")
    large = await engine.embed(replace(request, options={"num_ctx": TRAINED}))
    for vector, other in zip(whole.vectors, large.vectors, strict=True):
        assert cosine(vector, other) > 0.9999
    assert cosine(cut.vectors[1], whole.vectors[1]) < 0.9999


async def test_documents_to_rank_are_not_cut_where_the_context_can_grow(engine: Engine, tmp_path: Path) -> None:
    store_model(engine.store, "ranks", chat_reranker(TINYCHAT, tmp_path / "ranks.gguf").read_bytes())
    request = RerankRequest(model="ranks", query="Who sat?", documents=[SENTENCE, MIDDLING])
    assert (await engine.rerank(replace(request, options={"num_ctx": FIRST}))).cut == {1}
    ranked = await engine.rerank(request)
    assert not ranked.cut
    assert contexts(engine) == {"ranks": 2 * FIRST}
    await engine.unload("ranks")
    large = await engine.rerank(replace(request, options={"num_ctx": TRAINED}))
    assert large.scores == pytest.approx(ranked.scores, abs=0.02)


async def test_without_memory_texts_to_embed_are_cut(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_model(engine.store, "embeds", pooled(TINYCHAT, tmp_path / "embeds.gguf", LAST).read_bytes())
    request = EmbedRequest(model="embeds", texts=[LONG])
    await engine.embed(replace(request, texts=["Hello"]))
    (pid,) = pids(engine)

    async def gigabytes(self: LoadPlanner, plan: memory.MemoryPlan, num_ctx: int, cells: int) -> Any:
        return GIGABYTES, plan.with_cells(GIGABYTES)

    with monkeypatch.context() as patched, short_of_memory(pid, 256 * MIB):
        patched.setattr(LoadPlanner, "with_context", gigabytes)
        assert (await engine.embed(request)).prompt_eval_count == FIRST
    assert contexts(engine) == {"embeds": FIRST}
    assert ledger(engine) == counted(engine)
    assert (await engine.embed(request)).prompt_eval_count > FIRST


async def test_who_needs_no_more_context_waits_for_none(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    await numbers(engine, raw(SENTENCE * 32))
    held = Held(monkeypatch)
    growing = asyncio.create_task(numbers(engine, raw(LONG)))
    await held.begun.wait()
    async with asyncio.timeout(20):
        await numbers(engine, raw("Hello " * 50))  # some 50 tokens, but more than 256 bytes
    held.free.set()
    assert (await growing)[2].prompt_cut == 0


async def test_a_child_that_has_died_before_its_context_grows(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    await numbers(engine, raw(LONG))
    take = Lease.take_grown

    async def take_late(lease: Lease, tokens: int) -> None:
        os.kill(lease.process.pid, signal.SIGKILL)
        while engine.running():  # noqa: ASYNC110 - what is waited for is another process's end
            await asyncio.sleep(0.01)
        await take(lease, tokens)

    monkeypatch.setattr(Lease, "take_grown", take_late)
    async with asyncio.timeout(20):
        with pytest.raises(RunnerDied):
            await numbers(engine, raw(LONG))


async def test_a_context_shrinks_to_what_the_scheduler_says(engine: Engine) -> None:
    await numbers(engine, raw(LONG))
    (loaded,) = engine._pool._loaded.values()
    before = loaded.size
    await loaded.change_context(2 * FIRST, 3 * FIRST, engine._pool._planner)
    assert contexts(engine) == {"tinychat": 2 * FIRST}
    assert (loaded.plan.n_cells, before - loaded.size) == (
        3 * FIRST,
        loaded.plan.bytes_per_cell * (TRAINED - 3 * FIRST),
    )


def set_larger(prompt: str, num_predict: int = 8) -> GenerateRequest:
    request = raw(prompt, num_predict)
    request.options["num_ctx"] = TRAINED
    return request


async def test_a_longer_context_that_a_request_sets_reads_no_weights_again(
    engine: Engine, lines: pytest.LogCaptureFixture
) -> None:
    story = engine.generate(ask("Write a long story.", think=False, options={"num_predict": 100}))
    await anext(story)
    process = pids(engine)
    answers = await asyncio.gather(*(numbers(engine, set_larger(f"{n} {LONG}", 40)) for n in range(2)))
    assert all((final.prompt_cut, final.eval_count) == (0, 40) for _, _, final in answers)
    assert (await collect(story))[2].eval_count > 1
    assert contexts(engine) == {"tinychat": TRAINED}
    assert pids(engine) == process
    assert [r.getMessage() for r in lines.records].count("loaded") == 1
    assert ledger(engine) == counted(engine)
    await engine.unload("tinychat")
    for number, (text, scores, _) in enumerate(answers):
        assert (await numbers(engine, set_larger(f"{number} {LONG}", 40)))[:2] == (text, scores)


async def test_without_memory_to_grow_a_longer_context_that_is_set_is_loaded(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, lines: pytest.LogCaptureFixture
) -> None:
    await numbers(engine, raw("Hello"))
    process = pids(engine)

    async def none(self: LoadPlanner, plan: memory.MemoryPlan, num_ctx: int, cells: int) -> Any:
        return FIRST, plan

    with monkeypatch.context() as patched:
        patched.setattr(LoadPlanner, "with_context", none)
        _, _, final = await numbers(engine, set_larger(LONG))
    assert final.prompt_cut == 0
    assert contexts(engine) == {"tinychat": TRAINED}
    assert not pids(engine) & process
    assert "no memory for a longer context" in lines.messages
    assert ledger(engine) == counted(engine)


async def test_a_child_that_dies_while_a_set_context_grows_costs_no_request(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    await numbers(engine, raw("Hello"))
    growing = asyncio.create_task(numbers(engine, set_larger(LONG)))
    await held.begun.wait()
    os.kill(*pids(engine), signal.SIGKILL)
    held.free.set()
    assert (await growing)[2].prompt_cut == 0, "it has not begun there"


async def test_a_chat_model_embeds_what_its_grown_context_holds(engine: Engine) -> None:
    request = EmbedRequest(model="tinychat", texts=["Hello"], options={"num_ctx": TRAINED})
    await numbers(engine, raw("Hello"))
    process = pids(engine)
    await engine.embed(replace(request, options={"num_ctx": FIRST}))
    before = sizes(engine)["tinychat"]
    long = replace(request, texts=[TOO_LONG])
    assert (await engine.embed(long)).prompt_eval_count == TRAINED
    assert pids(engine) == process
    assert sizes(engine)["tinychat"] > before
    assert ledger(engine) == counted(engine)


async def test_an_engine_that_stops_while_a_context_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    async with running(tmp_path / "models") as engine:
        growing = asyncio.create_task(numbers(engine, raw(LONG)))
        await held.begun.wait()
        held.free.set()
    (outcome,) = await asyncio.gather(growing, return_exceptions=True)
    assert isinstance(outcome, tuple | Exception)
