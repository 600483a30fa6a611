"""Our sampler against llama.cpp's own chain over the whole vocabulary."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence as Seq
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.messages import Sampling
from engine.runner.llamacpp import C
from engine.runner.penalties import Logits
from engine.runner.sampler_chain import CANDIDATE
from engine.runner.sampling import NO_TOKEN, BatchSampler, TokenSampler
from engine.runner.vocabulary import Vocabulary

N_CTX = 512
STEPS = 4


class Reference:
    """llama.cpp's samplers in its usual order, every one of them over all that is left by the one before."""

    def __init__(self, p: Sampling, n_vocab: int, history: Seq[int]) -> None:
        self._chain = C.llama_sampler_chain_init(C.llama_sampler_chain_default_params())
        for sampler in self._samplers(p, n_vocab):
            C.llama_sampler_chain_add(self._chain, sampler)
        for token in history:
            C.llama_sampler_accept(self._chain, token)

    def _samplers(self, p: Sampling, n_vocab: int) -> list[Any]:
        biases = (C.llama_logit_bias * len(p.logit_bias))(*p.logit_bias)
        last_n = N_CTX if p.repeat_last_n < 0 else p.repeat_last_n
        chosen = [
            C.llama_sampler_init_logit_bias(n_vocab, len(p.logit_bias), biases),
            C.llama_sampler_init_penalties(n_vocab, last_n, p.repeat_penalty, p.frequency_penalty, p.presence_penalty),
        ]
        if p.mirostat:
            chosen.append(C.llama_sampler_init_temp(p.temperature))
            tau, eta = p.mirostat_tau, p.mirostat_eta
            if p.mirostat == 1:
                return [*chosen, C.llama_sampler_init_mirostat(n_vocab, p.seed, tau, eta, 100)]
            return [*chosen, C.llama_sampler_init_mirostat_v2(p.seed, tau, eta)]
        return [
            *chosen,
            C.llama_sampler_init_top_n_sigma(p.top_n_sigma),
            C.llama_sampler_init_top_k(p.top_k),
            C.llama_sampler_init_typical(p.typical_p, 1),
            C.llama_sampler_init_top_p(p.top_p, 1),
            C.llama_sampler_init_min_p(p.min_p, 1),
            C.llama_sampler_init_xtc(p.xtc_probability, p.xtc_threshold, 1, p.seed),
            C.llama_sampler_init_temp_ext(p.temperature, p.dynatemp_range, p.dynatemp_exponent),
            C.llama_sampler_init_dist(p.seed),
        ]

    def sample(self, row: Logits) -> int:
        everything = np.zeros(len(row), CANDIDATE)
        everything["id"] = np.arange(len(row))
        everything["logit"] = row
        data = ctypes.cast(everything.ctypes.data, C.llama_token_data_p)
        array = C.llama_token_data_array(data=data, size=len(row), selected=-1, sorted=False)
        C.llama_sampler_apply(self._chain, ctypes.byref(array))
        token = int(array.data[array.selected].id)
        C.llama_sampler_accept(self._chain, token)
        return token

    def close(self) -> None:
        C.llama_sampler_free(self._chain)


def compare(params: Seq[Sampling], n_vocab: int, vocabulary: Vocabulary, rows: Seq[Logits], histories: Any) -> None:
    """Sample every row with its options, ours all at once, and expect the same tokens.

    Among equal logits either may be chosen: the order of equals is nobody's promise.
    """
    ours = [TokenSampler(p, vocabulary.handle, n_vocab, N_CTX, h) for p, h in zip(params, histories, strict=True)]
    theirs = [Reference(p, n_vocab, h) for p, h in zip(params, histories, strict=True)]
    adjusted = np.stack(rows)
    chosen = BatchSampler(n_vocab).sample(ours, adjusted)
    for i, reference in enumerate(theirs):
        expected = reference.sample(rows[i])
        assert adjusted[i, chosen[i]] == adjusted[i, expected], (params[i], chosen[i], expected)
        reference.close()
        ours[i].close()


