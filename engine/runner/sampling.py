"""Sampling: the next token of every sequence of a step, with llama.cpp's samplers on few candidates.

A llama.cpp sampler chain walks the whole vocabulary several times per sequence. Here numpy walks it once for all of
them: bias and penalties change single logits in place, and block maxima bound what can be among the top_k. Some
fifty candidates are left, and llama.cpp's chain samples from them as it would from all. Options that need the whole
vocabulary (top_k 0, Mirostat, DRY, top-n-sigma) get the chain over all of it; temperature 0 needs none.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from typing import Literal

import numpy as np
import numpy.typing as npt

from engine.messages import Sampling
from engine.runner.lazy_matcher import CallGrammar, LazyMatcher
from engine.runner.llamacpp import C
from engine.runner.logprobs import AnswerLogprobs
from engine.runner.matcher import Matcher
from engine.runner.penalties import Logits, PenaltyWindow, penalize
from engine.runner.sampler_chain import CANDIDATE, COLDEST, NO_TOKEN, SamplerChain
from engine.runner.thinking_budget import ThinkingBudget
from engine.runner.top_k import block_size, top_k_superset

__all__ = ["NO_TOKEN", "BatchSampler", "TokenSampler"]


class TokenSampler:
    """One sequence's sampling state: penalty window, grammar and llama.cpp chain. Call `close` at the end.

    `vocab` is the vocabulary's C pointer, `n_ctx` the length of the context, `history` the prompt's tokens. A `greedy`
    row needs only its largest logit, a `full` one all of them. `penalty_window` is None without penalties, `grammar`
    None for free text, `thinking` None without a limit to the reasoning, `logprobs`, which get each row before it is
    changed, None if nobody asks.
    """

    def __init__(
        self,
        params: Sampling,
        vocab: int,
        n_vocab: int,
        n_ctx: int,
        history: Seq[int],
        grammar: Matcher | LazyMatcher | None = None,
        thinking: ThinkingBudget | None = None,
        logprobs: AnswerLogprobs | None = None,
    ) -> None:
        self.params = params
        self._vocab = vocab
        self.grammar = grammar
        self.thinking = thinking
        self.logprobs = logprobs
        cold = params.temperature <= COLDEST
        mirostat = params.mirostat in (1, 2)
        self._dry = params.dry_multiplier > 0 and not mirostat
        self.greedy = cold and not self._dry
        needs_all = mirostat or self._dry or params.top_n_sigma > 0
        block = block_size(n_vocab, params.top_k)
        self.full = not self.greedy and (needs_all or block == 0)
        self.block = block
        self.bias = _bias(params, vocab, n_vocab)
        self.penalty_window = _penalty_window(params, vocab, n_ctx, history)
        self._chain = None if self.greedy else SamplerChain(params, vocab, n_vocab, n_ctx)
        if self._dry:
            for token in history:
                self._accept_in_chain(token)

    @property
    def plain(self) -> bool:
        """Whether nothing but penalties and chain is to be done for a row."""
        return self.grammar is None and self.bias is None and self.logprobs is None and self.thinking is None

    @property
    def waits(self) -> bool:
        """Whether the next token must suit a grammar that is not there yet."""
        return self.grammar is not None and isinstance(self.grammar, LazyMatcher) and self.grammar.waits

    def set_call_grammar(self, grammar: CallGrammar | None) -> None:
        """Use this grammar for calls, or none."""
        if isinstance(self.grammar, LazyMatcher):
            if grammar is None:
                self.grammar = None
            else:
                self.grammar.set_grammar(grammar)

    @property
    def holds_call(self) -> bool:
        """Whether the last token belongs to a call that is held to a grammar."""
        return self.grammar is not None and isinstance(self.grammar, LazyMatcher) and self.grammar.held

    @property
    def constrained(self) -> bool:
        """Whether the next token must suit a grammar."""
        return self.grammar is not None and self.grammar.awake

    @property
    def finished(self) -> bool:
        """Whether the grammar is complete and allows no further token."""
        return self.grammar is not None and self.grammar.finished

    @property
    def end_reason(self) -> Literal["stop", "length"]:
        """Why the answer ends if it ends now; "length" if its grammar had to force the end, or is not complete."""
        return "length" if self.grammar is not None and self.grammar.cut_short else "stop"

    @property
    def fault(self) -> str:
        """Why the grammar allows no token; "" as long as it does."""
        return "" if self.grammar is None else self.grammar.fault

    def accept(self, token: int) -> int:
        """Record the sampled token. Returns it, or the one that the grammar puts in its place."""
        if self.grammar is not None:
            token = self.grammar.accept(token)
        if self.thinking is not None:
            self.thinking.accept(token)
        if self._dry:
            self._accept_in_chain(token)
        if self.penalty_window is not None:
            self.penalty_window.append(token)
        return token

    def set_budget(self, tokens: int) -> None:
        """Set how many tokens more the answer may have, for a grammar that leads it to its end."""
        if isinstance(self.grammar, Matcher):
            self.grammar.set_budget(tokens)

    def set_context(self, n_ctx: int, history: Seq[int]) -> None:
        """Let penalties look back over a context of another length. `history`: the tokens of prompt and answer."""
        self.penalty_window = _penalty_window(self.params, self._vocab, n_ctx, history)
        if self._dry:
            assert self._chain is not None
            self._chain.replace_dry(self._vocab, n_ctx, history)

    def leave_loop(self) -> bool:
        """Let the grammar lead an answer that repeats itself to its end; False if the answer should end now."""
        return self.grammar is not None and self.grammar.leave_loop()

    def find_first_end(self) -> Iterator[None]:
        """What the grammar does before the first token; see `Matcher.find_first_end`."""
        if isinstance(self.grammar, Matcher):
            yield from self.grammar.find_first_end()

    def choose(self, address: int, size: int) -> int:
        """Run the chain; see `SamplerChain.choose`."""
        assert self._chain is not None
        return self._chain.choose(address, size)

    def close(self) -> None:
        """Free the chain; the sampler must not be used afterwards."""
        if self._chain is not None:
            self._chain.close()

    def _accept_in_chain(self, token: int) -> None:
        assert self._chain is not None
        self._chain.accept(token)


class BatchSampler:
    """Samples one token for each row of a step's logits. Owned by the loop thread; keeps its scratch memory."""

    def __init__(self, n_vocab: int) -> None:
        self._n_vocab = n_vocab
        self._scratch = np.empty(n_vocab, CANDIDATE)
        self._ids = np.arange(n_vocab, dtype=np.int32)

    def sample(self, samplers: Seq[TokenSampler], logits: Logits) -> list[int]:
        """One token id per row of `logits` (float32, rows × n_vocab, changed in place); the samplers record it.

        NO_TOKEN for a row with NaN, or whose grammar allows nothing.
        """
        special = [(row, sampler) for row, sampler in enumerate(samplers) if not sampler.plain]
        for row, sampler in special:
            if sampler.logprobs is not None:
                sampler.logprobs.keep(logits[row])
            if sampler.bias is not None:
                logits[row, sampler.bias[0]] += sampler.bias[1]
        penalize(logits, [(row, s.penalty_window) for row, s in enumerate(samplers) if s.penalty_window is not None])
        for row, sampler in special:
            if sampler.thinking is not None:
                _hold_to_budget(sampler.thinking, logits[row])
            if sampler.grammar is not None and sampler.grammar.awake:
                sampler.grammar.restrict(logits[row])
        chosen = [NO_TOKEN] * len(samplers)
        cut = []
        for row, sampler in enumerate(samplers):
            if sampler.greedy:
                chosen[row] = _largest(logits[row])
            elif sampler.full:
                chosen[row] = self._sample_all(sampler, logits[row])
            else:
                cut.append(row)
        if cut:
            self._sample_cut(samplers, logits, cut, chosen)
        return [
            token if token == NO_TOKEN else sampler.accept(token)
            for sampler, token in zip(samplers, chosen, strict=True)
        ]

    def _sample_cut(self, samplers: Seq[TokenSampler], logits: Logits, rows: list[int], chosen: list[int]) -> None:
        """Sample the rows for which candidates for their top_k suffice, into `chosen`."""
        part = logits if len(rows) == len(samplers) else logits[rows]
        cut = [samplers[row] for row in rows]
        block, k = min([sampler.block for sampler in cut]), max([sampler.params.top_k for sampler in cut])
        flat = top_k_superset(part, block, k)
        bounds = flat.searchsorted(np.arange(len(rows) + 1) * self._n_vocab).tolist()
        candidates = np.empty(flat.size, CANDIDATE)
        candidates["id"] = flat % self._n_vocab
        candidates["logit"] = part.reshape(-1)[flat]
        address = candidates.ctypes.data
        for row, sampler, start, end in zip(rows, cut, bounds[:-1], bounds[1:], strict=True):
            chosen[row] = sampler.choose(address + start * CANDIDATE.itemsize, end - start)

    def _sample_all(self, sampler: TokenSampler, row: Logits) -> int:
        """Sample one row from its whole vocabulary."""
        if np.isnan(row.max()):
            return NO_TOKEN
        if sampler.constrained:
            return self._sample_allowed(sampler, row)
        self._scratch["id"] = self._ids
        self._scratch["logit"] = row
        return sampler.choose(self._scratch.ctypes.data, self._n_vocab)

    def _sample_allowed(self, sampler: TokenSampler, row: Logits) -> int:
        """Sample from the tokens that the grammar allows: some samplers would count the others too."""
        allowed = np.flatnonzero(row > -np.inf)
        candidates = self._scratch[: len(allowed)]
        candidates["id"] = allowed
        candidates["logit"] = row[allowed]
        return sampler.choose(candidates.ctypes.data, len(allowed))


def _hold_to_budget(budget: ThinkingBudget, row: Logits) -> None:
    """Leave only the token that ends the reasoning, or drop the one that would end it again."""
    if budget.forced is not None:
        row.fill(-np.inf)
        row[budget.forced] = 0
    elif budget.banned is not None:
        row[budget.banned] = -np.inf


def _largest(row: Logits) -> int:
    token = int(row.argmax())
    return token if row[token] > -np.inf else NO_TOKEN


def _bias(params: Sampling, vocab: int, n_vocab: int) -> tuple[npt.NDArray[np.int64], Logits] | None:
    """Tokens and what is added to their logits: the request's `logit_bias`, and -inf for suppressed tokens."""
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


def _penalty_window(params: Sampling, vocab: int, n_ctx: int, history: Seq[int]) -> PenaltyWindow | None:
    on = params.repeat_penalty != 1.0 or params.frequency_penalty != 0.0 or params.presence_penalty != 0.0
    last_n = n_ctx if params.repeat_last_n < 0 else min(params.repeat_last_n, n_ctx)
    if not on or not last_n:
        return None
    return PenaltyWindow(params, last_n, history, -1 if params.penalize_newline else C.llama_vocab_nl(vocab))
