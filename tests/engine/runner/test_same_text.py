"""The same request gives the same text: alone, again, with its prompt cached, beside seven others."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec
import pytest

from engine.loading.load_options import row_kernels
from engine.messages import Sampling, ScoredChunk
from engine.runner.row_division import RowDivision
from engine.runner.selftest import QUANTIZATIONS, quantize
from engine.runner.sequence import Sequence
from engine.runner.shape import Shape
from registry.gguf import read_header
from tests.engine.runner.harness import PLAIN, Runner, chat
from tests.engine.runner.test_loop import end_tokens

WORDS = ["the", "fox", "river", "runs", "over", "stone", "bridge", "where", "old", "men", "talk", "about", "winter"]
SEEDED = Sampling(temperature=0.8, seed=7)
FREE = Sampling(temperature=0.9)
DEPTHS = {"Q8_0": (20, 90, 400), "Q4_0": (90,), "Q4_K_M": (90,), "F16": (400,), "BF16": (20,)}
"""Lengths of prompts by quantisation, which chooses the kernels. In words: some 30 to 700 tokens, before and behind the
depth at which llama.cpp divides a row."""
ORDERED = ("Q8_0", "Q4_K_M", "F16")
"""Quantisations that are asked in several orders."""
BY_NAME = {quantization.name: quantization for quantization in QUANTIZATIONS}


def words(count: int, seed: int) -> str:
    dice = random.Random(seed)
    return " ".join(dice.choice(WORDS) for _ in range(count))


@pytest.fixture(scope="module")
def two_threads(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """A runner on the bundled model in the quantisation that the test names."""
    path = tmp_path_factory.mktemp("models") / "model.gguf"
    quantize(path, BY_NAME[request.param])
    runner = Runner(path=str(path), n_cells=8 * 1024, n_threads=2, rows=row_kernels(read_header(path)))
    yield runner
    runner.close()


def text(seq: Sequence) -> list[int]:
    return seq.tokens[seq.n_prompt :].tolist()


def test_every_quantisation_is_tried() -> None:
    assert DEPTHS.keys() == BY_NAME.keys() >= {*ORDERED}


@pytest.mark.parametrize(
    ("two_threads", "depth"),
    [(name, depth) for name, depths in DEPTHS.items() for depth in depths],
    indirect=["two_threads"],
)
def test_with_a_seed_it_is_the_same_in_any_company(two_threads: Runner, depth: int) -> None:
    runner, prompt = two_threads, words(depth, depth)
    runner.forget()
    wishes = {"num_predict": 40, "sampling": SEEDED}

    def ask() -> list[int]:
        seq = runner.submit(prompt, **wishes)
        runner.run()
        return text(seq)

    alone = ask()
    assert ask() == alone, "again"
    dice = random.Random(depth)
    beside = [
        runner.submit(words(dice.choice([10, 100, 300]), dice.randrange(10**6)), num_predict=70, sampling=FREE)
        for _ in range(4)
    ]
    for _ in range(dice.randrange(6)):
        runner.step()
    among = runner.submit(prompt, **wishes)
    beside += [runner.submit(words(30, dice.randrange(10**6)), num_predict=10 * n, sampling=FREE) for n in range(1, 4)]
    runner.run()
    assert text(among) == alone, "beside seven"
    assert ask() == alone, "after them"
    runner.forget()
    assert ask() == alone, "with nothing cached"


@pytest.mark.parametrize("depth", [20, 400])
@pytest.mark.parametrize("two_threads", DEPTHS, indirect=True)
def test_with_a_seed_it_is_the_same_where_rows_have_passes_of_their_own(
    two_threads: Runner, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, prompt = two_threads, words(depth, 3)
    texts = []
    for divides in (False, True):
        monkeypatch.setattr(RowDivision, "apart", lambda _, rows, divides=divides: divides and rows > 1)
        runner.forget()
        others = [runner.submit(words(20, n), num_predict=60, sampling=FREE) for n in range(2)]
        seq = runner.submit(prompt, num_predict=40, sampling=SEEDED)
        runner.run()
        assert all(other.n_generated for other in others)
        texts.append(text(seq))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("two_threads", DEPTHS, indirect=True)
def test_with_a_seed_it_is_the_same_while_cores_are_taken(two_threads: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, prompt = two_threads, words(400, 5)

    def ask(*counts: int) -> list[int]:
        runner.forget()
        seq = runner.submit(prompt, num_predict=30, sampling=SEEDED)
        while runner.loop.busy or runner.loop.waiting:
            monkeypatch.setattr(runner.context.cores, "count", counts[seq.n_generated % len(counts)])
            runner.step()
            assert runner.context.threads.current == 2
        return text(seq)

    assert ask(1) == ask(2) == ask(2, 1, 1)


@pytest.mark.parametrize("two_threads", ["Q8_0"], indirect=True)
def test_others_have_fewer_threads_while_cores_are_taken(two_threads: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, cores = two_threads, two_threads.context.cores
    monkeypatch.setattr(cores, "passed", lambda seconds: None)  # whoever else takes cores now
    for count in (1, 2):
        monkeypatch.setattr(cores, "count", count)
        runner.ask(words(20, 5), num_predict=3, sampling=FREE)
        assert runner.context.threads.current == count


def scores(runner: Runner, seq: Sequence) -> list[float]:
    chunks = [event for event in runner.events if isinstance(event, ScoredChunk) and event.id == seq.id]
    return [score.logprob for chunk in chunks for score in chunk.scores]


@pytest.mark.parametrize(
    ("two_threads", "how"),
    [("Q8_0", "suspension"), ("Q4_K_M", "suspension"), ("F16", "suspension"), ("Q8_0", "shape")],
    indirect=["two_threads"],
)
def test_with_a_seed_it_is_the_same_behind_a_context_shift(two_threads: Runner, how: str) -> None:
    runner = two_threads
    runner.forget()
    endless = end_tokens(runner)
    # Which text it is depends on the processor; one token again and again would end it.
    sampling = msgspec.structs.replace(SEEDED, logit_bias=endless, frequency_penalty=1.0)
    wishes = {"num_ctx": 512, "num_predict": 800, "sampling": sampling, "logprobs": True}
    alone = runner.submit(words(150, 5), **wishes)
    runner.run()
    runner.forget()
    stories = [chat(f"Tell me a story about {words(150, n)}.") for n in range(2)]
    others = [Sampling(temperature=0.9, seed=n, logit_bias=endless, frequency_penalty=1.0) for n in range(2)]
    beside = [runner.submit(stories[n], num_predict=10**4, sampling=others[n]) for n in range(2)]
    runner.run(until=lambda: all(seq.n_generated for seq in beside))
    among = runner.submit(words(150, 5), **wishes)
    runner.run(until=lambda: among.n_generated > 600)
    assert among.cells is not None
    assert among.cells.clean_prefix is not None, "it was shifted"
    assert runner.loop.busy == 3
    shape = runner.streams.shape
    if how == "suspension":
        runner.loop.admission.suspend(among)
    else:
        runner.streams.reshape(Shape(4, 2048))
    runner.run(until=lambda: among.n_generated == 800)
    for seq in beside:
        runner.loop.cancel(seq.id)
    runner.streams.reshape(shape)
    assert text(among) == text(alone)
    assert scores(runner, among) == scores(runner, alone)


def test_with_a_seed_it_is_the_same_where_a_stream_ends() -> None:
    runner = Runner(n_cells=4096, n_threads=2)
    assert runner.streams.shape.cells == 512
    sampling = msgspec.structs.replace(SEEDED, logit_bias=end_tokens(runner), frequency_penalty=1.0)
    wishes = {"num_predict": 560, "sampling": sampling, "logprobs": True}
    alone = runner.submit(words(40, 5), **wishes)
    runner.run()
    runner.forget()
    runner.streams.reshape(Shape(8, 512))
    beside = runner.submit(chat("Tell me a story."), num_predict=900, sampling=sampling)
    runner.run(until=lambda: beside.n_generated > 50)
    among = runner.submit(words(40, 5), **wishes)
    runner.run(until=lambda: among.n_generated == 560)
    assert runner.loop.busy == 1
    assert text(among) == text(alone)
    assert scores(runner, among) == scores(runner, alone)
    runner.close()


@pytest.mark.parametrize("two_threads", ORDERED, indirect=True)
def test_at_temperature_0_the_order_of_requests_changes_nothing(two_threads: Runner) -> None:
    runner = two_threads
    # They share beginnings, but none begins with all of another, as a conversation that goes on does.
    prompts = [words(60 + 40 * (n % 5), n % 3) + words(30 + n, n) for n in range(8)]
    answers: dict[str, set[tuple[int, ...]]] = {prompt: set() for prompt in prompts}
    for order in range(3):
        if order != 1:
            runner.forget()
        for prompt in random.Random(order).sample(prompts, len(prompts)):
            seq = runner.submit(prompt, num_predict=30, sampling=PLAIN)
            runner.run()
            answers[prompt].add(tuple(text(seq)))
    assert [len(found) for found in answers.values()] == [1] * len(prompts)
