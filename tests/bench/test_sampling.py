"""The two samplers of the contest do the same work on the same logits."""

from __future__ import annotations

import pytest

from bench import sampling
from bench.raw import Loop, Model
from registry.bundled import MODELS
from registry.names import ModelName

TINYCHAT = MODELS[ModelName.parse("tinychat")].path


@pytest.fixture
def loop() -> Loop:
    return Loop(Model(TINYCHAT, 1), sampling.WORKLOAD.streams)


def test_every_step_is_timed_on_both_sides(loop: Loop) -> None:
    ours, chains = sampling.compare(loop)
    assert len(ours) == len(chains) == sampling.STEPS
    assert min(*ours, *chains) > 0


def test_both_choose_a_token_for_each_sequence(loop: Loop) -> None:
    texts = [loop.model.tokenize(prompt) for prompt in sampling.WORKLOAD.prompts(0)]
    loop.prefill(texts)
    contest = sampling.Contest(loop, texts)
    for tokens in (contest.ours(), contest.chains()):
        assert len(tokens) == len(texts)
        assert all(0 <= token < loop.model.n_vocab for token in tokens)