def logits(seed: int, n_vocab: int, spread: float, digits: int | None) -> Logits:
    """Random logits; rounded to few digits they have many equals."""
    row = np.random.default_rng(seed).standard_normal(n_vocab).astype(np.float32) * np.float32(spread)
    return row if digits is None else row.round(digits)


options = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.05, 0.8, 1.0, 3.0]),
    top_k=st.sampled_from([0, 1, 2, 20, 40, 100, 500, 1024, 4000, -1]),
    top_p=st.sampled_from([0.0, 0.3, 0.9, 0.99, 1.0]),
    min_p=st.sampled_from([0.0, 0.0, 0.05, 0.5, 1.0]),
    typical_p=st.sampled_from([1.0, 1.0, 0.95, 0.3]),
    repeat_last_n=st.sampled_from([0, 1, 7, 64, -1]),
    repeat_penalty=st.sampled_from([1.0, 1.1, 1.7, 0.5, 20.0]),
    presence_penalty=st.sampled_from([0.0, 0.0, 0.6, -1.5, 40.0]),
    frequency_penalty=st.sampled_from([0.0, 0.0, 0.3, -0.7]),
    seed=st.integers(0, 2**32 - 2),
    logit_bias=st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from([-np.inf, -5.0, 2.5, 100.0])),
        max_size=3,
        unique_by=lambda b: b[0],
    ).map(tuple),
)


def sampled(p: Sampling) -> Sampling:
    """Without what temperature 0 makes llama.cpp choose from less than everything."""
    if p.temperature > 0:
        return p
    return Sampling(
        temperature=0.0,
        typical_p=1.0,
        repeat_last_n=p.repeat_last_n,
        repeat_penalty=p.repeat_penalty,
        presence_penalty=p.presence_penalty,
        frequency_penalty=p.frequency_penalty,
        logit_bias=p.logit_bias,
    )


@settings(max_examples=150)
@given(
    params=st.lists(options.map(sampled), min_size=1, max_size=4),
    n_vocab=st.sampled_from([41, 2048, 3001]),
    spread=st.sampled_from([0.1, 3.0, 30.0]),
    digits=st.sampled_from([None, 1, 0]),
    seed=st.integers(0, 10_000),
)
def test_every_row_is_sampled_as_by_the_whole_chain(
    vocabulary: Vocabulary, params: list[Sampling], n_vocab: int, spread: float, digits: int | None, seed: int
) -> None:
    rows = [logits(seed + i, n_vocab, spread, digits) for i in range(len(params))]
    histories = [np.random.default_rng(seed + i).integers(0, min(n_vocab, 50), 90).tolist() for i in range(len(params))]
    compare(params, n_vocab, vocabulary, rows, histories)


@pytest.mark.parametrize(
    "wishes",
    [
        {},
        {"repeat_penalty": 30.0},  # pushes tokens out of the top_k
        {"top_k": 1000, "typical_p": 0.9},
        {"top_k": 0, "top_p": 0.95},
        {"presence_penalty": 1.0, "frequency_penalty": 0.2},
        {"mirostat": 1, "repeat_penalty": 1.0},
        {"mirostat": 2, "repeat_penalty": 1.0},
        {"top_n_sigma": 1.0},
        {"dynatemp_range": 0.5},
        {"xtc_probability": 1.0, "xtc_threshold": 0.05},
    ],
    ids=str,
)
def test_long_rows_and_many_steps(vocabulary: Vocabulary, wishes: dict[str, Any]) -> None:
    n_vocab = 151_936
    params = Sampling(**{"seed": 7, **wishes})
    history = list(range(80))
    ours, reference = (
        TokenSampler(params, vocabulary.handle, n_vocab, N_CTX, history),
        Reference(params, n_vocab, history),
    )
    sampler = BatchSampler(n_vocab)
    for step in range(STEPS):
        row = logits(step, n_vocab, 3.0, None)
        row[:80] += 12  # what the prompt said is likely
        assert sampler.sample([ours], row[None].copy()) == [reference.sample(row)]


