"""What files say about vectors, and what that comes to in bytes."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.embed_messages import Embed, Rerank
from engine.loading.devices import Device
from engine.loading.memory import (
    BATCH,
    GPU_BATCH,
    LEAST_BATCH,
    LONGEST_BESIDE,
    PROCESS,
    TEXTS,
    Limits,
    MemoryPlan,
    Request,
    embedding_bytes,
    embedding_sizes,
    normalizes,
    plan,
)
from engine.loading.process import RunnerProcess
from engine.loading.state import LoadOptions
from engine.messages import CONTEXT_PADDING
from registry.gguf import GGUFHeader, read_header
from tests.engine.berts import bert_reranker, chat_reranker, tiny_bert
from tests.engine.runner.harness import TINYCHAT, load

MIB = 1 << 20


def header(architecture: str, **metadata: Any) -> GGUFHeader:
    """Of a file with nothing but these values."""
    return GGUFHeader(3, {"general.architecture": architecture, **metadata}, (), 0)


@pytest.mark.parametrize(
    ("gguf", "expected"),
    [
        (header("bert", **{"tokenizer.ggml.model": "bert"}), True),
        (header("bert", **{"tokenizer.ggml.model": "bert", "bert.normalize_embeddings": False}), False),
        (header("bert", **{"tokenizer.ggml.model": "t5"}), False),
        (header("nomic-bert"), False),
        (header("nomic-bert", **{"nomic-bert.normalize_embeddings": True}), True),
        (header("nomic-bert-moe"), False),
        (header("qwen3"), True),
        (header("gemma3"), True),
    ],
)
def test_whose_vectors_have_length_one_unasked(gguf: GGUFHeader, expected: bool) -> None:
    assert normalizes(gguf) is expected


@pytest.mark.parametrize(("pooling", "mean"), [(None, True), (0, True), (4, True), (1, False), (2, False), (3, False)])
def test_what_does_not_pool_is_pooled_by_the_mean(pooling: int | None, mean: bool) -> None:
    gguf = header("qwen3", **({} if pooling is None else {"qwen3.pooling_type": pooling}))
    assert embedding_sizes(gguf, 4096, generates=False, on_gpu=False).mean is mean


def test_the_longest_text_of_a_model_that_also_generates_has_a_limit() -> None:
    for n_ctx, generates, longest in [(512, True, 512), (32768, True, LONGEST_BESIDE), (32768, False, 32768)]:
        assert embedding_sizes(header("qwen3"), n_ctx, generates=generates, on_gpu=False).longest == longest


def test_a_pass_is_small_where_words_are_many(tmp_path: Path) -> None:
    few = read_header(TINYCHAT)
    many = header("bert", **{"bert.embedding_length": 1 << 20})
    sizes = {"n_ctx": 512, "generates": True}
    assert embedding_sizes(few, on_gpu=False, **sizes).batch == BATCH
    assert embedding_sizes(few, on_gpu=True, **sizes).batch == GPU_BATCH
    assert embedding_sizes(many, on_gpu=False, **sizes).batch == LEAST_BATCH


def planned(path: Path, *, generates: bool, num_ctx: int) -> MemoryPlan:
    host = Device("cpu", "cpu", 1 << 40, 1 << 40)
    request = Request(options=LoadOptions(num_ctx=num_ctx), generates=generates)
    return plan(read_header(path), request, Limits(), host, ())


def resident(process: RunnerProcess) -> int:
    """Bytes of the child's own, and of the model's file, but not of libraries, which all children share."""
    memory = psutil.Process(process.pid).memory_info()
    assert process.loaded is not None
    return int(memory.rss - memory.shared) + process.loaded.mapped


@pytest.mark.parametrize("kind", ["bert", "chat"])
async def test_what_is_planned_is_what_it_takes(tmp_path: Path, kind: str) -> None:
    path = tiny_bert(tmp_path / "bert.gguf") if kind == "bert" else TINYCHAT
    num_ctx = 128 if kind == "bert" else 1024
    memory_plan = planned(path, generates=kind == "chat", num_ctx=num_ctx)
    process = await RunnerProcess.spawn(os.environ)
    n_batch = 512 if kind == "chat" else 1
    sizes = {"n_ctx": num_ctx, "n_cells": memory_plan.n_cells, "n_parallel": memory_plan.n_parallel, "n_batch": n_batch}
    await process.load(load(path=str(path), embedding=memory_plan.embedding, **sizes), math.inf)
    loaded = resident(process)
    await process.embed(Embed(0, ["the dog and the fox " * 400] * 3, num_ctx, True, 0, True, 0))
    resized = resident(process) - loaded
    await process.close()
    assert abs(resized - memory_plan.embedding_bytes) < 8 * MIB
    assert loaded + resized < (memory_plan.total + memory_plan.embedding_bytes) * 1.02


@pytest.mark.parametrize(("kind", "heap"), [("bert", 1 * MIB), ("chat", 8 * MIB)])
async def test_ranking_and_embedding_take_no_more_than_either(tmp_path: Path, kind: str, heap: int) -> None:
    """`heap`: what may stay in the C library's heap as contexts come and go, less than one of them takes."""
    path = tmp_path / "ranks.gguf"
    path = bert_reranker(path) if kind == "bert" else chat_reranker(TINYCHAT, path)
    num_ctx = 128 if kind == "bert" else 256
    memory_plan = planned(path, generates=False, num_ctx=num_ctx)
    process = await RunnerProcess.spawn(os.environ)
    sizes = {"n_ctx": num_ctx, "n_cells": CONTEXT_PADDING, "n_parallel": memory_plan.n_parallel, "n_batch": 1}
    await process.load(load(path=str(path), embedding=memory_plan.embedding, **sizes), math.inf)
    for _ in range(2):
        await process.rerank(Rerank(0, "the dog", [f"{n} and the fox " * 100 for n in range(9)], num_ctx, True))
        await process.embed(Embed(0, ["the dog and the fox " * 100] * 9, num_ctx, True, 0, True, 0))
    taken = resident(process)
    await process.close()
    assert taken < memory_plan.total + heap


def test_what_only_embeds_takes_no_room_for_answers(tmp_path: Path) -> None:
    path = tiny_bert(tmp_path / "bert.gguf")
    memory_plan = planned(path, generates=False, num_ctx=4096)
    assert (memory_plan.n_parallel, memory_plan.n_cells, memory_plan.embedding_bytes) == (1, 4096, 0)
    assert memory_plan.embedding.longest == 4096
    texts = embedding_bytes(read_header(path), memory_plan.embedding, 0)
    assert 0 < memory_plan.total - path.stat().st_size - texts - PROCESS - TEXTS < 2 * MIB
    assert memory_plan.cache == texts
    assert memory_plan.total < planned(path, generates=True, num_ctx=4096).total


@pytest.mark.parametrize("kind", ["bert", "chat"])
def test_longer_texts_take_what_a_load_for_them_takes(tmp_path: Path, kind: str) -> None:
    path = tiny_bert(tmp_path / "bert.gguf") if kind == "bert" else TINYCHAT
    short, long = (planned(path, generates=False, num_ctx=num_ctx) for num_ctx in (1024, 4096))
    assert replace(short.with_cells(4096), num_ctx=4096) == long
    assert replace(long.with_cells(1024), num_ctx=1024) == short
    assert long.total - short.total == 3 * 1024 * (long.cache // long.n_cells) > 0
