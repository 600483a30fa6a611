"""Answers of a real model, alone and in a batch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from engine.messages import Failed, Sampling
from engine.runner.admission import NO_MEMORY
from engine.runner.batch import Batch
from engine.runner.context import DecodeError
from engine.runner.llamacpp import C
from tests.engine.runner.harness import LIKELIEST, PLAIN, Runner, chat

QUESTIONS = [
    "Tell me a story about a fox.",
    "Tell me a story about a rabbit named Sarah.",
    "What is the capital of France?",
    "Count to 20",
    "Write a long story.",
    "List 3 fruits as JSON",
    "Why is the sky blue?",
    "Tell me a story about a duck named Frank.",
]
MORE_QUESTIONS = ["Count to 30", "Count from 5 to 30", "Count down from 20", "Who are you?", "List 5 countries."]
MORE_QUESTIONS += ["Count to 60", "Tell me a joke.", "Count to 100", "Count down from 30", "Count from 3 to 40"]
CLEAR_MARGIN = 0.3  # standard deviations of a row: several times what builds and batches of other shapes differ by
LONG = "The cat sat on the mat. " * 40  # some 300 tokens


@pytest.fixture(scope="module")
def small() -> Iterator[Runner]:
    """A cache of hardly more than one context, for more sequences than that holds; chunks of few tokens."""
    runner = Runner(n_ctx=256, n_cells=512, n_parallel=4, n_batch=64)
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def tight() -> Iterator[Runner]:
    """Four streams of half a context: whose answer outgrows them takes the cells of two."""
    runner = Runner(n_ctx=512, n_cells=1024, n_parallel=4, n_batch=64)
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def alone(shared_runner: Runner) -> dict[str, str]:
    """What each question is answered when nothing else runs and nothing is remembered."""
    answers = {}
    for question in QUESTIONS:
        shared_runner.forget()
        answers[question] = shared_runner.ask(chat(question), num_ctx=256, num_predict=80)
    return answers


def test_a_known_question_has_its_known_answer(runner: Runner) -> None:
    assert runner.ask(chat("What is the capital of France?")) == "The capital of France is Paris."


def test_eight_together_are_answered_as_each_alone(runner: Runner, alone: dict[str, str]) -> None:
    together = runner.ask_all([chat(q) for q in QUESTIONS], num_ctx=256, num_predict=80)
    assert together == [alone[q] for q in QUESTIONS]


def test_what_is_remembered_does_not_change_the_answer(runner: Runner, alone: dict[str, str]) -> None:
    for _ in range(2):
        for question in QUESTIONS[:3]:
            seq = runner.submit(chat(question), num_ctx=256, num_predict=80, sampling=LIKELIEST)
            runner.run()
            assert runner.text(seq) == alone[question]
    assert seq.n_reused == seq.n_prompt - 1


def test_who_must_leave_for_others_is_answered_the_same(tight: Runner) -> None:
    prompts = [f"{i}. {LONG[: 300 * (i % 3)]}{chat(q)}" for i, q in enumerate(QUESTIONS + MORE_QUESTIONS)]
    expected = {}
    for prompt in prompts:
        tight.forget()
        expected[prompt] = tight.ask(prompt, num_predict=140)
    tight.forget()
    seqs = [tight.submit(prompt, num_predict=140) for prompt in expected]
    left: set[int] = set()

    def watch() -> bool:
        left.update(seq.id for seq in seqs if seq.saved is not None)
        return False

    tight.run(until=watch)
    assert left, "nobody had to leave: the test is about nothing"
    assert not tight.failures()
    assert [tight.text(seq) for seq in seqs] == list(expected.values())


def test_who_outgrows_its_stream_fails_where_there_is_no_memory_for_longer_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tight = Runner(n_ctx=512, n_cells=1024, n_parallel=4)
    monkeypatch.setattr(tight.context, "reshape", lambda shape: False)
    never_ends = Sampling(temperature=0, logit_bias=end_tokens(tight))
    cells = tight.streams.shape.cells
    short = tight.submit(chat("Count to 60"), num_predict=100, sampling=never_ends)
    long = tight.submit(chat("Count to 60") + "1", num_predict=cells + 40, sampling=never_ends)
    tight.run()
    assert tight.done(short).tokens == 100
    assert [(failed.id, failed.detail) for failed in tight.failures()] == [(long.id, NO_MEMORY)]
    huge = tight.submit(LONG, num_predict=8)
    tight.run()
    assert tight.failures()[-1].id == huge.id
    assert tight.streams.busy == 0
    tight.close()


def test_a_seed_gives_the_same_text_beside_others(runner: Runner) -> None:
    params = Sampling(temperature=1.2, top_k=0, seed=42)
    first = runner.ask(chat("Tell me a story."), sampling=params)
    others = [runner.submit(chat(q), sampling=Sampling(temperature=1.5, seed=i)) for i, q in enumerate(QUESTIONS[:5])]
    again = runner.submit(chat("Tell me a story."), sampling=params)
    runner.run()
    assert runner.text(again) == first
    assert runner.text(others[0]) != first


def test_the_numbers_of_an_answer(runner: Runner) -> None:
    seq = runner.submit(chat("What is the capital of France?"))
    runner.run()
    done = runner.done(seq)
    assert (done.reason, done.prompt_tokens, done.prompt_cached) == ("stop", seq.n_prompt, 0)
    assert done.tokens == 8  # seven of text and the one that ends it
    assert done.prompt_ns > 0
    assert done.tokens_ns > 0
    short = runner.submit(chat("What is the capital of France?"), num_predict=1)
    runner.run()
    assert (runner.done(short).tokens, runner.done(short).tokens_ns > 0) == (1, True)
    again = runner.submit(chat("What is the capital of France?"), sampling=LIKELIEST)
    runner.run()
    assert runner.done(again).prompt_tokens == seq.n_prompt
    assert runner.done(again).prompt_cached == seq.n_prompt - 1


def test_num_predict_ends_an_answer(runner: Runner) -> None:
    seq = runner.submit(chat("Count to 30"), num_predict=5)
    runner.run()
    assert (runner.done(seq).reason, runner.done(seq).tokens) == ("length", 5)


def test_a_stop_string_is_counted_and_not_shown(runner: Runner) -> None:
    whole = runner.ask(chat("Count to 20"), num_predict=200)
    seq = runner.submit(chat("Count to 20"), num_predict=200, stop=(", 7", "nowhere"))
    runner.run()
    assert runner.text(seq) == whole[: whole.index(", 7")]
    shown = len(runner.context.vocabulary.tokenize(runner.text(seq), add_special=False))
    assert (runner.done(seq).reason, runner.done(seq).tokens > shown) == ("stop", True)


def test_a_loop_ends_normally(runner: Runner) -> None:
    (token,) = runner.context.vocabulary.tokenize(" the", add_special=False)
    seq = runner.submit("The", num_predict=200, sampling=Sampling(temperature=0, logit_bias=((token, 1000.0),)))
    runner.run()
    assert (runner.done(seq).reason, runner.done(seq).tokens) == ("stop", 31)


def test_without_shift_the_padded_context_is_filled(runner: Runner) -> None:
    never_ends = Sampling(temperature=0.9, seed=1, logit_bias=end_tokens(runner))
    seq = runner.submit(chat("Tell me a story."), num_ctx=128, num_predict=-1, shift=False, sampling=never_ends)
    runner.run()
    assert runner.done(seq).reason == "length"
    assert seq.n_prompt + runner.done(seq).tokens == 256


def test_with_shift_an_answer_goes_on_beyond_its_context(runner: Runner) -> None:
    never_ends = Sampling(temperature=0.9, seed=1, logit_bias=end_tokens(runner))
    seq = runner.submit(chat("Tell me a story."), num_ctx=64, num_predict=-1, sampling=never_ends)
    begin = list(seq.tokens[: seq.n_keep])
    most = 0

    def watch() -> bool:
        nonlocal most
        most = max(most, len(seq.tokens))
        return False

    runner.run(until=watch)
    assert (runner.done(seq).reason, runner.done(seq).tokens) == ("length", 640)
    assert most <= 256
    assert list(seq.tokens[:4]) == begin == list(seq.tokens[: seq.n_keep])


def test_a_shift_beside_one_with_the_same_beginning_leaves_that_alone(runner: Runner) -> None:
    sampling = Sampling(temperature=0.9, seed=1, logit_bias=end_tokens(runner))
    prompt = LONG[:1000] + chat("Tell me a story.")
    expected = runner.ask(prompt, num_predict=150, sampling=sampling)
    runner.forget()
    kept = runner.submit(prompt, num_predict=150, sampling=sampling)
    shifted = runner.submit(prompt, num_ctx=256, num_predict=150, sampling=sampling)
    runner.run()
    assert runner.text(kept) == expected
    assert runner.done(shifted).tokens == 150


def end_tokens(runner: Runner) -> tuple[tuple[int, float], ...]:
    """A bias against everything that ends an answer."""
    vocabulary = runner.context.vocabulary
    return tuple((token, -1000.0) for token in range(vocabulary.size) if vocabulary.ends(token))


def test_a_long_prompt_does_not_stop_the_streams_beside_it(small: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small.loop, "_policy", replace(small.loop._policy, abortable=False, gap_target=1e-6))
    stream = small.submit(chat("Count to 30"), num_predict=150)
    small.run(until=lambda: stream.n_generated > 0)
    long = small.submit(LONG[:750])
    passes = 0
    while not long.n_generated:
        before = stream.n_generated
        small.step()
        passes += 1
        assert stream.n_generated == before + 1
    assert passes > 2
    small.run()


def test_prompts_go_one_after_the_other(small: Runner) -> None:
    seqs = [small.submit(f"{i} " + LONG[:230], num_predict=4) for i in range(4)]
    began: list[int] = []

    def watch() -> bool:
        began.append(sum(seq.n_generated > 0 for seq in seqs))
        return False

    small.run(until=watch)
    assert sorted(seqs, key=lambda seq: seq.prompt_done) == seqs
    assert {1, 2, 3} & set(began), "all prompts were ready in the same pass"


def test_a_short_prompt_overtakes_a_long_one(small: Runner) -> None:
    long = small.submit(LONG[:1000], num_predict=4)
    small.step()
    short = small.submit(chat("Hello!"), num_predict=4)
    small.run()
    assert short.prompt_done < long.prompt_done


def test_prompts_with_the_same_beginning_are_computed_once(runner: Runner) -> None:
    seqs = [runner.submit(LONG + chat(question), sampling=LIKELIEST) for question in QUESTIONS]
    runner.run()
    common = len(runner.context.vocabulary.tokenize(LONG, add_special=False)) - 1
    assert [runner.done(seq).prompt_cached >= common for seq in seqs] == [False] + [True] * 7


def test_an_aborted_pass_changes_no_answer(runner: Runner, alone: dict[str, str]) -> None:
    stream = runner.submit(chat(QUESTIONS[0]), num_ctx=256, num_predict=80)
    runner.run(until=lambda: stream.n_generated > 5)
    victim, beside = runner.submit(LONG), runner.submit(chat(QUESTIONS[3]), num_ctx=256, num_predict=80)
    plan = runner.loop.plan()
    assert runner.loop.prefilling
    assert runner.loop.prefilling <= {victim.id, beside.id}
    runner.context.abort.set()
    runner.loop.step(plan)
    runner.context.abort.clear()
    assert (victim.n_cached, beside.n_cached) == (0, beside.n_reused)
    runner.loop.cancel(victim.id)
    runner.run()
    assert runner.text(victim) == ""
    assert [runner.text(stream), runner.text(beside)] == [alone[QUESTIONS[0]], alone[QUESTIONS[3]]]


def test_cancelled_wherever_it_is(runner: Runner) -> None:
    seqs = [runner.submit(chat(f"Tell me a story about {i}.")) for i in range(12)]
    runner.step()
    assert (runner.loop.busy, runner.loop.waiting) == (8, 4)
    for seq in seqs:
        runner.loop.cancel(seq.id)
        runner.loop.cancel(seq.id)
    assert runner.loop.idle
    assert runner.streams.busy == 0


def test_a_paused_answer_rests_and_says_the_same(runner: Runner, alone: dict[str, str]) -> None:
    paused, beside = [runner.submit(chat(question)) for question in QUESTIONS[:2]]
    runner.step()
    runner.loop.pause(paused.id, paused=True)
    runner.run()
    assert alone[QUESTIONS[1]].startswith(runner.text(beside))
    assert paused.n_generated == 1
    assert (runner.loop.idle, runner.loop.busy) == (True, 1)
    runner.loop.pause(paused.id, paused=False)
    runner.run()
    assert alone[QUESTIONS[0]].startswith(runner.text(paused))
    assert runner.done(paused).tokens == paused.n_generated > 1
    runner.loop.pause(paused.id, paused=True)  # it has ended


def test_a_failed_pass_fails_who_was_in_it_and_nobody_else(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    failed, other = [runner.submit(chat(q)) for q in QUESTIONS[:2]]
    decode = runner.context.decode

    def fail_once(batch: Batch) -> int:
        monkeypatch.setattr(runner.context, "decode", decode)
        raise DecodeError("llama_decode returned -3")

    monkeypatch.setattr(runner.context, "decode", fail_once)
    runner.step()
    assert runner.failures() == [Failed(failed.id, "internal", "llama_decode returned -3")]
    runner.run()
    assert runner.done(other).tokens
    assert runner.ask(chat("What is the capital of France?")) == "The capital of France is Paris."


def test_a_batch_smaller_than_the_streams_is_raised_by_whoever_loads(small: Runner) -> None:
    assert small.context.n_batch == 64


def test_a_storm_of_requests_and_cancels_leaves_nothing(small: Runner) -> None:
    small.forget()
    dice = random.Random(1)
    for _ in range(150):
        question = dice.choice(QUESTIONS)
        prompt = LONG[: dice.randrange(900)] + chat(question)
        seq = small.submit(prompt, num_predict=dice.randrange(1, 40), sampling=PLAIN)
        for _ in range(dice.randrange(3)):
            small.step()
        if dice.random() < 0.4:
            small.loop.cancel(dice.randrange(max(seq.id - 8, 1), seq.id + 1))
    small.run()
    assert not small.failures()
    assert (small.loop.busy, small.loop.waiting, small.streams.busy) == (0, 0, 0)
    small.forget()
    memory = C.llama_get_memory(small.context._ctx)
    assert {C.llama_memory_seq_pos_max(memory, slot) for slot in range(small.streams.shape.streams)} == {-1}


def test_a_prompt_takes_no_more_of_a_pass_than_its_request_wants(runner: Runner) -> None:
    runner.forget()
    seq = runner.submit(LONG, num_batch=32, num_predict=1)
    counts = []
    while seq.n_pending:
        plan = runner.loop.plan()
        counts += [count for _, count in plan.prompts]
        runner.loop.step(plan)
        if seq.n_generated:
            break
    assert max(counts) <= 32
    assert sum(counts) == seq.n_prompt
    assert runner.ask(LONG, num_predict=8) == runner.ask(LONG, num_predict=8, num_batch=1)


def test_who_wants_small_passes_keeps_nobody_waiting(runner: Runner) -> None:
    """Neither prompts behind his, nor such as begin as his does."""
    runner.forget()
    slow = [runner.submit(f"{number} {LONG}", num_batch=1, num_predict=1) for number in range(3)]
    runner.step()
    others = [runner.submit(f"{text}{LONG}", num_predict=1) for text in ("Once more. ", "0 ")]
    steps = runner.loop.steps
    runner.run(until=lambda: all(seq.n_generated for seq in others))
    assert runner.loop.steps - steps < 20
    assert not any(seq.n_generated for seq in slow)
    runner.run()
    assert all(runner.done(seq).tokens == 1 for seq in slow)


def test_threads_are_those_that_all_in_a_pass_want(runner: Runner) -> None:
    def threads() -> int:
        count: int = C.llama_n_threads(runner.context._ctx)
        return count

    runner.ask(chat("Hi"), num_thread=3)
    assert threads() == 3
    runner.submit(chat("Hi"), num_thread=3, num_predict=8)
    runner.submit(chat("Hello"), num_thread=2, num_predict=8)
    runner.step()
    assert threads() == 1, "the default, as they do not agree"
    runner.run()
    runner.submit(chat("Hi"), num_thread=3, num_predict=30)
    runner.submit(chat("Hello"), num_predict=4)
    runner.step()
    assert threads() == 1, "the default, which one of them wants"
    runner.run()
    assert threads() == 3, "the other is alone"
    runner.ask(chat("Hi"))
    assert threads() == 1
