"""Choosing the next token of every sequence of a step, with llama.cpp's own samplers on few candidates.

llama.cpp's chain, run per sequence, walks the whole vocabulary several times. Here numpy walks it once for all
sequences: bias and penalties touch only the tokens that they concern, in place; the maxima of blocks give a bound
below which nothing can be among the top_k; what is left, some fifty tokens, is llama.cpp's chain. The result is that
of the full chain. Options that need the whole vocabulary (top_k 0, Mirostat, DRY, top-n-sigma) get the chain over
all of it; temperature 0 needs no chain.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence as Seq
from typing import Literal

import numpy as np
import numpy.typing as npt

from engine.messages import Sampling
from engine.runner.llamacpp import C
from engine.runner.matcher import Matcher
from engine.runner.penalties import Logits, PenaltyWindow, penalize
from engine.runner.sampler_chain import CANDIDATE, NothingToChoose, SamplerChain

BLOCK = 128  # logits per maximum, at most
BLOCKS_PER_CANDIDATE = 4  # blocks that there must be for each wanted candidate, or the bound is a poor one
NO_TOKEN = -1  # as llama.cpp says it
LOWEST = np.finfo(np.float32).min  # of a token that has a chance at all
COLDEST = 1e-6  # a temperature of no more than this is zero: logits divided by less are no numbers any more


class TokenSampler:
    """The sampling state of one sequence: what it has said recently and its llama.cpp chain with its random numbers.

    `vocab` is the C pointer of the model's vocabulary, `history` are the prompt's tokens. `greedy` rows need only
    their largest logit, `full` ones all of them; `recent` is None without penalties, `grammar` where every text will
    do. Call `close` at the end.
    """

    def __init__(
        self,
        params: Sampling,
        vocab: int,
        n_vocab: int,
        n_ctx: int,
        history: Seq[int],
        grammar: Matcher | None = None,
    ) -> None:
        self.params = params
        self.grammar = grammar
        self.greedy = params.temperature <= COLDEST
        needs_all = params.mirostat in (1, 2) or params.dry_multiplier > 0 or params.top_n_sigma > 0
        block = _block_size(n_vocab, params.top_k)
        self.full = not self.greedy and (needs_all or block == 0)
        self.block = block
        self.bias = _bias(params, vocab, n_vocab)
        self.recent = _recent(params, vocab, n_ctx, history)
        self._dry = not self.greedy and params.dry_multiplier > 0
        self._chain = None if self.greedy else SamplerChain(params, vocab, n_vocab, n_ctx)
        if self._dry:
            for token in history:
                self._accept_in_chain(token)

    @property
    def finished(self) -> bool:
        """Whether the grammar lets nothing follow."""
        return self.grammar is not None and self.grammar.finished

    @property
    def end_reason(self) -> Literal["stop", "length"]:
        """Why the answer ends, if it does now: of itself, or because it was made to."""
        return "length" if self.grammar is not None and self.grammar.cut_short else "stop"

    @property
    def fault(self) -> str:
        """Why the grammar allows no token, "" if it does."""
        return "" if self.grammar is None else self.grammar.fault

    def accept(self, token: int) -> int:
        """Remember the token that was chosen, or the one that the grammar has in its place; which one it is."""
        if self.grammar is not None:
            token = self.grammar.accept(token)
        if self._dry:
            self._accept_in_chain(token)
        if self.recent is not None:
            self.recent.append(token)
        return token

    def force_end(self) -> bool:
        """Lead the answer to an end that its grammar allows; False where there is none to go for."""
        return self.grammar is not None and self.grammar.force_end()

    def choose(self, address: int, size: int) -> int:
        """Run the chain over candidates at a memory address; see `SamplerChain.choose`."""
        assert self._chain is not None
        return self._chain.choose(address, size)

    def close(self) -> None:
        """Free the chain. The sampler must not be used afterwards."""
        if self._chain is not None:
            self._chain.close()

    def _accept_in_chain(self, token: int) -> None:
        assert self._chain is not None
        self._chain.accept(token)


class BatchSampler:
    """Samples one token for each row of a step's logits. Owned by the loop thread; keeps its scratch memory."""

    def __init__(self, n_vocab: int) -> None:
        self._n_vocab = n_vocab
        self._everything = np.empty(n_vocab, CANDIDATE)
        self._ids = np.arange(n_vocab, dtype=np.int32)

    def sample(self, samplers: Seq[TokenSampler], logits: Logits) -> list[int]:
        """One token id per row of `logits` (float32, rows × n_vocab, changed in place); the samplers remember it.

        NO_TOKEN for a row of numbers that are none, or whose grammar allows nothing.
        """
        for row, sampler in enumerate(samplers):
            if sampler.bias is not None:
                logits[row, sampler.bias[0]] += sampler.bias[1]
        penalize(logits, [(row, s.recent) for row, s in enumerate(samplers) if s.recent is not None])
        for row, sampler in enumerate(samplers):
            if sampler.grammar is not None:
                sampler.grammar.restrict(logits[row])
        chosen = [NO_TOKEN] * len(samplers)
        self._sample_cut(samplers, logits, chosen)
        for row, sampler in enumerate(samplers):
            if sampler.greedy:
                chosen[row] = _largest(logits[row])
            elif sampler.full:
                chosen[row] = self._sample_all(sampler, logits[row])
        return [
            token if token == NO_TOKEN else sampler.accept(token)
            for sampler, token in zip(samplers, chosen, strict=True)
        ]

    def _sample_cut(self, samplers: Seq[TokenSampler], logits: Logits, chosen: list[int]) -> None:
        """The rows that need only candidates which may be among their top_k."""
        rows = [row for row, s in enumerate(samplers) if not s.greedy and not s.full]
        if not rows:
            return
        part = logits if len(rows) == len(samplers) else logits[rows]
        flat = _possible(
            part, min(samplers[row].block for row in rows), max(samplers[row].params.top_k for row in rows)
        )
        bounds = np.searchsorted(flat, np.arange(len(rows) + 1) * self._n_vocab).tolist()
        candidates = np.empty(len(flat), CANDIDATE)
        candidates["id"] = flat % self._n_vocab
        candidates["logit"] = part.reshape(-1)[flat]
        address = candidates.ctypes.data
        for i, row in enumerate(rows):
            start, end = bounds[i], bounds[i + 1]
            chosen[row] = _choose(samplers[row], address + start * CANDIDATE.itemsize, end - start)

    def _sample_all(self, sampler: TokenSampler, row: Logits) -> int:
        if np.isnan(row.max()):
            return NO_TOKEN
        if sampler.grammar is not None:
            return self._sample_allowed(sampler, row)
        self._everything["id"] = self._ids
        self._everything["logit"] = row
        return _choose(sampler, self._everything.ctypes.data, self._n_vocab)

    def _sample_allowed(self, sampler: TokenSampler, row: Logits) -> int:
        """As `_sample_all` for a row with a grammar: some samplers count what has no chance as well."""
        allowed = np.flatnonzero(row > -np.inf)
        candidates = self._everything[: len(allowed)]
        candidates["id"] = allowed
        candidates["logit"] = row[allowed]
        return _choose(sampler, candidates.ctypes.data, len(allowed))


