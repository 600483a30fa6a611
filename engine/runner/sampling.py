"""Choosing the next token of every sequence of a step, with llama.cpp's own samplers on few candidates.

llama.cpp's chain, run per sequence, walks the whole vocabulary several times. Here numpy walks it once for all
sequences: penalties touch only the tokens that they concern, in place; top_k is cut by the maxima of blocks; what
is left (typical_p, top_p, min_p, XTC, temperature, the draw) is llama.cpp's chain on those candidates. The result
is that of the full chain in llama.cpp's usual order; options that need the whole vocabulary (top_k 0, mirostat,
DRY, top-n-sigma) get the chain over all of it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence as Seq

import llama_cpp.llama_cpp as C
import numpy as np
import numpy.typing as npt

from engine.messages import Sampling

BLOCK = 128  # logits per maximum. A block is every (n_vocab // BLOCK)-th logit: maxima of columns, which numpy vectorises
MAX_CANDIDATES = 1024  # a top_k above this leaves little to gain over the full chain
CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])

Logits = npt.NDArray[np.float32]


class TokenSampler:
    """The sampling state of one sequence: its recent tokens and its llama.cpp chain with its random numbers.

    `vocab` is the C pointer of the model's vocabulary. `history` are the prompt's tokens: penalties look back
    into the prompt, as llama-server's do. Call `close` when the sequence ends.
    """

    def __init__(self, params: Sampling, vocab: int, n_vocab: int, n_ctx: int, history: Seq[int]) -> None:
        self.params = params
        self.greedy = params.temperature <= 0 and params.mirostat == 0
        self.full = not self.greedy and (
            not 0 < params.top_k <= min(MAX_CANDIDATES, n_vocab) or params.mirostat > 0 or self._needs_vocabulary()
        )
        self._n_vocab = n_vocab
        self._exempt = C.llama_vocab_nl(vocab) if not params.penalize_newline else -1
        last_n = n_ctx if params.repeat_last_n < 0 else params.repeat_last_n
        self._recent = np.asarray(history[-last_n:] if last_n and self.penalized else (), dtype=np.int64)
        self._last_n = last_n
        bias = [(t, b) for t, b in params.logit_bias if 0 <= t < n_vocab]
        self._bias = (np.array([t for t, _ in bias], np.int64), np.array([b for _, b in bias], np.float32))
        self._chain = self._build_chain(vocab, n_ctx)
        if self.full:
            for token in history[-max(last_n, 256) :]:
                C.llama_sampler_accept(self._chain, token)
        self._array = C.llama_token_data_array()

    @property
    def penalized(self) -> bool:
        """Whether any of the three penalties is on."""
        p = self.params
        return p.repeat_last_n != 0 and (
            p.repeat_penalty != 1.0 or p.frequency_penalty != 0.0 or p.presence_penalty != 0.0
        )

    def adjust(self, row: Logits) -> None:
        """Apply logit bias and penalties to this sequence's logits, in place (float32 arithmetic as llama.cpp's)."""
        if self._bias[0].size:
            row[self._bias[0]] += self._bias[1]
        if not self._recent.size:
            return
        p = self.params
        if p.frequency_penalty == 0.0 and p.presence_penalty == 0.0:
            # A token that is there twice is computed twice from the same logit: the same value is written twice.
            tokens = self._recent
            row[tokens] = _repeat_penalty(row[tokens], p.repeat_penalty)
            return
        tokens, counts = np.unique(self._recent, return_counts=True)
        penalty = counts.astype(np.float32) * np.float32(p.frequency_penalty) + np.float32(p.presence_penalty)
        row[tokens] = _repeat_penalty(row[tokens], p.repeat_penalty) - penalty

    def accept(self, token: int) -> None:
        """Remember the token that was chosen."""
        if self.full:
            C.llama_sampler_accept(self._chain, token)
        if not self.penalized or token == self._exempt:
            return
        if self._recent.size < self._last_n:
            self._recent = np.append(self._recent, token)
        else:
            self._recent[:-1] = self._recent[1:]
            self._recent[-1] = token

    def choose(self, candidates: npt.NDArray[np.void]) -> int:
        """Run the chain over candidates (dtype CANDIDATE, by descending logit unless `full`); returns a token id."""
        array = self._array
        array.data = ctypes.cast(candidates.ctypes.data, C.llama_token_data_p)
        array.size = candidates.size
        array.selected = -1
        array.sorted = not self.full
        C.llama_sampler_apply(self._chain, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def close(self) -> None:
        """Free the chain. The sampler must not be used afterwards."""
        if self._chain is not None:
            C.llama_sampler_free(self._chain)
            self._chain = None

    def _needs_vocabulary(self) -> bool:
        return self.params.dry_multiplier > 0 or self.params.top_n_sigma > 0

    def _build_chain(self, vocab: int, n_ctx: int) -> C.llama_sampler_p | None:
        if self.greedy:
            return None
        p = self.params
        seed = p.seed & 0xFFFFFFFF if p.seed >= 0 else int.from_bytes(os.urandom(4), "little")
        chain = C.llama_sampler_chain_init(C.llama_sampler_chain_default_params())
        for sampler in self._samplers(vocab, n_ctx, seed):
            C.llama_sampler_chain_add(chain, sampler)
        return chain

    def _samplers(self, vocab: int, n_ctx: int, seed: int) -> list[C.llama_sampler_p]:
        p = self.params
        if p.mirostat == 1:
            draw = C.llama_sampler_init_mirostat(self._n_vocab, seed, p.mirostat_tau, p.mirostat_eta, 100)
            return [C.llama_sampler_init_temp(p.temperature), draw]
        if p.mirostat == 2:
            draw = C.llama_sampler_init_mirostat_v2(seed, p.mirostat_tau, p.mirostat_eta)
            return [C.llama_sampler_init_temp(p.temperature), draw]
        chain = self._whole_vocabulary(vocab, n_ctx) if self.full else []
        if p.typical_p < 1.0:
            chain.append(C.llama_sampler_init_typical(p.typical_p, 1))
        if p.top_p < 1.0:
            chain.append(C.llama_sampler_init_top_p(p.top_p, 1))
        if p.min_p > 0.0:
            chain.append(C.llama_sampler_init_min_p(p.min_p, 1))
        if p.xtc_probability > 0.0:
            chain.append(C.llama_sampler_init_xtc(p.xtc_probability, p.xtc_threshold, 1, seed))
        chain.append(C.llama_sampler_init_temp_ext(p.temperature, p.dynatemp_range, p.dynatemp_exponent))
        chain.append(C.llama_sampler_init_dist(seed))
        return chain

    def _whole_vocabulary(self, vocab: int, n_ctx: int) -> list[C.llama_sampler_p]:
        p = self.params
        chain = []
        if p.dry_multiplier > 0:
            breakers = [s.encode() for s in p.dry_sequence_breakers]
            last_n = n_ctx if p.dry_penalty_last_n < 0 else p.dry_penalty_last_n
            words = (ctypes.c_char_p * len(breakers))(*breakers)
            chain.append(
                C.llama_sampler_init_dry(
                    vocab, p.dry_multiplier, p.dry_base, p.dry_allowed_length, last_n, words, len(breakers)
                )
            )
        if p.top_n_sigma > 0:
            chain.append(C.llama_sampler_init_top_n_sigma(p.top_n_sigma))
        if p.top_k > 0:
            chain.append(C.llama_sampler_init_top_k(p.top_k))
        return chain


class BatchSampler:
    """Samples one token for each row of a step's logits. Owned by the loop thread; keeps its scratch memory."""

    def __init__(self, n_vocab: int) -> None:
        self._n_vocab = n_vocab
        self._ids = np.arange(n_vocab, dtype=np.int32)
        self._scratch = np.empty(n_vocab, CANDIDATE)

    def sample(self, samplers: Seq[TokenSampler], logits: Logits) -> list[int]:
        """One token id per row of `logits` (float32, rows × n_vocab, changed in place); the samplers remember it."""
        for sampler, row in zip(samplers, logits, strict=True):
            sampler.adjust(row)
        maxima = self._block_maxima(samplers, logits)
        chosen = []
        for i, sampler in enumerate(samplers):
            token = self._sample_row(sampler, logits[i], None if maxima is None else maxima[i])
            sampler.accept(token)
            chosen.append(token)
        return chosen

    def _block_maxima(self, samplers: Seq[TokenSampler], logits: Logits) -> Logits | None:
        """Maxima of the whole blocks of every row, if any row is cut by them (float32, rows × blocks)."""
        blocks = self._n_vocab // BLOCK
        wanted = any(not s.full and not s.greedy and s.params.top_k < blocks for s in samplers)
        if not wanted:
            return None
        maxima: Logits = logits[:, : blocks * BLOCK].reshape(len(samplers), BLOCK, blocks).max(axis=1)
        return maxima

    def _sample_row(self, sampler: TokenSampler, row: Logits, maxima: Logits | None) -> int:
        if sampler.greedy:
            return int(row.argmax())
        if sampler.full:
            everything = self._scratch
            everything["id"] = self._ids
            everything["logit"] = row
            return sampler.choose(everything)
        ids = self._top(row, maxima, sampler.params.top_k)
        candidates = self._scratch[: ids.size]
        candidates["id"] = ids
        candidates["logit"] = row[ids]
        return sampler.choose(candidates)

    def _top(self, row: Logits, maxima: Logits | None, k: int) -> npt.NDArray[np.intp]:
        """The ids of the k largest logits, largest first."""
        if maxima is None or k >= maxima.size:
            ids = np.argpartition(row, row.size - k)[row.size - k :] if k < row.size else np.arange(row.size)
        else:
            ids = self._above_threshold(row, maxima, k)
        order = np.argsort(-row[ids], kind="stable")[:k]
        top: npt.NDArray[np.intp] = ids[order]
        return top

    def _above_threshold(self, row: Logits, maxima: Logits, k: int) -> npt.NDArray[np.intp]:
        """Ids of a small superset of the k largest: k blocks hold a logit as large as the k-th largest maximum."""
        threshold = np.partition(maxima, maxima.size - k)[maxima.size - k]
        blocks = np.flatnonzero(maxima >= threshold)
        inside = row[: maxima.size * BLOCK].reshape(BLOCK, maxima.size).take(blocks, axis=1)
        offset, at = np.nonzero(inside >= threshold)
        ids = offset * maxima.size + blocks[at]
        tail = np.flatnonzero(row[maxima.size * BLOCK :] >= threshold)
        return np.concatenate((ids, tail + maxima.size * BLOCK)) if tail.size else ids


def _repeat_penalty(logits: Logits, penalty: float) -> Logits:
    factor = np.float32(penalty)
    return np.where(logits <= 0, logits * factor, logits / factor)
