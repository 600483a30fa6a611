"""Vectors from real contexts: the tiny BERT, whose texts are a pass each, and the bundled model, whose need not be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.messages import Embed, Embedded, EmbeddingSizes, Failed, FromRunner
from engine.runner.context import Context
from engine.runner.embed_loop import NOT_FINITE, EmbedLoop
from engine.runner.embed_request import make_job
from modelfile.convert import convert, convert_adapter
from registry.gguf import read_header
from tests.engine.berts import pooled, spoilt, tiny_bert
from tests.engine.runner.harness import TINYCHAT, Runner, chat, load
from tests.modelfile.convert.checkpoints import DATA, files_in

WORDS = "the quick brown fox jumps over a lazy dog while seven wizards count to five and tell a story about paris"
TEXTS = [" ".join((WORDS.split() * 9)[:n]) for n in (1, 2, 40, 3, 5, 150, 8, 13, 1, 21)]


class Embedders:
    """Makes what turns texts into vectors, and frees it at the end."""

    def __init__(self) -> None:
        self._open: list[tuple[EmbedLoop, Context]] = []

    def __call__(self, path: Path = TINYCHAT, adapters: tuple[str, ...] = (), **sizes: Any) -> Desk:
        small = {"n_cells": 256, "n_parallel": 1, "n_batch": 1}
        spec = load(path=str(path), adapters=adapters, embedding=EmbeddingSizes(**sizes), **small)
        context = Context(spec, 9, lambda progress: None)
        desk = Desk(context, spec.embedding)
        self._open.append((desk.embedding, context))
        return desk

    def close(self) -> None:
        for embedding, context in self._open:
            embedding.close()
            context.close()


class Desk:
    """Requests and their answers."""

    def __init__(self, context: Context, sizes: EmbeddingSizes) -> None:
        self.context = context
        self.sizes = sizes
        self.events: list[FromRunner] = []
        self.embedding = EmbedLoop(context, sizes, self.events.extend)
        self._ids = 0

    def submit(self, *texts: str, first: int | None = 0) -> int:
        self._ids += 1
        request = Embed(self._ids, list(texts), self.sizes.longest, True, 0, True, first)
        self.embedding.submit(make_job(self.context.vocabulary, request))
        return self._ids

    def step(self, *, crowded: bool = False) -> None:
        self.embedding.step(crowded=crowded)

    def run(self) -> None:
        while not self.embedding.idle:
            self.step()

    def vectors(self, id: int) -> np.ndarray[Any, Any]:
        (found,) = [event for event in self.events if isinstance(event, Embedded) and event.id == id]
        return np.frombuffer(found.vectors, np.float32)

    def ask(self, *texts: str) -> np.ndarray[Any, Any]:
        id = self.submit(*texts)
        self.run()
        return self.vectors(id).reshape(len(texts), -1)


@pytest.fixture
def desks() -> Iterator[Embedders]:
    embedders = Embedders()
    yield embedders
    embedders.close()


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert") / "bert.gguf")


BERT: dict[str, Any] = {"longest": 128, "batch": 64, "mean": False}
FIRST, LAST = 2, 3  # llama.cpp's numbers for the token that counts
CHAT: dict[str, Any] = {"longest": 1024, "batch": 64, "mean": True}


def test_a_bert_gives_what_its_authors_library_gives(desks: Embedders, bert: Path) -> None:
    expected = json.loads((DATA / "bert/logits.json").read_text())
    desk = desks(bert, **BERT)
    job = make_job(desk.context.vocabulary, Embed(1, ["a"], 128, True, 0, False, None))
    job.texts[0].tokens[:] = job.texts[0].tokens[:0] + type(job.texts[0].tokens)("i", expected["ids"])
    desk.embedding.submit(job)
    desk.run()
    assert desk.vectors(1) == pytest.approx(np.array(expected["values"]), abs=2e-3)


@pytest.mark.parametrize("batch", [1, 33, 64, 512])
@pytest.mark.parametrize("kind", ["bert", "chat"])
def test_a_vector_depends_neither_on_its_neighbours_nor_on_the_passes(
    desks: Embedders, bert: Path, kind: str, batch: int
) -> None:
    path, sizes = (bert, BERT) if kind == "bert" else (TINYCHAT, CHAT)
    texts = [text[: 100 if kind == "bert" else None] for text in TEXTS]
    alone = desks(path, **(sizes | {"batch": 512}))
    single = np.concatenate([alone.ask(text) for text in texts])
    together = desks(path, **(sizes | {"batch": batch})).ask(*texts)
    assert (single * together).sum(axis=1).min() > 0.9999


def test_a_mean_is_the_mean_over_the_last_states_of_all_tokens(desks: Embedders) -> None:
    """A text that is spread over passes has the vector that it has in one, and not that of its end."""
    text = TEXTS[5]
    whole, spread = desks(**(CHAT | {"batch": 1024})).ask(text), desks(**CHAT).ask(text)
    end = desks(**CHAT).ask(text[-80:])
    assert float(whole[0] @ spread[0]) > 0.9999
    assert float(whole[0] @ end[0]) < 0.999


@pytest.mark.parametrize("pooling", [FIRST, LAST])
def test_how_vectors_are_pooled_is_the_files_wish(desks: Embedders, tmp_path: Path, pooling: int) -> None:
    path = pooled(TINYCHAT, tmp_path / "pooled.gguf", pooling)
    sizes: dict[str, Any] = {"longest": 1024, "mean": False}
    start, other = TEXTS[5], TEXTS[5] + " and so on"
    spread = desks(path, **sizes, batch=64).ask(start, other)
    whole = desks(path, **sizes, batch=1024)
    assert float(whole.ask(start)[0] @ spread[0]) > 0.9999
    assert float(whole.ask(other)[0] @ spread[1]) > 0.9999
    alike = float(spread[0] @ spread[1])
    assert alike > 0.9999 if pooling == FIRST else alike < 0.999


def test_adapters_count_for_vectors_too(desks: Embedders, tmp_path: Path) -> None:
    base, adapter = tmp_path / "base.gguf", tmp_path / "adapter.gguf"
    convert(files_in(DATA / "llama-bpe/ckpt"), base, lambda done, total: None)
    metadata = read_header(base).metadata
    convert_adapter(files_in(DATA / "llama-bpe/adapter"), metadata, adapter, lambda done, total: None)
    plain, adapted = desks(base, **CHAT), desks(base, adapters=(str(adapter),), **CHAT)
    assert float(plain.ask("the dog")[0] @ adapted.ask("the dog")[0]) < 0.9999


def test_requests_share_a_pass_and_take_turns(desks: Embedders) -> None:
    desk = desks(**CHAT)
    many = desk.submit(*["one two three four five six seven eight"] * 20)
    long = desk.submit(TEXTS[5])
    short = desk.submit("a")
    while not any(isinstance(event, Embedded) for event in desk.events):
        desk.step()
    assert desk.embedding.steps <= 4
    assert [event.id for event in desk.events if isinstance(event, Embedded)] == [short]
    desk.run()
    assert {event.id for event in desk.events if isinstance(event, Embedded)} == {many, long, short}


def test_several_long_texts_are_spread_one_after_the_other(desks: Embedders) -> None:
    texts = [TEXTS[5] + f" {n}" for n in range(3)]
    desk = desks(**CHAT)
    ids = [desk.submit(text, "a") for text in texts]
    desk.run()
    alone = desks(**CHAT)
    for id, text in zip(ids, texts, strict=True):
        assert float(alone.ask(text)[0] @ desk.vectors(id).reshape(2, -1)[0]) > 0.9999


def test_beside_answers_texts_take_turns_with_them(desks: Embedders) -> None:
    desk = desks(longest=1024, batch=1024)
    assert not desk.embedding.ready(crowded=False)
    desk.submit(*[TEXTS[5]] * 4)
    assert desk.embedding.ready(crowded=True)
    desk.step(crowded=True)
    assert not desk.embedding.ready(crowded=True)
    assert desk.embedding.ready(crowded=False)
    while not desk.embedding.ready(crowded=True):
        pass


def test_who_cancels_is_dropped_in_the_middle_and_leaves_the_others_alone(desks: Embedders) -> None:
    desk = desks(**CHAT)
    gone, stays = desk.submit(TEXTS[5], *TEXTS), desk.submit(TEXTS[5] + " now")
    desk.step()
    desk.embedding.cancel(gone)
    desk.embedding.cancel(99)
    desk.run()
    assert [event.id for event in desk.events if isinstance(event, Embedded)] == [stays]
    assert float(desks(**CHAT).ask(TEXTS[5] + " now")[0] @ desk.vectors(stays)) > 0.9999


@pytest.mark.parametrize("kind", ["bert", "chat"])
def test_an_aborted_pass_is_done_again(desks: Embedders, bert: Path, kind: str) -> None:
    path, sizes = (bert, BERT) if kind == "bert" else (TINYCHAT, CHAT)
    desk = desks(path, **sizes)
    id = desk.submit(TEXTS[2][:200], TEXTS[2])
    desk.step()
    desk.context.abort.set()
    desk.step()
    assert not desk.events
    desk.context.abort.clear()
    desk.run()
    expected = desks(path, **sizes).ask(TEXTS[2][:200], TEXTS[2])
    assert (desk.vectors(id).reshape(2, -1) * expected).sum(axis=1).min() > 0.9999


@pytest.mark.parametrize("kind", ["bert", "chat"])
def test_a_text_without_numbers_spoils_no_other(desks: Embedders, bert: Path, tmp_path: Path, kind: str) -> None:
    path, sizes = (bert, BERT) if kind == "bert" else (TINYCHAT, CHAT)
    sound = desks(path, **sizes)
    (bad,) = sound.context.vocabulary.tokenize("q", add_special=False)
    desk = desks(spoilt(path, tmp_path / "spoilt.gguf", bad), **sizes)
    texts = ["one", "seven wizards", "the dog"]
    if kind == "chat":
        texts.append("the lazy dog " * 40)
    good = desk.submit(*texts)
    mixed = desk.submit("the dog", "q", "one")
    alone = desk.submit("q", first=None)
    desk.run()
    failed = {event.id: event for event in desk.events if isinstance(event, Failed)}
    assert failed == {
        mixed: Failed(mixed, "request", f"{NOT_FINITE}: input[1]"),
        alone: Failed(alone, "request", NOT_FINITE),
    }
    assert (desk.vectors(good).reshape(len(texts), -1) * sound.ask(*texts)).sum(axis=1).min() > 0.9999


def test_a_context_that_cannot_be_made_fails_who_waits_for_it(desks: Embedders) -> None:
    desk = desks(batch=0)
    id = desk.submit("a")
    desk.run()
    (failed,) = desk.events
    assert isinstance(failed, Failed)
    assert (failed.id, failed.kind) == (id, "internal")


def test_answers_and_vectors_come_of_one_model_without_noticing_each_other(runner: Runner, desks: Embedders) -> None:
    desk = Desk(runner.context, EmbeddingSizes(**CHAT))
    expected = desks(**CHAT).ask(*TEXTS)
    seq = runner.submit(chat("What is the capital of France?"))
    id = desk.submit(*TEXTS)
    while not (runner.loop.idle and desk.embedding.idle):
        runner.step()
        if desk.embedding.ready(crowded=not runner.loop.idle):
            desk.step(crowded=not runner.loop.idle)
    desk.embedding.close()
    assert runner.text(seq) == "The capital of France is Paris."
    assert (desk.vectors(id).reshape(len(TEXTS), -1) * expected).sum(axis=1).min() > 0.9999
