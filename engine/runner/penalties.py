"""Repeat, presence and frequency penalties, applied to all rows of a step at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine.messages import Sampling

Logits = npt.NDArray[np.float32]
TokenIds = npt.NDArray[np.int64]


class PenaltyWindow:
    """The last `last_n` tokens of one sequence, which its penalties look at. Their order does not matter.

    It begins with the end of `history`, the prompt's tokens: as in llama-server, penalties look back into the prompt.
    `exempt` is a token that is never penalised, though it takes its place in the window; -1 for none.
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
        """Add a token; a full window drops its oldest."""
        self._ring[self._at] = token
        self._at = (self._at + 1) % len(self._ring)
        self._size = min(self._size + 1, len(self._ring))

    def tokens(self) -> TokenIds:
        """The penalised tokens. Repeats may be left in: without a frequency penalty their number does not matter."""
        tokens = self._ring[: self._size]
        return tokens[tokens != self._exempt] if self._exempt >= 0 else tokens

    def counted(self) -> tuple[TokenIds, Logits]:
        """Distinct tokens, and what frequency and presence penalties subtract from each one's logit."""
        tokens, counts = np.unique(self.tokens(), return_counts=True)
        return tokens, counts.astype(np.float32) * np.float32(self.frequency) + np.float32(self.presence)


def penalize(logits: Logits, windows: Sequence[tuple[int, PenaltyWindow]]) -> None:
    """Apply penalties in place, in float32 as llama.cpp does; `logits` (rows × n_vocab) must be contiguous.

    `windows` are (row, window) pairs; rows without penalties are left out.
    """
    if not windows:
        return
    n_vocab = logits.shape[1]
    penalties = [_penalties(window) for _, window in windows]
    sizes = [len(tokens) for tokens, _ in penalties]
    rows = np.repeat([row * n_vocab for row, _ in windows], sizes)
    factor = np.repeat(np.array([window.repeat for _, window in windows], np.float32), sizes)
    where = np.concatenate([tokens for tokens, _ in penalties]) + rows
    flat = logits.reshape(-1)
    before = flat[where]
    flat[where] = np.where(before <= 0, before * factor, before / factor) - np.concatenate([s for _, s in penalties])


def _penalties(window: PenaltyWindow) -> tuple[TokenIds, Logits]:
    if window.frequency:
        return window.counted()
    tokens = window.tokens()
    return tokens, np.full(len(tokens), window.presence, np.float32)
