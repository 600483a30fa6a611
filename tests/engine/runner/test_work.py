"""Answers and vectors side by side: who gets what, and what the mailbox is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.messages import Embed, Embedded, EmbeddingSizes
from engine.runner.child import Work
from engine.runner.embed_loop import Embedding
from engine.runner.embed_request import make_job
from tests.engine.runner.harness import Runner, chat


@pytest.fixture
def work(runner: Runner) -> Iterator[Work]:
    embedding = Embedding(runner.context, EmbeddingSizes(), runner.events.extend)
    yield Work(runner.loop, embedding)
    embedding.close()


def texts(id: int) -> Embed:
    return Embed(id, ["one", "two"], 512, True, 0, True, 0)


def test_everything_goes_where_it_belongs(runner: Runner, work: Work) -> None:
    assert work.idle
    before = work.steps
    seq = runner.submit(chat("Count to 5"))
    work.submit(make_job(runner.context.vocabulary, texts(1000)))
    assert (work.idle, work.waiting, work.busy) == (False, 1, 1)
    runner.step()
    assert (work.waiting, work.busy, work.interruptible) == (0, 2, frozenset({seq.id}))
    work.embedding.step(crowded=True)
    assert [event.id for event in runner.events if isinstance(event, Embedded)] == [1000]
    assert work.steps == before + 2
    runner.run()
    assert work.idle
    assert work.cached_tokens > 0


def test_a_cancel_finds_its_request_in_either_place(runner: Runner, work: Work) -> None:
    seq = runner.submit(chat("Count to 5"))
    work.submit(make_job(runner.context.vocabulary, texts(1000)))
    work.cancel(1000)
    work.cancel(seq.id)
    assert work.idle
