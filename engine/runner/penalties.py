"""Repeat, presence and frequency penalties, applied to all rows of a step at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine.messages import Sampling

Logits = npt.NDArray[np.float32]
TokenIds = npt.NDArray[np.int64]
Numbers = Logits | np.float32


class PenaltyWindow:
    """The last `last_n` tokens of one sequence, which its penalties look at. Their order does not matter.

    It begins with the end of `history`, the prompt's tokens: as in llama-server, penalties look back into the prompt.
    `exempt` is a token that is never penalised, though it takes its place in the window; -1 for none.
    """

    __slots__ = ("_at", "_exempt", "_ring", "_room", "frequency", "presence", "repeat")

    def __init__(self, params: Sampling, last_n: int, history: Sequence[int], exempt: int) -> None:
        self.repeat = params.repeat_penalty
        self.frequency = params.frequency_penalty
        self.presence = params.presence_penalty
        self._exempt = exempt
        kept = history[max(len(history) - last_n, 0) :]
        self._ring = np.empty(last_n, np.int64)
        self._ring[: len(kept)] = kept
        self._room = last_n - len(kept)
        self._at = len(kept) % last_n

    def append(self, token: int) -> None:
        """Add a token; a full window drops its oldest."""
        ring, at = self._ring, self._at
        ring[at] = token
        self._at = at + 1 if at + 1 < len(ring) else 0
        if self._room:
            self._room -= 1

    def tokens(self) -> TokenIds:
        """The penalised tokens. Repeats may be left in: without a frequency penalty their number does not matter."""
        tokens = self._ring[: -self._room] if self._room else self._ring
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
    if len(windows) == 1 and not windows[0][1].frequency:
        row, window = windows[0]
        _penalize(logits[row], window.tokens(), np.float32(window.repeat), np.float32(window.presence))
        return
    counted = any([window.frequency for _, window in windows])  # noqa: C419 - a generator would take longer
    less: Numbers
    if counted:
        tokens, less = _counted(windows)
        sizes = [len(each) for each in tokens]
    else:
        tokens = [window.tokens() for _, window in windows]
        sizes = [len(each) for each in tokens]
        less = _spread([window.presence for _, window in windows], sizes)
    factor = _spread([window.repeat for _, window in windows], sizes)
    where = np.concatenate(tokens)
    where += np.array([row * logits.shape[1] for row, _ in windows]).repeat(sizes)
    _penalize(logits.reshape(-1), where, factor, less)


def _penalize(flat: Logits, where: TokenIds, factor: Numbers, less: Numbers) -> None:
    """Multiply the logits at these places that are at most 0, divide the others, and subtract `less` from all."""
    before = flat[where]
    larger, smaller = before * factor, before / factor
    if isinstance(factor, np.float32) and factor >= 1:  # the one that is right is the lower one
        after = np.minimum(larger, smaller)
    else:
        after = np.where(before <= 0, larger, smaller)
    flat[where] = after - less if isinstance(less, np.ndarray) or less else after


def _spread(numbers: Sequence[float], sizes: Sequence[int]) -> Numbers:
    """The number of each window beside each of its tokens; just that number if all have the same."""
    if numbers.count(numbers[0]) == len(numbers):
        return np.float32(numbers[0])
    return np.array(numbers, np.float32).repeat(sizes)


def _counted(windows: Sequence[tuple[int, PenaltyWindow]]) -> tuple[list[TokenIds], Logits]:
    """The tokens of each window, and what frequency and presence penalties subtract from each one's logit."""
    tokens, less = zip(*(_penalties(window) for _, window in windows), strict=True)
    return list(tokens), np.concatenate(less)


def _penalties(window: PenaltyWindow) -> tuple[TokenIds, Logits]:
    if window.frequency:
        return window.counted()
    tokens = window.tokens()
    return tokens, np.full(len(tokens), window.presence, np.float32)
