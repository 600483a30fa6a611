"""llama.cpp's own samplers for one sequence, in llama.cpp's usual order."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence

import numpy as np

from engine.messages import Sampling
from engine.runner.llamacpp import C, bound

CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # llama_token_data
SEEDS = 0xFFFFFFFF  # LLAMA_DEFAULT_SEED, which means "random": our seeds stay below it
MIROSTAT_M = 100  # tokens that Mirostat estimates from, as in its paper
MAX_BREAKERS = 64
COLDEST = 1e-6  # temperatures up to this count as 0: dividing logits by them would overflow
NO_TOKEN = -1  # llama.cpp's LLAMA_TOKEN_NULL
_apply = bound("llama_sampler_apply", None, ctypes.c_void_p, ctypes.c_void_p)


class _Candidates(ctypes.Structure):
    """`llama_token_data_array`, with an address as a plain number."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("selected", ctypes.c_int64),
        ("sorted", ctypes.c_bool),
    )


class SamplerChain:
    """The llama.cpp samplers that follow bias and penalties, with their random state.

    `vocab` is the vocabulary's C pointer. Owned by one thread at a time; `close` frees the C objects.
    """

    def __init__(self, params: Sampling, vocab: int, n_vocab: int, n_ctx: int) -> None:
        self._params = params
        self._chain = C.llama_sampler_chain_init(C.llama_sampler_chain_default_params())
        for sampler in _samplers(params, vocab, n_vocab, n_ctx):
            C.llama_sampler_chain_add(self._chain, sampler)
        self._address: int | None = ctypes.cast(self._chain, ctypes.c_void_p).value
        self._candidates = _Candidates()
        self._candidates_address = ctypes.addressof(self._candidates)

    def choose(self, address: int, size: int) -> int:
        """Sample from `size` candidates (dtype CANDIDATE, any order) at a memory address, reordering them.

        Returns a token id; NO_TOKEN if none has a probability: the logits are NaN, or all -inf.
        """
        if not size:
            return NO_TOKEN
        array = self._candidates
        array.data, array.size, array.selected, array.sorted = address, size, -1, False
        _apply(self._address, self._candidates_address)
        if (selected := array.selected) < 0:
            return NO_TOKEN
        return ctypes.c_int32.from_address(array.data + selected * CANDIDATE.itemsize).value

    def accept(self, token: int) -> None:
        """Tell the samplers which token was chosen or stood in the prompt."""
        C.llama_sampler_accept(self._chain, token)

    def replace_dry(self, vocab: int, n_ctx: int, history: Sequence[int]) -> None:
        """Put another DRY sampler, which has seen these tokens, in the place of the one that looks back less far."""
        dry = _dry(self._params, vocab, n_ctx)
        for token in history:
            C.llama_sampler_accept(dry, token)
        count = C.llama_sampler_chain_n(self._chain)
        old, *others = [C.llama_sampler_chain_remove(self._chain, 0) for _ in range(count)]
        C.llama_sampler_free(old)
        for sampler in (dry, *others):
            C.llama_sampler_chain_add(self._chain, sampler)

    def close(self) -> None:
        """Free the chain; it must not be used afterwards."""
        if self._chain is not None:
            C.llama_sampler_free(self._chain)
            self._chain = None


def seed_of(params: Sampling) -> int:
    """A seed that llama.cpp takes: the request's, or a random one if it is negative."""
    return params.seed % SEEDS if params.seed >= 0 else int.from_bytes(os.urandom(4), "little") % SEEDS


def _samplers(p: Sampling, vocab: int, n_vocab: int, n_ctx: int) -> Iterator[C.llama_sampler_p]:
    """The samplers that these options ask for, in llama.cpp's order."""
    seed = seed_of(p)
    if p.mirostat == 1:
        yield C.llama_sampler_init_temp(p.temperature)
        yield C.llama_sampler_init_mirostat(n_vocab, seed, p.mirostat_tau, p.mirostat_eta, MIROSTAT_M)
        return
    if p.mirostat == 2:
        yield C.llama_sampler_init_temp(p.temperature)
        yield C.llama_sampler_init_mirostat_v2(seed, p.mirostat_tau, p.mirostat_eta)
        return
    if p.dry_multiplier > 0:
        yield _dry(p, vocab, n_ctx)
    if p.temperature <= COLDEST:
        yield C.llama_sampler_init_greedy()
        return
    if p.top_n_sigma > 0:
        yield C.llama_sampler_init_top_n_sigma(p.top_n_sigma)
    if p.top_k > 0:
        yield C.llama_sampler_init_top_k(min(p.top_k, n_vocab))
    if p.typical_p < 1.0:
        yield C.llama_sampler_init_typical(p.typical_p, 1)
    if p.top_p < 1.0:
        yield C.llama_sampler_init_top_p(p.top_p, 1)
    if p.min_p > 0.0:
        yield C.llama_sampler_init_min_p(p.min_p, 1)
    if p.xtc_probability > 0.0:
        yield C.llama_sampler_init_xtc(p.xtc_probability, p.xtc_threshold, 1, seed)
    yield C.llama_sampler_init_temp_ext(p.temperature, p.dynatemp_range, p.dynatemp_exponent)
    yield C.llama_sampler_init_dist(seed)


def _dry(p: Sampling, vocab: int, n_ctx: int) -> C.llama_sampler_p:
    """The DRY sampler, which penalises repeated sequences."""
    breakers = [text.encode() for text in p.dry_sequence_breakers[:MAX_BREAKERS]]
    words = (ctypes.c_char_p * len(breakers))(*breakers)
    last_n = n_ctx if p.dry_penalty_last_n < 0 else min(p.dry_penalty_last_n, n_ctx)
    return C.llama_sampler_init_dry(
        vocab, p.dry_multiplier, p.dry_base, p.dry_allowed_length, last_n, words, len(breakers)
    )
