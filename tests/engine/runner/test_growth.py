"""A KV cache that changes its size while answers run: who waits, who goes on, and with which numbers."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from engine.messages import Grammar, NeedsRoom, Sampling, ScoredChunk
from engine.runner.preprocess import PromptRejected, make_sequence
from engine.runner.sequence import Sequence
from engine.runner.shape import Budget, Shape
from engine.runner.vocabulary import Vocabulary
from tests.engine.runner.harness import LIKELIEST, Runner, chat, submit
from tests.engine.runner.test_loop import LONG, end_tokens
from tests.processes import short_of_memory

SMALL = Budget(cells=512, streams=2, longest=256)
LARGE = Budget(cells=2048, streams=2, longest=1024)
GIGABYTES = Budget(cells=1 << 20, streams=2, longest=1 << 19)
STORY = chat("Tell me a story.")


@pytest.fixture(scope="module")
def shared() -> Iterator[Runner]:
    runner = Runner(n_ctx=SMALL.longest, n_cells=SMALL.cells, n_parallel=SMALL.streams)
    runner._n_ctx = LARGE.longest  # the parent sends no request that is longer than its context
    yield runner
    runner.close()


@pytest.fixture
def small(shared: Runner) -> Runner:
    """A runner whose context is small again."""
    shared.run()
    assert shared.loop.admission.resize(SMALL)
    shared.forget()
    shared.events.clear()
    return shared


@pytest.fixture(scope="module")
def large() -> Iterator[Runner]:
    runner = Runner(n_ctx=LARGE.longest, n_cells=LARGE.cells, n_parallel=LARGE.streams)
    yield runner
    runner.close()


def never_ending(runner: Runner, seed: int = 1) -> Sampling:
    return Sampling(temperature=0.9, seed=seed, logit_bias=end_tokens(runner))


def growing(runner: Runner, prompt: str = STORY, tokens: int = 400, seed: int = 1, **wishes: object) -> Sequence:
    wishes = {"sampling": never_ending(runner, seed), "logprobs": True, **wishes}
    return runner.submit(prompt, num_ctx=256, num_predict=tokens, grows=True, **wishes)


def asked(runner: Runner) -> list[int]:
    return [event.id for event in runner.events if isinstance(event, NeedsRoom)]


def scores(runner: Runner, seq: Sequence) -> list[float]:
    chunks = [event for event in runner.events if isinstance(event, ScoredChunk) and event.id == seq.id]
    return [score.logprob for chunk in chunks for score in chunk.scores]


@pytest.mark.parametrize(
    "wishes",
    [
        {},
        {"repeat_last_n": -1, "repeat_penalty": 1.4},
        {"repeat_last_n": 2000, "frequency_penalty": 0.5},
        {"dry_multiplier": 2.0, "dry_allowed_length": 1, "repeat_penalty": 1.0},
    ],
)
def test_an_answer_goes_on_as_if_the_context_had_been_large(
    small: Runner, large: Runner, wishes: dict[str, Any]
) -> None:
    sampling = msgspec.structs.replace(never_ending(small), **wishes)
    seq = growing(small, sampling=sampling, tokens=600)
    small.run()
    assert asked(small) == [seq.id], "once"
    assert (seq.full, seq.waits, len(seq.tokens)) == (True, True, 256)
    assert small.loop.admission.resize(LARGE)
    small.loop.extend(seq.id, 1024)
    assert seq.cells is not None
    assert seq.cells.cached == 255, "nothing is computed again"
    small.run()
    assert (small.done(seq).tokens, small.done(seq).reason) == (600, "length")
    large.forget()
    expected = large.submit(STORY, num_ctx=1024, num_predict=600, sampling=sampling, logprobs=True)
    large.run()
    assert large.text(expected) == small.text(seq)
    assert scores(large, expected) == scores(small, seq)


@pytest.mark.parametrize(("num_predict", "most"), [(-1, 10_240), (5_000, 5_000), (99_999, 10_240), (700, 700)])
def test_most_tokens_of_an_answer_grow_with_its_context(small: Runner, num_predict: int, most: int) -> None:
    seq = growing(small, tokens=num_predict)
    seq.extend(1024)
    assert seq.max_new == most
    small.loop.cancel(seq.id)


@pytest.mark.parametrize("shift", [True, False])
def test_an_answer_under_a_grammar_may_fill_the_context_that_it_gets(small: Runner, shift: bool) -> None:
    rule = Grammar('start: "[" (/[a-z]/ ",")* /[a-z]/ "]"')
    seq = growing(small, chat("List letters."), -1, shift=shift, grammar=rule, logprobs=False)
    small.run(until=lambda: seq.asking)
    assert small.loop.admission.resize(LARGE)
    small.loop.extend(seq.id, 512)
    seq.grows = False
    small.run()
    assert 400 < seq.n_generated <= 512
    assert small.text(seq).endswith("]")


def test_who_does_not_wait_goes_on_meanwhile(small: Runner) -> None:
    seq = growing(small)
    small.run()
    assert small.loop.idle
    assert small.ask(chat("What is the capital of France?"), num_ctx=256) == "The capital of France is Paris."
    assert seq.waits
    small.loop.cancel(seq.id)
    assert small.streams.busy == 0
    small.loop.extend(seq.id, 1024)


def test_it_asks_early_and_need_not_stop(small: Runner) -> None:
    seq = growing(small, tokens=700)
    small.run(until=lambda: seq.asking)
    assert len(seq.tokens) < 256 - 32
    assert small.loop.admission.resize(LARGE)
    small.loop.extend(seq.id, 512)
    small.run()
    assert asked(small) == [seq.id] * 2, "once for each context that it fills"
    small.loop.extend(seq.id, 1024)
    small.run()
    assert small.done(seq).tokens == 700


def test_who_ends_before_its_context_does_asks_for_nothing(small: Runner) -> None:
    seq = growing(small, tokens=200)
    small.run()
    assert (asked(small), small.done(seq).tokens) == ([], 200)


@pytest.mark.parametrize("shift", [True, False])
def test_where_nothing_can_be_had_it_goes_on_as_others_do(small: Runner, shift: bool) -> None:
    seq = growing(small, shift=shift)
    small.run()
    small.loop.extend(seq.id, 256)
    small.run()
    assert asked(small) == [seq.id]
    assert small.done(seq).reason == "length"
    assert small.done(seq).tokens == (400 if shift else 256 - seq.n_prompt)


def test_a_grammar_leads_to_the_end_of_the_context_that_there_is(small: Runner) -> None:
    rule = Grammar('start: "[" (/[a-z]/ ",")* /[a-z]/ "]"')
    seq = growing(small, chat("List letters."), 400, shift=False, grammar=rule, logprobs=False)
    small.run(until=lambda: seq.asking)
    assert small.loop.admission.resize(LARGE)
    small.loop.extend(seq.id, 512)
    small.run()
    assert len(seq.tokens) > 320
    small.loop.extend(seq.id, 512)
    small.run()
    assert small.text(seq).endswith("]")


def test_without_memory_all_is_as_before(small: Runner) -> None:
    seq, beside = growing(small), growing(small, tokens=40, seed=2)
    small.run(until=lambda: seq.asking)
    shape = small.streams.shape
    with short_of_memory(os.getpid(), 256 << 20):
        assert not small.loop.admission.resize(GIGABYTES)
    assert small.streams.shape == shape
    small.loop.extend(seq.id, 256)
    small.run()
    assert not small.failures()
    assert (small.done(seq).tokens, small.done(beside).tokens) == (400, 40)


def test_what_is_cached_survives_growth_and_shrinkage(small: Runner) -> None:
    for budget in (LARGE, SMALL):
        first = small.submit(STORY, num_ctx=256, sampling=LIKELIEST)
        small.run()
        assert small.loop.admission.resize(budget)
        again = small.submit(STORY, num_ctx=256, sampling=LIKELIEST)
        small.run()
        assert again.n_reused == again.n_prompt - 1
        assert small.text(again) == small.text(first)


def test_who_has_no_room_any_more_is_suspended_and_comes_back(small: Runner) -> None:
    assert small.loop.admission.resize(LARGE)
    seqs = [small.submit(f"{i} {LONG[:900]}", num_ctx=256, num_predict=60, sampling=never_ending(small)) for i in "ab"]
    small.run(until=lambda: all(seq.n_generated > 10 for seq in seqs))
    assert small.loop.admission.resize(Budget(cells=256, streams=2, longest=256))
    assert small.streams.shape.total == 256
    assert (small.loop.busy, small.loop.waiting) == (1, 1)
    small.run()
    assert not small.failures()
    assert [small.done(seq).tokens for seq in seqs] == [60, 60]


def test_who_waits_for_room_can_be_suspended(small: Runner) -> None:
    seq = growing(small)
    small.run()
    small.loop.admission.suspend(seq)
    small.loop.extend(seq.id, 256)
    small.run()
    assert small.done(seq).tokens == 400
    assert not small.failures()


def test_the_new_size_is_taken_at_once(small: Runner) -> None:
    assert small.streams.shape.total <= SMALL.cells
    assert small.loop.admission.resize(LARGE)
    assert small.streams.shape == Shape(2, 1024)
    small.submit(STORY, num_ctx=256)
    small.step()
    assert small.loop.admission.resize(SMALL)
    assert small.streams.shape == Shape(2, 256)
    small.run()


def test_a_prompt_without_room_behind_it_is_refused(vocabulary: Vocabulary) -> None:
    tokens = array("i", range(200))
    make_sequence(vocabulary, submit("", num_ctx=300, room=100), tokens, 1024).sampler.close()
    for overflow in ("cut", "reject"):
        with pytest.raises(PromptRejected) as refused:
            make_sequence(vocabulary, submit("", num_ctx=300, room=101, overflow=overflow), tokens, 1024)
        assert refused.value.tokens == 200
    with pytest.raises(PromptRejected):
        make_sequence(vocabulary, submit("", num_ctx=300, room=100), tokens, 256)
