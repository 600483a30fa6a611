"""Vectors from real contexts: a tiny BERT, whose texts need one pass, and the bundled model, whose texts may split."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from engine.client import NOBODY, Client
from engine.embed_messages import Embed, Embedded, EmbeddingSizes, Rerank, Reranked
from engine.messages import Failed, FromRunner
from engine.runner.context import Context
from engine.runner.embed_loop import EmbedLoop
from engine.runner.embed_request import NOT_FINITE, make_job
from engine.runner.rerank_request import make_rerank_job
from modelfile.convert import convert, convert_adapter
from registry.gguf import read_header
from tests.engine.berts import chat_reranker, pooled, spoilt, tiny_bert
from tests.engine.runner.harness import TINYCHAT, Runner, chat, load, load_context
from tests.modelfile.convert.checkpoints import DATA, files_in
from tests.processes import short_of_memory

WORDS = "the quick brown fox jumps over a lazy dog while seven wizards count to five and tell a story about paris"
TEXTS = [" ".join((WORDS.split() * 9)[:n]) for n in (1, 2, 40, 3, 5, 150, 8, 13, 1, 21)]


class EmbedRunners:
    """Makes EmbedRunners and frees them at the end."""

    def __init__(self) -> None:
        self._open: list[tuple[EmbedLoop, Context]] = []

    def __call__(self, path: Path = TINYCHAT, adapters: tuple[str, ...] = (), **sizes: Any) -> EmbedRunner:
        small = {"n_cells": 256, "n_parallel": 1, "n_batch": 1}
        spec = load(path=str(path), adapters=adapters, embedding=EmbeddingSizes(**sizes), **small)
        context = load_context(spec)
        embed_runner = EmbedRunner(context, spec.embedding)
        self._open.append((embed_runner.loop, context))
        return embed_runner

    def close(self) -> None:
        for loop, context in self._open:
            loop.close()
            context.close()


class EmbedRunner:
    """An embedding loop without its process: submits requests and collects their answers."""

    def __init__(self, context: Context, sizes: EmbeddingSizes) -> None:
        self.context = context
        self.sizes = sizes
        self.events: list[FromRunner] = []
        self.loop = EmbedLoop(context, sizes, self.events.extend)
        self._ids = 0

    def submit(self, *texts: str, first: int | None = 0, client: Client = NOBODY) -> int:
        self._ids += 1
        request = Embed(self._ids, list(texts), self.sizes.longest, True, 0, True, first, client=client)
        self.loop.submit(make_job(self.context.vocabulary, request))
        return self._ids

    def step(self, *, crowded: bool = False) -> None:
        self.loop.step(crowded=crowded)

    def run(self) -> None:
        while not self.loop.idle:
            self.step()

    def vectors(self, request_id: int) -> np.ndarray[Any, Any]:
        (embedded,) = [e for e in self.events if isinstance(e, Embedded) and e.id == request_id]
        return np.frombuffer(embedded.vectors, np.float32)

    def resize(self, longest: int) -> bool:
        if done := self.loop.resize(longest):
            self.sizes = msgspec.structs.replace(self.sizes, longest=longest)
        return done

    def ask(self, *texts: str) -> np.ndarray[Any, Any]:
        request_id = self.submit(*texts)
        self.run()
        return self.vectors(request_id).reshape(len(texts), -1)


@pytest.fixture
def embed_runners() -> Iterator[EmbedRunners]:
    runners = EmbedRunners()
    yield runners
    runners.close()


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert") / "bert.gguf")


BERT: dict[str, Any] = {"longest": 128, "batch": 64, "mean": False}
FIRST, LAST = 2, 3  # llama.cpp's numbers for the token that counts
CHAT: dict[str, Any] = {"longest": 1024, "batch": 64, "mean": True}


def test_a_bert_gives_what_its_authors_library_gives(embed_runners: EmbedRunners, bert: Path) -> None:
    expected = json.loads((DATA / "bert/logits.json").read_text())
    embed_runner = embed_runners(bert, **BERT)
    job = make_job(embed_runner.context.vocabulary, Embed(1, ["a"], 128, True, 0, False, None))
    job.texts[0].tokens[:] = job.texts[0].tokens[:0] + type(job.texts[0].tokens)("i", expected["ids"])
    embed_runner.loop.submit(job)
    embed_runner.run()
    assert embed_runner.vectors(1) == pytest.approx(np.array(expected["values"]), abs=2e-3)


@pytest.mark.parametrize("batch", [1, 33, 64, 512])
@pytest.mark.parametrize("kind", ["bert", "chat"])
def test_a_vector_depends_neither_on_its_neighbours_nor_on_the_passes(
    embed_runners: EmbedRunners, bert: Path, kind: str, batch: int
) -> None:
    path, sizes = (bert, BERT) if kind == "bert" else (TINYCHAT, CHAT)
    texts = [text[: 100 if kind == "bert" else None] for text in TEXTS]
    alone = embed_runners(path, **(sizes | {"batch": 512}))
    single = np.concatenate([alone.ask(text) for text in texts])
    together = embed_runners(path, **(sizes | {"batch": batch})).ask(*texts)
    assert (single * together).sum(axis=1).min() > 0.9999


def test_a_mean_is_the_mean_over_the_last_states_of_all_tokens(embed_runners: EmbedRunners) -> None:
    """A text that is spread over passes has the vector that it has in one, and not that of its end."""
    text = TEXTS[5]
    whole, spread = embed_runners(**(CHAT | {"batch": 1024})).ask(text), embed_runners(**CHAT).ask(text)
    end = embed_runners(**CHAT).ask(text[-80:])
    assert float(whole[0] @ spread[0]) > 0.9999
    assert float(whole[0] @ end[0]) < 0.999


@pytest.mark.parametrize("pooling", [FIRST, LAST])
def test_how_vectors_are_pooled_is_the_files_wish(embed_runners: EmbedRunners, tmp_path: Path, pooling: int) -> None:
    path = pooled(TINYCHAT, tmp_path / "pooled.gguf", pooling)
    sizes: dict[str, Any] = {"longest": 1024, "mean": False}
    start, other = TEXTS[5], TEXTS[5] + " and so on"
    spread = embed_runners(path, **sizes, batch=64).ask(start, other)
    whole = embed_runners(path, **sizes, batch=1024)
    assert float(whole.ask(start)[0] @ spread[0]) > 0.9999
    assert float(whole.ask(other)[0] @ spread[1]) > 0.9999
    alike = float(spread[0] @ spread[1])
    assert alike > 0.9999 if pooling == FIRST else alike < 0.999


def test_adapters_count_for_vectors_too(embed_runners: EmbedRunners, tmp_path: Path) -> None:
    base, adapter = tmp_path / "base.gguf", tmp_path / "adapter.gguf"
    convert(files_in(DATA / "llama-bpe/ckpt"), base, lambda done, total: None)
    metadata = read_header(base).metadata
    convert_adapter(files_in(DATA / "llama-bpe/adapter"), metadata, adapter, lambda done, total: None)
    plain, adapted = embed_runners(base, **CHAT), embed_runners(base, adapters=(str(adapter),), **CHAT)
    assert float(plain.ask("the dog")[0] @ adapted.ask("the dog")[0]) < 0.9999


def test_requests_share_a_pass_and_take_turns(embed_runners: EmbedRunners) -> None:
    embed_runner = embed_runners(**CHAT)
    many = embed_runner.submit(*["one two three four five six seven eight"] * 20)
    long = embed_runner.submit(TEXTS[5])
    short = embed_runner.submit("a")
    while not any(isinstance(event, Embedded) for event in embed_runner.events):
        embed_runner.step()
    assert embed_runner.loop.steps <= 4
    assert [event.id for event in embed_runner.events if isinstance(event, Embedded)] == [short]
    embed_runner.run()
    assert {event.id for event in embed_runner.events if isinstance(event, Embedded)} == {many, long, short}


def test_several_long_texts_are_spread_one_after_the_other(embed_runners: EmbedRunners) -> None:
    texts = [TEXTS[5] + f" {n}" for n in range(3)]
    embed_runner = embed_runners(**CHAT)
    ids = [embed_runner.submit(text, "a") for text in texts]
    embed_runner.run()
    alone = embed_runners(**CHAT)
    for id, text in zip(ids, texts, strict=True):
        assert float(alone.ask(text)[0] @ embed_runner.vectors(id).reshape(2, -1)[0]) > 0.9999


def test_beside_answers_texts_take_turns_with_them(embed_runners: EmbedRunners) -> None:
    embed_runner = embed_runners(longest=1024, batch=1024)
    assert not embed_runner.loop.ready(crowded=False)
    embed_runner.submit(*[TEXTS[5]] * 4)
    assert embed_runner.loop.ready(crowded=True)
    embed_runner.step(crowded=True)
    assert not embed_runner.loop.ready(crowded=True)
    assert embed_runner.loop.ready(crowded=False)
    while not embed_runner.loop.ready(crowded=True):
        pass


def test_who_cancels_is_dropped_in_the_middle_and_leaves_the_others_alone(embed_runners: EmbedRunners) -> None:
    embed_runner = embed_runners(**CHAT)
    gone, stays = embed_runner.submit(TEXTS[5], *TEXTS), embed_runner.submit(TEXTS[5] + " now")
    embed_runner.step()
    embed_runner.loop.cancel(gone)
    embed_runner.loop.cancel(99)
    embed_runner.run()
    assert [event.id for event in embed_runner.events if isinstance(event, Embedded)] == [stays]
    assert float(embed_runners(**CHAT).ask(TEXTS[5] + " now")[0] @ embed_runner.vectors(stays)) > 0.9999


@pytest.mark.parametrize("kind", ["bert", "chat"])
def test_an_aborted_pass_is_done_again(embed_runners: EmbedRunners, bert: Path, kind: str) -> None:
    path, sizes = (bert, BERT) if kind == "bert" else (TINYCHAT, CHAT)
    embed_runner = embed_runners(path, **sizes)
    id = embed_runner.submit(TEXTS[2][:200], TEXTS[2])
    embed_runner.step()
    embed_runner.context.abort.set()
    embed_runner.step()
    assert not embed_runner.events
    embed_runner.context.abort.clear()
    embed_runner.run()
    expected = embed_runners(path, **sizes).ask(TEXTS[2][:200], TEXTS[2])
    assert (embed_runner.vectors(id).reshape(2, -1) * expected).sum(axis=1).min() > 0.9999


@pytest.mark.parametrize("kind", ["bert", "chat"])
def test_a_text_without_numbers_spoils_no_other(
    embed_runners: EmbedRunners, bert: Path, tmp_path: Path, kind: str
) -> None:
    path, sizes = (bert, BERT) if kind == "bert" else (TINYCHAT, CHAT)
    sound = embed_runners(path, **sizes)
    (bad,) = sound.context.vocabulary.tokenize("q", add_special=False)
    embed_runner = embed_runners(spoilt(path, tmp_path / "spoilt.gguf", bad), **sizes)
    texts = ["one", "seven wizards", "the dog"]
    if kind == "chat":
        texts.append("the lazy dog " * 40)
    good = embed_runner.submit(*texts)
    mixed = embed_runner.submit("the dog", "q", "one")
    alone = embed_runner.submit("q", first=None)
    embed_runner.run()
    failed = {event.id: event for event in embed_runner.events if isinstance(event, Failed)}
    assert failed == {
        mixed: Failed(mixed, "request", f"{NOT_FINITE}: input[1]"),
        alone: Failed(alone, "request", NOT_FINITE),
    }
    assert (embed_runner.vectors(good).reshape(len(texts), -1) * sound.ask(*texts)).sum(axis=1).min() > 0.9999


def test_a_context_that_cannot_be_made_fails_who_waits_for_it(embed_runners: EmbedRunners) -> None:
    embed_runner = embed_runners(batch=0)
    id = embed_runner.submit("a")
    embed_runner.run()
    (failed,) = embed_runner.events
    assert isinstance(failed, Failed)
    assert (failed.id, failed.kind) == (id, "internal")


def test_answers_and_vectors_come_of_one_model_without_noticing_each_other(
    runner: Runner, embed_runners: EmbedRunners
) -> None:
    embed_runner = EmbedRunner(runner.context, EmbeddingSizes(**CHAT))
    expected = embed_runners(**CHAT).ask(*TEXTS)
    seq = runner.submit(chat("What is the capital of France?"))
    id = embed_runner.submit(*TEXTS)
    while not (runner.loop.idle and embed_runner.loop.idle):
        runner.step()
        if embed_runner.loop.ready(crowded=not runner.loop.idle):
            embed_runner.step(crowded=not runner.loop.idle)
    embed_runner.loop.close()
    assert runner.text(seq) == "The capital of France is Paris."
    assert (embed_runner.vectors(id).reshape(len(TEXTS), -1) * expected).sum(axis=1).min() > 0.9999


def test_the_oldest_request_says_how_the_context_pools(embed_runners: EmbedRunners, tmp_path: Path) -> None:
    """Whoever ranks waits for those who embed, half-done texts included, and the other way round."""
    path = chat_reranker(TINYCHAT, tmp_path / "ranks.gguf")
    embed_runner = embed_runners(path, **CHAT)

    def rank(request_id: int) -> int:
        documents = [TEXTS[5], "a", TEXTS[5] + " now"]
        request = Rerank(request_id, "who", documents, 1024, True)
        embed_runner.loop.submit(make_rerank_job(embed_runner.context.vocabulary, request))
        return request_id

    first, ranked, last = embed_runner.submit("a"), rank(100), embed_runner.submit(*TEXTS)
    embed_runner.loop.submit(make_job(embed_runner.context.vocabulary, Embed(200, TEXTS, 1024, True, 0, True, 0)))
    rank(201)
    while not embed_runner.loop.idle:
        embed_runner.step()
    ended = [event.id for event in embed_runner.events if isinstance(event, Embedded | Reranked)]
    assert sorted(ended) == [first, last, ranked, 200, 201]
    scores = {event.id: event.scores for event in embed_runner.events if isinstance(event, Reranked)}
    one, other = (np.frombuffer(scores[request_id], np.float32) for request_id in (ranked, 201))
    assert one == pytest.approx(other, abs=1e-3)
    expected = embed_runners(path, **CHAT).ask(*TEXTS)
    for request_id in (last, 200):
        assert (embed_runner.vectors(request_id).reshape(len(TEXTS), -1) * expected).sum(axis=1).min() > 0.9999


@pytest.mark.parametrize("kind", ["bert", "chat"])
def test_longer_texts_have_the_vectors_of_a_larger_context(
    embed_runners: EmbedRunners, tmp_path: Path, kind: str
) -> None:
    path = tiny_bert(tmp_path / "bert.gguf") if kind == "bert" else TINYCHAT
    large, small = (embed_runners(path, longest=longest, batch=64) for longest in (128, 32))
    text = TEXTS[5][:400]
    expected, short = large.ask(text), small.ask(TEXTS[1])
    assert not np.array_equal(small.ask(text), expected), "it was cut"
    first, second = small.submit(text), small.submit(*TEXTS[:3])
    small.step()
    assert small.resize(128)
    small.run()
    assert not np.array_equal(small.vectors(first), expected[0]), "it was cut before"
    assert len(small.vectors(second)) == 3 * expected.size
    assert np.array_equal(small.ask(text), expected)
    assert small.resize(32)
    assert np.array_equal(small.ask(TEXTS[1]), short)


def test_what_is_half_done_begins_again_in_the_new_context(embed_runners: EmbedRunners) -> None:
    expected = embed_runners(longest=1024, batch=64).ask(TEXTS[5])
    runner = embed_runners(longest=512, batch=64)
    waiting = runner.submit(TEXTS[5])
    runner.step()
    assert runner.loop.busy
    assert runner.resize(1024)
    runner.run()
    assert np.array_equal(runner.vectors(waiting), expected[0])


def test_without_memory_for_longer_texts_all_is_as_before(embed_runners: EmbedRunners) -> None:
    runner = embed_runners(longest=512, batch=64)
    expected = runner.ask(TEXTS[5])
    with short_of_memory(os.getpid(), 256 << 20):
        assert not runner.resize(1 << 20)
    assert np.array_equal(runner.ask(TEXTS[5]), expected)


def test_a_clients_text_does_not_wait_for_all_of_anothers(embed_runners: EmbedRunners, bert: Path) -> None:
    runner = embed_runners(bert, **BERT)
    for _ in range(20):
        runner.submit(*TEXTS, client=("a", ""))
    runner.step()
    other = runner.submit(TEXTS[0], client=("b", ""))
    runner.step()
    assert any(isinstance(event, Embedded) and event.id == other for event in runner.events)
    runner.run()
    assert len(runner.events) == 21