def test_a_row_is_sampled_the_same_whatever_is_beside_it(vocabulary: Vocabulary) -> None:
    kinds = [Sampling(seed=1), Sampling(temperature=0), Sampling(seed=1, top_k=0), Sampling(seed=1, top_k=400)]
    rows = np.stack([logits(i, 2048, 3.0, None) for i in range(len(kinds))])

    def sample(of: list[int]) -> list[int]:
        samplers = [TokenSampler(kinds[i], vocabulary.handle, 2048, N_CTX, [1, 2, 3]) for i in of]
        return BatchSampler(2048).sample(samplers, rows[of].copy())

    assert sample([0, 1, 2, 3]) == [token for i in range(4) for token in sample([i])]


def test_the_same_seed_gives_the_same_tokens_and_another_gives_others(vocabulary: Vocabulary) -> None:
    row = logits(3, 2048, 1.0, None)[None]

    def draw(seed: int) -> list[int]:
        sampler = TokenSampler(Sampling(seed=seed), vocabulary.handle, 2048, N_CTX, [])
        return [BatchSampler(2048).sample([sampler], row.copy())[0] for _ in range(20)]

    assert draw(5) == draw(5)
    assert draw(5) != draw(6)
    assert draw(-1) != draw(-1)
    assert draw(0xFFFFFFFF) == draw(0xFFFFFFFF)  # means "random" to llama.cpp
    assert draw(2**63 - 1) == draw(2**63 - 1)


def test_numbers_that_are_none_choose_nothing_and_leave_the_others_alone(vocabulary: Vocabulary) -> None:
    kinds = [Sampling(seed=1), Sampling(temperature=0), Sampling(seed=1, top_k=0)]
    rows = np.stack([logits(i, 2048, 3.0, None) for i in range(6)])
    rows[3:] = np.nan
    samplers = [TokenSampler(kind, vocabulary.handle, 2048, N_CTX, [1]) for kind in [*kinds, *kinds]]
    chosen = BatchSampler(2048).sample(samplers, rows)
    assert chosen[3:] == [NO_TOKEN] * 3
    assert NO_TOKEN not in chosen[:3]


@pytest.mark.parametrize("wishes", [{"mirostat": 9}, {"temperature": 1e-40}, {"top_k": 2**62}, {"top_p": -1.0}])
def test_senseless_options_still_choose_a_likely_token(vocabulary: Vocabulary, wishes: dict[str, Any]) -> None:
    row = logits(1, 2048, 1.0, None)[None]
    row[0, 99] = 50
    sampler = TokenSampler(Sampling(**{"seed": 1, **wishes}), vocabulary.handle, 2048, N_CTX, [])
    assert BatchSampler(2048).sample([sampler], row) == [99]


def test_penalties_look_back_into_the_prompt_and_no_further_than_asked(vocabulary: Vocabulary) -> None:
    row = np.zeros((1, 2048), np.float32)
    row[0, [10, 11, 12]] = 5.0, 4.9, 4.8

    def choose(last_n: int) -> int:
        params = Sampling(temperature=0, repeat_penalty=2.0, repeat_last_n=last_n)
        return BatchSampler(2048).sample([TokenSampler(params, vocabulary.handle, 2048, N_CTX, [10, 11])], row.copy())[
            0
        ]

    assert [choose(n) for n in (0, 1, 2, -1)] == [10, 10, 12, 12]


def test_a_line_break_can_be_exempt(vocabulary: Vocabulary) -> None:
    newline = C.llama_vocab_nl(vocabulary.handle)
    row = np.zeros((1, 2048), np.float32)
    row[0, [newline, 12]] = 5.0, 4.9

    def choose(penalize_newline: bool) -> int:
        params = Sampling(temperature=0, repeat_penalty=2.0, penalize_newline=penalize_newline)
        return BatchSampler(2048).sample([TokenSampler(params, vocabulary.handle, 2048, N_CTX, [newline])], row.copy())[
            0
        ]

    assert choose(penalize_newline=True) == 12
    assert choose(penalize_newline=False) == newline
