"""Scores through the façade, beside those of llama.cpp by itself: a tiny BERT, and a Qwen3 with yes and no."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from engine.api import ChatRequest, EmbedRequest, Message, Ranked, RerankRequest
from engine.embeddings import SLICE
from engine.engine import Engine
from engine.errors import CapabilityMissing, ContextExceeded, InvalidRequest, ModelNotFound
from tests.engine.berts import RERANK_TEMPLATE, bert_reranker, chat_reranker, spoilt
from tests.engine.runner.harness import TINYCHAT
from tests.engine.running import collect, running
from tests.engine.test_engine import store_model
from tests.modelfile.convert import llamacpp

QUERY = "who tells a story about paris"
DOCUMENTS = ["the dog", "seven wizards tell a story about the quick brown fox", "", "日本 naïve 🦙", "paris", "the dog"]
LONG = "count to five and tell a story about the quick brown fox " * 80

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("rerankers")
    return {
        "bert": bert_reranker(folder / "bert.gguf"),
        "roberta": bert_reranker(folder / "roberta.gguf", pooling=None, labels=1, ends=True),
        "qwen": chat_reranker(TINYCHAT, folder / "qwen.gguf"),
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory, files: dict[str, Path]) -> AsyncIterator[Engine]:
    async with running(tmp_path_factory.mktemp("shared") / "models") as engine:
        for name, path in files.items():
            store_model(engine.store, name, path.read_bytes())
        yield engine


async def rerank(engine: Engine, *documents: str, model: str = "bert", query: str = QUERY, **fields: Any) -> Ranked:
    return await engine.rerank(RerankRequest(model=model, query=query, documents=list(documents), **fields))


def joined(model: str, path: Path, document: str) -> list[int]:
    """The tokens as llama.cpp's server joins them."""
    if model == "qwen":
        text = RERANK_TEMPLATE.replace("{query}", QUERY).replace("{document}", document)
        return llamacpp.tokenize(path, text, special=False)
    query, tokens = (llamacpp.tokenize(path, text, special=False, parse=False) for text in (QUERY, document))
    start, end = llamacpp.tokenize(path, "")[:2]
    return [start, *query, end, *tokens] if model == "bert" else [start, *query, end, end, *tokens, end]


@pytest.mark.parametrize("model", ["bert", "roberta", "qwen"])
async def test_scores_are_those_of_llama_cpp(engine: Engine, files: dict[str, Path], model: str) -> None:
    pairs = [joined(model, files[model], document) for document in DOCUMENTS]
    cache = llamacpp.BF16 if model == "qwen" else llamacpp.F16
    expected = [float(llamacpp.embedding(files[model], pair, llamacpp.RANK, cache)[0]) for pair in pairs]
    alone = [(await rerank(engine, document, model=model)).scores[0] for document in DOCUMENTS]
    assert alone == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 0.1
    together = await rerank(engine, *DOCUMENTS, model=model)
    assert relevance(together) == pytest.approx(relevance(replace(together, scores=expected)), abs=1e-4)
    assert together.probabilities is (model == "qwen")
    assert together.scores[0] == together.scores[-1]
    assert together.prompt_eval_count == sum(map(len, pairs))
    assert together.load_duration > 0


def relevance(ranked: Ranked) -> list[float]:
    """Scores from 0 to 1. In a pass with others logits differ in the third digit, as attention adds in float16."""
    return [score if ranked.probabilities else 1 / (1 + math.exp(-score)) for score in ranked.scores]


async def test_more_documents_than_go_into_one_message(engine: Engine) -> None:
    documents = [f"the dog number {number}" for number in range(SLICE + 9)]
    ranked = await rerank(engine, *documents, LONG)
    assert len(ranked.scores) == SLICE + 10
    assert ranked.cut == {SLICE + 9}
    (last,) = (await rerank(engine, documents[-1])).scores
    assert ranked.scores[-2] == pytest.approx(last, abs=1e-3)
    with pytest.raises(ContextExceeded, match=rf": documents\[{SLICE + 9}\]$"):
        await rerank(engine, *documents, LONG, truncate=False)


@pytest.mark.parametrize("model", ["bert", "qwen"])
async def test_long_documents_are_cut(engine: Engine, model: str) -> None:
    options = {"num_ctx": 100}
    ranked = await rerank(engine, LONG, "the dog", model=model, options=options)
    assert ranked.cut == {0}
    assert (await rerank(engine, LONG, model=model, options=options)).prompt_eval_count in range(90, 101)
    beginning = await rerank(engine, LONG, model=model, document_limit=9)
    assert beginning.cut == {0}
    assert beginning.prompt_eval_count < 100
    with pytest.raises(ContextExceeded, match=r"^the query leaves no room for a document in the context$"):
        await rerank(engine, "a", query=LONG * 3, model=model)


async def test_a_long_document_of_a_causal_model_spreads_over_passes(engine: Engine, files: dict[str, Path]) -> None:
    document = LONG[:2000]
    (score,) = (await rerank(engine, document, model="qwen")).scores
    pair = joined("qwen", files["qwen"], document)
    assert len(pair) > 512
    (whole,) = (await rerank(engine, document, model="qwen", options={"num_ctx": 1024})).scores
    assert score == pytest.approx(whole, abs=1e-4)


async def test_a_reranker_embeds_beside(engine: Engine) -> None:
    """Each kind of request gets its own, however they come."""
    request = EmbedRequest(model="bert", texts=DOCUMENTS[:2])
    scores, vectors = await rerank(engine, *DOCUMENTS), await engine.embed(request)
    for _ in range(3):
        both = await asyncio.gather(
            rerank(engine, *DOCUMENTS), engine.embed(request), rerank(engine, *DOCUMENTS[:3]), engine.embed(request)
        )
        assert both[0].scores == pytest.approx(scores.scores, abs=1e-3)
        assert both[2].scores == pytest.approx(scores.scores[:3], abs=1e-3)
        for embeddings in (both[1], both[3]):
            assert list(embeddings.vectors[1]) == pytest.approx(list(vectors.vectors[1]), abs=1e-3)


async def test_a_score_that_is_no_number_is_named(engine: Engine, tmp_path: Path, files: dict[str, Path]) -> None:
    (token,) = llamacpp.tokenize(files["bert"], "q", special=False)
    store_model(engine.store, "spoilt", spoilt(files["bert"], tmp_path / "spoilt.gguf", token).read_bytes())
    with pytest.raises(InvalidRequest, match=r"^the score is not a number: documents\[2\]$"):
        await rerank(engine, "the dog", "the fox", "q", model="spoilt")


async def test_refusals(engine: Engine) -> None:
    with pytest.raises(CapabilityMissing, match=r'^"tinychat" does not support rerank$'):
        await rerank(engine, "a", model="tinychat")
    with pytest.raises(CapabilityMissing, match=r'^"bert" does not support chat$'):
        await collect(engine.chat(ChatRequest(model="bert", messages=[Message("user", "Hi")])))
    with pytest.raises(ModelNotFound):
        await rerank(engine, "a", model="zz")
