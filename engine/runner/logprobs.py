"""Log-probabilities of the tokens of answers and prompts, for requests that ask. All of it runs on the loop thread."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from engine.messages import ScoredToken
from engine.runner.detokenizer import IncrementalDetokenizer
from engine.runner.penalties import Logits
from engine.runner.top_k import block_size, top_k_superset

IMPOSSIBLE = -9999.0  # the log-probability of tokens that cannot come: JSON has no -inf


class AnswerLogprobs:
    """The log-probabilities of one answer, each held back as long as the text of its token.

    For each token call `keep`, sample, then `add`. `piece` gives the bytes of a token, `top` is how many of the
    likeliest tokens are listed beside each one.
    """

    def __init__(self, piece: Callable[[int], bytes], top: int) -> None:
        self._piece = piece
        self._top = top
        self._row: Logits = np.empty(0, np.float32)
        self._held: deque[tuple[int, ScoredToken]] = deque()  # with the index of the first character of each
        self._shown = 0  # characters
        self._decoded = 0  # characters, those held back included

    def keep(self, logits: Logits) -> None:
        """Copy one row of logits as the model gave them: sampling will change them."""
        if self._row.size != logits.size:
            self._row = np.empty_like(logits)
        np.copyto(self._row, logits)

    def add(self, token: int, text: str, detokenizer: IncrementalDetokenizer) -> tuple[ScoredToken, ...]:
        """Score the token that was accepted; returns the entries that may be shown now, with `text`.

        `text` is what the detokenizer, which was fed the token, shows now. A token of which a part is shown counts as
        shown; the tokens of a stop string never come out.
        """
        self._held.append((self._decoded, scored(self._row, token, self._piece, self._top)))
        self._shown += len(text)
        self._decoded = self._shown + detokenizer.n_held
        if detokenizer.settled:
            return self.flush()
        shown = []
        while self._held and self._held[0][0] < self._shown:
            shown.append(self._held.popleft()[1])
        return tuple(shown)

    def flush(self) -> tuple[ScoredToken, ...]:
        """All entries held back."""
        entries = tuple(entry for _, entry in self._held)
        self._held.clear()
        return entries


class PromptLogprobs:
    """The log-probabilities of a prompt's `tokens`; `entries` are those of the tokens so far.

    `piece` gives the bytes of a token, `top` is how many of the likeliest tokens are listed beside each one.
    """

    def __init__(self, tokens: Sequence[int], piece: Callable[[int], bytes], top: int) -> None:
        self._tokens = tokens
        self._piece = piece
        self._top = top
        self.entries = [ScoredToken(piece(tokens[0]), math.nan)]

    def add(self, start: int, rows: Logits) -> None:
        """Score the tokens behind those at `start` and after, whose logits are `rows`; again, if they were before."""
        del self.entries[start + 1 :]
        for token, row in zip(self._tokens[start + 1 :], rows, strict=False):
            self.entries.append(scored(row, token, self._piece, self._top))


def scored(logits: Logits, token: int, piece: Callable[[int], bytes], top: int) -> ScoredToken:
    """The entry of a token whose place has these logits, with the `top` likeliest tokens."""
    logprobs = log_softmax(logits)
    others = tuple((piece(other), float(logprobs[other])) for other in likeliest(logprobs, top))
    return ScoredToken(piece(token), float(logprobs[token]), others)


def log_softmax(logits: Logits) -> Logits:
    """The natural logarithms of the softmax of one row; what is no number or less is IMPOSSIBLE."""
    shifted: Logits = logits - logits.max()
    shifted -= np.log(np.exp(shifted).sum())
    return np.fmax(shifted, np.float32(IMPOSSIBLE), out=shifted)


def likeliest(row: Logits, k: int) -> npt.NDArray[np.intp]:
    """The indexes of the k largest numbers of one row, in descending order; of equal ones the first come first."""
    if not k:
        return np.empty(0, np.intp)
    block = block_size(row.size, k)
    candidates = top_k_superset(row[None], block, k) if block else np.arange(row.size)
    return candidates[np.argsort(-row[candidates], kind="stable")[:k]]