def _possible(logits: Logits, block: int, k: int) -> npt.NDArray[np.intp]:
    """Flat indexes of a small superset of each row's k largest: k blocks hold a logit as large as the k-th maximum.

    A block is every n-th logit of a row, so that the maxima are those of columns, which numpy vectorises.
    """
    n_rows, n_vocab = logits.shape
    n_blocks = n_vocab // block
    maxima = logits[:, : n_blocks * block].reshape(n_rows, block, n_blocks).max(axis=1)
    bound = np.partition(maxima, n_blocks - k, axis=1)[:, n_blocks - k]
    return np.flatnonzero(logits >= np.maximum(bound, LOWEST)[:, None])


def _block_size(n_vocab: int, k: int) -> int:
    """The largest block that leaves enough blocks to tell k candidates from the rest; 0 if there is none."""
    if k <= 0:
        return 0
    block = BLOCK
    while block > 1 and n_vocab // block < k * BLOCKS_PER_CANDIDATE:
        block //= 2
    return block if n_vocab // block >= k * BLOCKS_PER_CANDIDATE else 0


def _choose(sampler: TokenSampler, address: int, size: int) -> int:
    try:
        return sampler.choose(address, size)
    except NothingToChoose:
        return NO_TOKEN


def _largest(row: Logits) -> int:
    token = int(row.argmax())
    return token if row[token] > -np.inf else NO_TOKEN


def _bias(params: Sampling, vocab: int, n_vocab: int) -> tuple[npt.NDArray[np.int64], Logits] | None:
    """Tokens and what is added to their logits: the request's wish, and the tokens that a model must never say."""
    amounts: dict[int, float] = {}
    for token, amount in params.logit_bias:
        if 0 <= token < n_vocab:
            amounts[token] = amounts.get(token, 0.0) + amount
    n_suppressed = ctypes.c_int32()
    suppressed = C.llama_vocab_get_suppress_tokens(vocab, n_suppressed)
    for i in range(n_suppressed.value):
        amounts[suppressed[i]] = -np.inf
    if not amounts:
        return None
    return np.array(list(amounts), np.int64), np.array(list(amounts.values()), np.float32)


def _recent(params: Sampling, vocab: int, n_ctx: int, history: Seq[int]) -> PenaltyWindow | None:
    on = params.repeat_penalty != 1.0 or params.frequency_penalty != 0.0 or params.presence_penalty != 0.0
    last_n = n_ctx if params.repeat_last_n < 0 else min(params.repeat_last_n, n_ctx)
    if not on or not last_n:
        return None
    return PenaltyWindow(params, last_n, history, -1 if params.penalize_newline else C.llama_vocab_nl(vocab))
