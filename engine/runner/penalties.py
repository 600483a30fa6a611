"""The tokens that penalties look back at, and what they do to the logits of a whole step at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine.messages import Sampling

Logits = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int64]


class PenaltyWindow:
    """One sequence's last tokens, as many as its penalties look back. The order of tokens does not matter to them.

    `history` are the prompt's tokens: penalties look back into the prompt, as llama-server's do. `exempt` is a token
    that takes its place among the last ones but is never penalised; -1 for none.
    """

    __slots__ = ("_at", "_exempt", "_ring", "_size", "frequency", "presence", "repeat")

    def __init__(self, params: Sampling, last_n: int, history: Sequence[int], exempt: int) -> None:
        self.repeat = params.repeat_penalty
        self.frequency = params.frequency_penalty
        self.presence = params.presence_penalty
        self._exempt = exempt
        kept = history[max(len(history) - last_n, 0) :]
        self._ring = np.empty(last_n, np.int64)
        self._ring[: len(kept)] = kept
        self._size = len(kept)
        self._at = len(kept) % last_n

    def append(self, token: int) -> None:
        """A new token; the oldest one is forgotten when there are enough."""
        self._ring[self._at] = token
        self._at = (self._at + 1) % len(self._ring)
        self._size = min(self._size + 1, len(self._ring))

    def tokens(self) -> Tokens:
        """Those that are penalised; a token that occurred twice may be there twice, its penalty being the same."""
        found = self._ring[: self._size]
        return found[found != self._exempt] if self._exempt >= 0 else found

    def counted(self) -> tuple[Tokens, Logits]:
        """The same without doubles, and what is to be subtracted for how often each occurred."""
        tokens, counts = np.unique(self.tokens(), return_counts=True)
        return tokens, counts.astype(np.float32) * np.float32(self.frequency) + np.float32(self.presence)


def penalize(logits: Logits, recents: Sequence[tuple[int, PenaltyWindow]]) -> None:
    """Apply the penalties of several rows of `logits`, in place and in float32 arithmetic as llama.cpp's.

    `recents` are row numbers with what they look back at; `logits` must be contiguous.
    """
    if not recents:
        return
    n_vocab = logits.shape[1]
    found = [_penalties(recent) for _, recent in recents]
    sizes = [len(tokens) for tokens, _ in found]
    rows = np.repeat([row * n_vocab for row, _ in recents], sizes)
    factor = np.repeat(np.array([recent.repeat for _, recent in recents], np.float32), sizes)
    where = np.concatenate([tokens for tokens, _ in found]) + rows
    flat = logits.reshape(-1)
    before = flat[where]
    flat[where] = np.where(before <= 0, before * factor, before / factor) - np.concatenate([s for _, s in found])


def _penalties(recent: PenaltyWindow) -> tuple[Tokens, Logits]:
    if recent.frequency:
        return recent.counted()
    tokens = recent.tokens()
    return tokens, np.full(len(tokens), recent.presence, np.float32)
