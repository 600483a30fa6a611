"""Drafted tokens change nothing in an answer: all of these have some in each pass, most of them wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import msgspec
import pytest

from engine.messages import Chunk, Grammar, Sampling, ScoredChunk, ThinkingLimit
from engine.runner.llamacpp import C
from engine.runner.lookup import Lookup
from engine.runner.penalties import Logits
from engine.runner.sampling import BatchSampler, TokenSampler
from engine.runner.shape import Shape
from tests.engine.runner.harness import LIKELIEST, PLAIN, Runner, chat
from tests.engine.runner.recurrent import mamba
from tests.engine.runner.test_loop import end_tokens
from tests.engine.runner.windowed import windowed

STORY = chat("Tell me a story about a fox.")
COUNT = chat("Count to 20")
JSON = Grammar(r'start: /\{"name": "[a-z ]{1,12}", "age": [0-9]{1,3}\}/')


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Runner, Runner]]:
    runners = Runner(lookup="always"), Runner(lookup="off")
    yield runners
    for runner in runners:
        runner.close()


@pytest.fixture
def both(shared: tuple[Runner, Runner]) -> tuple[Runner, Runner]:
    """A runner that always drafts, and one that never does."""
    for runner in shared:
        runner.run()
        runner.forget()
        runner.events.clear()
    return shared


def counts(runner: Runner) -> tuple[int, int]:
    return runner.loop.speculation.drafted, runner.loop.speculation.accepted


WISHES = {
    "plain": {},
    "stop": {"stop": ("fox", "7,")},
    "short": {"num_predict": 5},
    "one token": {"num_predict": 1},
    "penalties": {"sampling": Sampling(temperature=0, repeat_penalty=1.3, frequency_penalty=0.4)},
    "logit_bias": {"sampling": msgspec.structs.replace(PLAIN, logit_bias=((260, 3.0), (13, -5.0)))},
    "mirostat": {"sampling": msgspec.structs.replace(LIKELIEST, dry_multiplier=0.8, temperature=0)},
    "grammar": {"grammar": JSON},
    "short grammar": {"grammar": JSON, "num_predict": 9},
    "thinking": {"thinking": ThinkingLimit(5, "<think>", "</think>", begun=True)},
    "logprobs": {"logprobs": True, "top_logprobs": 3},
    "context ends": {"num_ctx": 256, "num_predict": 400, "shift": False},
    "top_k 1": {"sampling": LIKELIEST},
}


@pytest.mark.parametrize("prompt", [STORY, COUNT])
@pytest.mark.parametrize("name", WISHES)
def test_an_answer_is_the_same(both: tuple[Runner, Runner], name: str, prompt: str) -> None:
    always, never = both
    seqs = [runner.submit(prompt, **WISHES[name]) for runner in both]
    for runner in both:
        runner.run()
    assert seqs[0].tokens == seqs[1].tokens
    assert always.text(seqs[0]) == never.text(seqs[1])
    ends = [runner.done(seq) for runner, seq in zip(both, seqs, strict=True)]
    assert [(d.reason, d.tokens, d.prompt_tokens, d.stop) for d in ends[:1]] == [
        (d.reason, d.tokens, d.prompt_tokens, d.stop) for d in ends[1:]
    ]
    chunks = [
        [(e.text, e.tokens) for e in runner.events if isinstance(e, Chunk) and e.id == seq.id]
        for runner, seq in zip(both, seqs, strict=True)
    ]
    assert chunks[0] == chunks[1]
    scores = [
        [s for e in runner.events if isinstance(e, ScoredChunk) and e.id == seq.id for s in e.scores]
        for runner, seq in zip(both, seqs, strict=True)
    ]
    assert scores[0] == scores[1]
    assert counts(never) == (0, 0)


def test_drafts_were_verified_and_some_were_right(both: tuple[Runner, Runner]) -> None:
    always, _ = both
    before = counts(always)
    seq = always.submit(chat("Say: one two three one two three one two three"), num_predict=40)
    passes = always.loop.decode_passes
    always.run()
    drafted, accepted = (now - then for now, then in zip(counts(always), before, strict=True))
    assert drafted > accepted > 0
    assert seq.drafts is not None
    assert (seq.drafts.drafted, seq.drafts.accepted) == (drafted, accepted)
    assert always.loop.decode_passes - passes < seq.n_generated


@pytest.mark.parametrize("keep", [0, 4])
def test_a_context_that_is_shifted_goes_on(both: tuple[Runner, Runner], keep: int) -> None:
    sampling = msgspec.structs.replace(PLAIN, logit_bias=end_tokens(both[0]), frequency_penalty=1.0)
    seqs = [runner.submit(STORY, num_ctx=256, num_predict=600, num_keep=keep, sampling=sampling) for runner in both]
    for runner in both:
        runner.run()
    assert seqs[0].tokens == seqs[1].tokens
    assert seqs[0].n_generated == 600


def test_what_is_left_in_the_cache_is_what_was_written(both: tuple[Runner, Runner]) -> None:
    for wishes in ({"num_predict": 30}, {"stop": ("fox",)}, {"num_predict": 31}):
        seqs = [runner.submit(STORY, **wishes) for runner in both]
        for runner, seq in zip(both, seqs, strict=True):
            runner.run()
            cells = max(runner.streams._idle(), key=lambda each: each.used)
            assert cells.ahead == 0
            assert cells.cached == len(cells.known.tokens) <= len(seq.tokens)
        follow = [runner.text(seq) + " And then" for runner, seq in zip(both, seqs, strict=True)]
        more = [runner.submit(STORY + text, num_predict=20) for runner, text in zip(both, follow, strict=True)]
        for runner in both:
            runner.run()
        assert more[0].n_reused == more[1].n_reused > 0
        assert more[0].tokens == more[1].tokens


def test_tokens_of_one_pass_are_told_together(both: tuple[Runner, Runner]) -> None:
    always, never = both
    answer = never.submit(COUNT)
    never.run()
    told: list[int] = []
    seq = always.submit(COUNT)
    with (
        patch.object(Lookup, "draft", lambda self, count: answer.tokens[len(self._tokens) :][:count].tolist() or [0]),
        patch.object(always.loop, "_emit", lambda events: told.append(len(events)) or always.events.extend(events)),
    ):
        always.run()
    assert seq.tokens == answer.tokens
    assert max(told) > 4
    assert len(told) < seq.n_generated / 3


@pytest.mark.parametrize("stop", [(), (" 7",), ("9, 10",)])
def test_an_answer_that_ends_within_a_draft_leaves_nothing_behind(
    both: tuple[Runner, Runner], stop: tuple[str, ...]
) -> None:
    always, never = both
    whole = never.submit(COUNT)
    plain = never.submit(COUNT, stop=stop)
    never.run()
    for shift in range(1, 8):
        seq = always.submit(COUNT, stop=stop)

        def known(self: Lookup, count: int, shift: int = shift) -> list[int]:
            return (whole.tokens[len(self._tokens) :][: min(count, shift)].tolist() + [5] * count)[:count]

        with patch.object(Lookup, "draft", known):
            always.run()
        assert always.text(seq) == never.text(plain)
        assert seq.n_generated == plain.n_generated
        assert always.done(seq).reason == never.done(plain).reason
        slots = range(always.streams.shape.streams)
        ends = {cells.slot: cells.cached for cells in always.streams._idle()}
        for slot in slots:  # llama.cpp holds no more than the streams know of
            assert C.llama_memory_seq_pos_max(always.context._memory, slot) + 1 == ends.get(slot, 0)


def test_a_seed_means_no_drafts(both: tuple[Runner, Runner]) -> None:
    always, _ = both
    before = counts(always)
    always.ask(STORY, sampling=Sampling(temperature=0.8, seed=3))
    always.ask(STORY, most_drafted=0)
    assert counts(always) == before


def test_beside_others_nothing_is_drafted(both: tuple[Runner, Runner]) -> None:
    always, _ = both
    before = counts(always)
    seqs = [[runner.submit(STORY, num_predict=n) for n in (30, 30)] for runner in both]
    for runner in both:
        runner.run()
    assert [seq.tokens for seq in seqs[0]] == [seq.tokens for seq in seqs[1]]
    assert counts(always) == before


def test_a_cancelled_answer_leaves_its_stream(both: tuple[Runner, Runner]) -> None:
    always, never = both
    seq = always.submit(STORY, num_predict=200)
    always.run(until=lambda: seq.n_generated > 10)
    always.loop.cancel(seq.id)
    always.run()
    assert always.streams.busy == 0
    assert always.ask(STORY) == never.ask(STORY)


def test_a_suspended_answer_goes_on(both: tuple[Runner, Runner]) -> None:
    always, never = both
    seq = always.submit(STORY, num_predict=60)
    always.run(until=lambda: seq.n_generated > 10)
    always.loop.admission.suspend(seq)
    always.run()
    shape = always.streams.shape
    always.streams.reshape(Shape(2, 1024))
    always.streams.reshape(shape)
    assert always.text(seq) == never.ask(STORY, num_predict=60)


def test_rows_that_are_sampled_are_those_that_would_be_anyway(both: tuple[Runner, Runner]) -> None:
    """Whatever the sampling: drafts choose nothing, they come true or not."""
    sample = BatchSampler.sample
    sampled: list[list[bytes]] = []

    def seen(self: BatchSampler, samplers: list[TokenSampler], logits: Logits) -> list[int]:
        sampled[-1].append(logits.tobytes())
        return sample(self, samplers, logits)

    with patch.object(BatchSampler, "sample", seen):
        for runner in both:
            sampled.append([])
            runner.ask(COUNT, sampling=LIKELIEST)
    assert sampled[0] == sampled[1]


def test_behind_a_sliding_window_it_is_the_same(tmp_path: Path) -> None:
    path = str(windowed(tmp_path / "model.gguf"))
    texts = []
    for lookup in ("always", "off"):
        runner = Runner(path=path, n_ctx=2048, n_cells=4096, n_parallel=2, lookup=lookup)
        seq = runner.submit("the old fox runs over the river " * 30, num_ctx=2048, num_predict=900, sampling=LIKELIEST)
        runner.run()
        texts.append(seq.tokens.tolist())
        assert seq.most_drafted
        assert (counts(runner)[0] > 100) == (lookup == "always")
        runner.close()
    assert texts[0] == texts[1]


def test_a_state_that_cannot_be_cut_has_no_drafts(tmp_path: Path) -> None:
    runner = Runner(path=str(mamba().write(tmp_path / "model.gguf")), lookup="always", n_parallel=1, n_cells=1024)
    assert runner.loop.speculation.off
    seq = runner.submit("one two one two one two", num_predict=20)
    runner.run()
    assert seq.n_generated > 1
    assert seq.drafts is None
    runner.close()
