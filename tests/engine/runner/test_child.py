"""A child's two loops side by side: who gets what, and the counters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.embed_messages import Embed, Embedded, EmbeddingSizes
from engine.runner.child import Loops
from engine.runner.embed_loop import EmbedLoop
from engine.runner.embed_request import make_job
from tests.engine.runner.harness import Runner, chat


@pytest.fixture
def loops(runner: Runner) -> Iterator[Loops]:
    embed_loop = EmbedLoop(runner.context, EmbeddingSizes(), runner.events.extend)
    yield Loops(runner.loop, embed_loop)
    embed_loop.close()


def texts(request_id: int) -> Embed:
    return Embed(request_id, ["one", "two"], 512, True, 0, True, 0)


def test_everything_goes_where_it_belongs(runner: Runner, loops: Loops) -> None:
    assert loops.idle
    loops.loop.count()
    before = loops.stats()  # other tests have used this runner
    seq = runner.submit(chat("Count to 5"))
    job = make_job(runner.context.vocabulary, texts(1000))
    loops.submit(job)
    stats = loops.stats()
    assert (loops.idle, stats.waiting, stats.running) == (False, 1, 1)
    runner.step()
    stats = loops.stats()
    assert (stats.waiting, stats.running, loops.interruptible) == (0, 2, frozenset({seq.id}))
    loops.embed_loop.step(crowded=True)
    assert [event.id for event in runner.events if isinstance(event, Embedded)] == [1000]
    assert loops.steps == before.steps + 2
    runner.run()
    assert loops.idle
    loops.loop.count()
    stats = loops.stats()
    assert (stats.running, stats.batch) == (0, 1)
    computed = stats.prompt_tokens - before.prompt_tokens
    assert computed == seq.n_prompt + sum(len(text.tokens) for text in job.texts)
    assert stats.generated_tokens - before.generated_tokens == seq.n_generated
    assert 0 < stats.cached_tokens == stats.cells_used < stats.cells


def test_a_cancel_finds_its_request_in_either_place(runner: Runner, loops: Loops) -> None:
    seq = runner.submit(chat("Count to 5"))
    loops.submit(make_job(runner.context.vocabulary, texts(1000)))
    loops.cancel(1000)
    loops.cancel(seq.id)
    assert loops.idle
