"""How much of the prompts one step takes, so that a long prompt does not stall the streams beside it."""

from __future__ import annotations

SHARED_GOAL = 0.4  # seconds that a step with somebody else waiting on it should take
ALONE_GOAL = 2.0  # seconds of a step that nobody waits for; who comes meanwhile waits for its end
FIRST_GUESS = 128  # tokens, before any pass was measured
SMALLEST = 64  # tokens; fewer at once cost more for each
MEASURABLE = 16  # tokens; shorter prefills say nothing about the rate
SMOOTHING = 0.3


class PrefillBudget:
    """Measures the prefill rate of this model on this machine and sizes the chunks. Owned by the loop thread.

    `shared_goal`: seconds that a step should take while others wait for its end.
    """

    def __init__(self, n_batch: int, shared_goal: float = SHARED_GOAL) -> None:
        self._n_batch = n_batch
        self._shared_goal = shared_goal
        self._rate = 0.0  # tokens per second

    def chunk(self, *, crowded: bool) -> int:
        """Prompt tokens for the next step; `crowded` when anybody else waits for this step to end."""
        if not self._rate:
            return min(FIRST_GUESS, self._n_batch)
        goal = self._shared_goal if crowded else ALONE_GOAL
        return min(max(int(self._rate * goal), SMALLEST), self._n_batch)

    def measured(self, tokens: int, seconds: float) -> None:
        """A pass over this many tokens, most of them prompt, took this long."""
        if tokens < MEASURABLE or seconds <= 0:
            return
        rate = tokens / seconds
        self._rate = rate if not self._rate else self._rate + SMOOTHING * (rate - self._rate)
