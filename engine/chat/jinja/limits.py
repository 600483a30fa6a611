"""What templates may use, and a circuit breaker for those that used more. Pure; the clock is an argument.

A template may be hostile, or harmless and given a huge conversation. So the breaker trips for a size: that of the
request that exceeded its budget, and all that are as large. It resets after a while, twice as long each time.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

REMEMBERED = 4096  # templates
FIRST_RESET = 60.0  # seconds until a tripped breaker resets, doubled each time
LONGEST_RESET = 3600.0
SMALL = 64 << 10  # bytes of a request; a template that is slow for so few is slow for any

Lane = Literal["quick", "slow", "refused"]


@dataclass(frozen=True, slots=True)
class RenderLimits:
    """Seconds of CPU time for one rendering.

    `quick` in a quick process, `first` if that must compile the template. A slow process has `first` for a short
    conversation, `per_part` for each message and tool of a long one (templates may look at all messages for each),
    `most` at most. The service waits `patience` and ten times the CPU time, however little a process got to run.
    """

    quick: float = 0.25
    first: float = 1.0
    per_part: float = 0.01
    most: float = 15.0
    patience: float = 10.0

    def allowance(self, parts: int) -> float:
        """The CPU time in seconds that a conversation of so many messages and tools may take."""
        return min(max(self.first, self.per_part * parts), self.most)


@dataclass(slots=True)
class _Record:
    """Sizes are bytes of a request. At `resets_at` all but `proven` and `trips` is forgotten."""

    proven: bool = False
    slow_from: float = math.inf
    refused_from: float = math.inf
    reason: str = ""
    trips: int = 0
    resets_at: float = 0.0


class CircuitBreaker:
    """How each of the last REMEMBERED templates has behaved, by its key. `now` is in seconds."""

    def __init__(self) -> None:
        self._records: OrderedDict[bytes, _Record] = OrderedDict()

    def lane(self, key: bytes, size: int, now: float) -> Lane:
        """Where to render a request of `size` bytes."""
        record = self._record(key, now)
        if size >= record.refused_from:
            return "refused"
        return "slow" if size >= record.slow_from else "quick"

    def reason(self, key: bytes) -> str:
        """Why this template's requests are refused."""
        return self._records[key].reason

    def is_proven(self, key: bytes) -> bool:
        """Whether the template has ever rendered within its budget."""
        return key in self._records and self._records[key].proven

    def record_success(self, key: bytes, now: float) -> None:
        """The template has rendered within its budget."""
        self._record(key, now).proven = True

    def trip_slow(self, key: bytes, size: int, now: float) -> None:
        """A request of `size` bytes exceeded a quick process's budget: from now on such requests are rendered apart."""
        record = self._tripped(key, now)
        record.slow_from = min(record.slow_from, 0 if size <= SMALL else size / 2)

    def trip_refused(self, key: bytes, size: int, reason: str, now: float) -> None:
        """A request of `size` bytes exceeded the largest budget there is: from now on such requests are refused."""
        record = self._tripped(key, now)
        record.refused_from = min(record.refused_from, 0 if size <= SMALL else size)
        record.reason = reason

    def _tripped(self, key: bytes, now: float) -> _Record:
        record = self._record(key, now)
        record.resets_at = now + min(FIRST_RESET * 2**record.trips, LONGEST_RESET)
        record.trips = min(record.trips + 1, 16)
        return record

    def _record(self, key: bytes, now: float) -> _Record:
        record = self._records.pop(key, None) or _Record()
        if now >= record.resets_at:
            record.slow_from = record.refused_from = math.inf
        self._records[key] = record
        if len(self._records) > REMEMBERED:
            self._records.popitem(last=False)
        return record
