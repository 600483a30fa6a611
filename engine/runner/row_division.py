"""Whether a few rows are computed in one pass or in a pass each, by what either took on this machine."""

from __future__ import annotations

from collections import deque
from statistics import median

MOST_ROWS = 4  # more are always faster together
TRIES = 3  # steps whose median counts
LOOK_AGAIN = 500  # steps after which the other way is tried anew: texts have become longer, or cores are taken
LEAST_SECONDS = 0.01  # of a step; what takes less is mostly the work around a pass
WORTH = 0.95  # of the time together; apart must take no more


class RowDivision:
    """Owned by the loop thread.

    One row is multiplied with the weights in another way than several. On some processors two rows take three times as
    long as one, and are faster one after the other.
    """

    def __init__(self) -> None:
        self._together: dict[int, deque[float]] = {}
        self._apart: dict[int, deque[float]] = {}
        self._steps: dict[int, int] = {}

    def apart(self, rows: int) -> bool:
        """Whether the next step computes so many rows in a pass each."""
        if not 2 <= rows <= MOST_ROWS:
            return False
        together, apart = self._together.get(rows, ()), self._apart.get(rows, ())
        if len(together) < TRIES or median(together) < LEAST_SECONDS:
            return False
        if len(apart) < TRIES:
            return True
        is_faster = median(apart) <= WORTH * median(together)
        return is_faster != (self._steps[rows] % LOOK_AGAIN < TRIES)

    def measured(self, rows: int, seconds: float, *, apart: bool) -> None:
        """Record how long a step took to compute so many rows and choose their tokens."""
        if not 2 <= rows <= MOST_ROWS:
            return
        times = self._apart if apart else self._together
        times.setdefault(rows, deque(maxlen=TRIES)).append(seconds)
        # Counted from the end of the first tries, so that these are not followed by others at once.
        tried = len(self._apart.get(rows, ())) == TRIES
        self._steps[rows] = self._steps.get(rows, TRIES - 1) + 1 if tried else TRIES - 1
