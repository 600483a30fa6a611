"""The same request gives the same text: alone, again, with its prompt cached, beside seven others."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from engine.loading.memory import has_float_matrices
from engine.messages import Sampling
from engine.runner.selftest import QUANTIZATIONS, CheckedQuantization, quantize
from engine.runner.sequence import Sequence
from registry.gguf import read_header
from tests.engine.runner.harness import PLAIN, Runner

WORDS = [
    "the",
    "a",
    "fox",
    "river",
    "runs",
    "over",
    "stone",
    "bridge",
    "where",
    "old",
    "men",
    "talk",
    "about",
    "winter",
    "and",
    "bread",
    "while",
    "children",
    "play",
]
SEEDED = Sampling(temperature=0.8, seed=7)
FREE = Sampling(temperature=0.9)
DEPTHS = (20, 90, 400)  # words; some 30 to 700 tokens, before and behind the depth at which llama.cpp divides a row
"""Lengths of prompts."""


def words(count: int, seed: int) -> str:
    dice = random.Random(seed)
    return " ".join(dice.choice(WORDS) for _ in range(count))


@pytest.fixture(scope="module", params=QUANTIZATIONS, ids=lambda quantization: quantization.name)
def two_threads(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    quantization: CheckedQuantization = request.param
    path = tmp_path_factory.mktemp("models") / "model.gguf"
    quantize(path, quantization)
    floats = has_float_matrices(read_header(path))
    runner = Runner(path=str(path), n_cells=8 * 1024, n_threads=2, float_weights=floats)
    yield runner
    runner.close()


def text(seq: Sequence) -> list[int]:
    return seq.tokens[seq.n_prompt :].tolist()


@pytest.mark.parametrize("sampling", [SEEDED, PLAIN], ids=["seed", "temperature 0"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_it_is_the_same(two_threads: Runner, depth: int, sampling: Sampling) -> None:
    runner, prompt = two_threads, words(depth, depth)
    runner.forget()
    wishes = {"num_predict": 40, "sampling": sampling}

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
