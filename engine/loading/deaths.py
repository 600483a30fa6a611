"""Deaths of loaded models' processes: how many there were lately, and whether memory was short. No timers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from engine.loading.control_group import oom_kills

WINDOW: Final = 60.0  # seconds that a death counts
TOLD: Final = 3  # deaths in that time from which users read of all of them


class Deaths:
    """The processes of loaded models that have ended by themselves, by the model's key. Owned by the event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: dict[str, deque[float]] = {}

    def note(self, key: str) -> None:
        """A process has just ended."""
        self._times.setdefault(key, deque()).append(self._clock())

    def lately(self, key: str) -> tuple[int, float]:
        """How many have ended in the last minute, and the seconds from the first of them to the last."""
        now = self._clock()
        for other, times in list(self._times.items()):
            while times and times[0] < now - WINDOW:
                times.popleft()
            if not times:
                del self._times[other]
        times = self._times.get(key, deque())
        return len(times), times[-1] - times[0] if times else 0.0

    def told(self, key: str) -> str:
        """What users read of a model whose processes end again and again; "" if they do not."""
        count, seconds = self.lately(key)
        if count < TOLD:
            return ""
        return f"{count} processes of this model have ended in {seconds:.0f} s; each time it is loaded again"


class OutOfMemoryKills:
    """Whether the system has killed for want of memory lately, by its own counters."""

    def __init__(self, count: Callable[[], int | None] = oom_kills) -> None:
        self._count = count
        self._known: int | None = None

    def begin(self) -> None:
        """A process starts: from now on kills count."""
        if self._known is None:
            self._known = self._count()

    def struck(self) -> bool:
        """Whether there was one since the last look. Systems that do not count have none."""
        before, self._known = self._known, self._count()
        return before is not None and self._known is not None and self._known > before


OUT_OF_MEMORY_KILLS: Final = OutOfMemoryKills()
