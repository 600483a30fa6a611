"""What a request that asks for it is told before its answer begins."""

from __future__ import annotations

import math

from engine.messages import PromptProgress, QueuePlace

INTERVAL = 0.1  # seconds between two messages about a prompt, at least; the last one need not wait


class ProgressNews:
    """The news of one request: nothing is told twice."""

    def __init__(self) -> None:
        self._place = 0
        self._processed = -1
        self._told = -math.inf

    def place(self, request_id: int, place: int) -> QueuePlace | None:
        """The message that it waits as number `place`, if that is new."""
        if place == self._place:
            return None
        self._place = place
        return QueuePlace(request_id, place)

    def prompt(
        self, request_id: int, processed: int, cached: int, total: int, begun: float, now: float
    ) -> PromptProgress | None:
        """The message that so many tokens of its prompt are computed, if it is time for that.

        `begun` and `now` are in `time.perf_counter` seconds, `begun` is 0 before the first pass.
        """
        if processed == self._processed or (processed < total and now < self._told + INTERVAL):
            return None
        self._processed, self._told, self._place = processed, now, 0
        return PromptProgress(request_id, processed, cached, total, round((now - begun) * 1e9) if begun else 0)
