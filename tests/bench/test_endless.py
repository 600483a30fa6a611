"""The model that never ends its answer, through llama.cpp itself."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import llama_cpp.llama_cpp as C
import pytest

from bench.endless import make_endless
from bench.raw import Loop, Model, default_chain
from bench.workload import Workload
from registry.bundled import MODELS
from registry.names import ModelName

TINYCHAT = MODELS[ModelName.parse("tinychat")].path
WORKLOAD = Workload(streams=4, words=16, tokens=200)


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "endless.gguf"
    path.write_bytes(make_endless(TINYCHAT))
    return path


def answers(model: Model) -> list[list[int]]:
    """The tokens that the default options draw, without regard to those that end an answer."""
    loop = Loop(model, WORKLOAD.streams)
    texts = [model.tokenize(prompt) for prompt in WORKLOAD.prompts(0)]
    chains = [default_chain(model.n_vocab, text) for text in texts]
    loop.prefill(texts)
    steps: list[list[int]] = []
    for step in range(WORKLOAD.tokens):
        steps.append([C.llama_sampler_sample(chain, loop.context, i - 4) for i, chain in enumerate(chains)])
        loop.decode(steps[-1], [len(text) + step for text in texts])
    for chain in chains:
        C.llama_sampler_free(chain)
    return [list(tokens) for tokens in zip(*steps, strict=True)]


def longest_repetition(tokens: list[int]) -> int:
    longest = run = 1
    for last, token in pairwise(tokens):
        run = run + 1 if token == last else 1
        longest = max(longest, run)
    return longest


def test_the_file_keeps_its_size(endless: Path) -> None:
    assert endless.stat().st_size == TINYCHAT.stat().st_size


def test_answers_neither_end_nor_repeat_themselves(endless: Path) -> None:
    model = Model(endless, 1)
    for tokens in answers(model):
        assert not any(C.llama_vocab_is_eog(model.vocab, token) for token in tokens)
        assert longest_repetition(tokens) < 30


def test_only_a_token_that_is_never_likely_ends_an_answer(endless: Path) -> None:
    vocab = Model(endless, 1).vocab
    ending = [token for token in range(C.llama_vocab_n_tokens(vocab)) if C.llama_vocab_is_eog(vocab, token)]
    assert len(ending) == 1


def test_a_model_without_the_token_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(TINYCHAT.read_bytes().replace(b"fim_suf_token_id", b"fim_other_tokens"))
    with pytest.raises(ValueError, match="never produces"):
        make_endless(path)
