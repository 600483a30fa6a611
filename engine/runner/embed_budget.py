"""How many tokens of texts a pass of the embed loop has, so that it does not stall the answers beside it."""

from __future__ import annotations

SHARED_GOAL = 0.1  # seconds that a pass should take while answers wait for its end
ALONE_GOAL = 2.0  # seconds of a pass that nobody waits for; a request that arrives meanwhile waits for its end
FIRST_GUESS = 128  # tokens, before any pass was measured
SMALLEST = 64  # tokens; smaller chunks cost more per token
MEASURABLE = 16  # tokens; shorter passes say nothing about the rate
SMOOTHING = 0.3  # weight of the newest measurement


class EmbedBudget:
    """Measures the rate (tokens/s) and sizes passes by it, `n_batch` tokens at most. Owned by the loop thread."""

    def __init__(self, n_batch: int) -> None:
        self._n_batch = n_batch
        self._rate = 0.0  # tokens per second

    def tokens(self, *, crowded: bool) -> int:
        """How many the next pass may have; `crowded`: answers wait for its end."""
        if not self._rate:
            return min(FIRST_GUESS, self._n_batch)
        goal = SHARED_GOAL if crowded else ALONE_GOAL
        return min(max(int(self._rate * goal), SMALLEST), self._n_batch)

    def measured(self, tokens: int, seconds: float) -> None:
        """Record that a pass over so many tokens took so many seconds."""
        if tokens < MEASURABLE or seconds <= 0:
            return
        rate = tokens / seconds
        self._rate = rate if not self._rate else self._rate + SMOOTHING * (rate - self._rate)
