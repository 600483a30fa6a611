"""Token budget for prefill per step, so that a long prompt does not stall the answers beside it."""

from __future__ import annotations

SHARED_GOAL = 0.4  # seconds that a step should take while others wait for it
ALONE_GOAL = 2.0  # seconds of a step that nobody waits for; a request that arrives meanwhile waits for its end
FIRST_GUESS = 128  # tokens, before any pass was measured
SMALLEST = 64  # tokens; smaller chunks cost more per token
MEASURABLE = 16  # tokens; shorter prefills say nothing about the rate
SMOOTHING = 0.3  # weight of the newest measurement


class PrefillBudget:
    """Measures the prefill rate (tokens/s) and sizes chunks by it, `n_batch` tokens at most. Owned by the loop thread.

    `shared_goal`: seconds that a step should take while others wait for it.
    """

    def __init__(self, n_batch: int, shared_goal: float = SHARED_GOAL) -> None:
        self._n_batch = n_batch
        self._shared_goal = shared_goal
        self._rate = 0.0  # tokens per second

    def chunk(self, *, crowded: bool) -> int:
        """Prompt tokens for the next step; `crowded`: others wait for this step to end."""
        if not self._rate:
            return min(FIRST_GUESS, self._n_batch)
        goal = self._shared_goal if crowded else ALONE_GOAL
        return min(max(int(self._rate * goal), SMALLEST), self._n_batch)

    def measured(self, tokens: int, seconds: float) -> None:
        """Record that a pass over `tokens` tokens, most of them prompt, took so many seconds."""
        if tokens < MEASURABLE or seconds <= 0:
            return
        rate = tokens / seconds
        self._rate = rate if not self._rate else self._rate + SMOOTHING * (rate - self._rate)
