"""What templates may take, and which are known to be quick or to have overstayed. Pure; the clock is handed in.

A template may be hostile, or good and given a giant conversation. So what it is held to is a size: that of the request
in which it overstayed, and all that are as large. It is forgiven after a while, a longer one each time.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

REMEMBERED = 4096  # templates
FORGIVEN_AFTER = 60.0  # seconds, doubled each time
FORGIVEN_AT_LAST = 3600.0
SMALL = 64 << 10  # bytes of a request; a template that needs long for so few needs long for any

Lane = Literal["quick", "slow", "refused"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds. CPU time: in a `quick` process, in one that has to compile the template `first`, in a slow one.

    There it is `first` for a short conversation and `each` for each message and tool of a long one, `most` at most:
    templates may look at all messages for each message. Nobody is waited for longer than `patience` and ten times
    what it may take, however little of the processor it got.
    """

    quick: float = 0.25
    first: float = 1.0
    each: float = 0.01
    most: float = 15.0
    patience: float = 10.0

    def allowance(self, parts: int) -> float:
        """The CPU time that so many messages and tools may take."""
        return min(max(self.first, self.each * parts), self.most)


@dataclass(slots=True)
class _Record:
    """Sizes are bytes of a request. `until` is when all but `proven` and `times` is forgotten."""

    proven: bool = False
    slow_from: float = math.inf
    refused_from: float = math.inf
    reason: str = ""
    times: int = 0
    until: float = 0.0


class Conduct:
    """What is known of each template, by its key; of those that were asked for last."""

    def __init__(self) -> None:
        self._records: OrderedDict[bytes, _Record] = OrderedDict()

    def lane(self, key: bytes, size: int, now: float) -> Lane:
        """Where a request of this size belongs."""
        record = self._record(key, now)
        if size >= record.refused_from:
            return "refused"
        return "slow" if size >= record.slow_from else "quick"

    def reason(self, key: bytes) -> str:
        """Why requests are refused."""
        return self._records[key].reason

    def is_proven(self, key: bytes) -> bool:
        """Whether it has ever rendered something in time."""
        return key in self._records and self._records[key].proven

    def praise(self, key: bytes, now: float) -> None:
        """It rendered something in time."""
        self._record(key, now).proven = True

    def slow(self, key: bytes, size: int, now: float) -> None:
        """It overstayed where others wait."""
        record = self._held(key, now)
        record.slow_from = min(record.slow_from, 0 if size <= SMALL else size / 2)

    def refuse(self, key: bytes, size: int, reason: str, now: float) -> None:
        """It overstayed where it had all the time it may have."""
        record = self._held(key, now)
        record.refused_from = min(record.refused_from, 0 if size <= SMALL else size)
        record.reason = reason

    def _held(self, key: bytes, now: float) -> _Record:
        record = self._record(key, now)
        record.until = now + min(FORGIVEN_AFTER * 2**record.times, FORGIVEN_AT_LAST)
        record.times = min(record.times + 1, 16)
        return record

    def _record(self, key: bytes, now: float) -> _Record:
        record = self._records.pop(key, None) or _Record()
        if now >= record.until:
            record.slow_from = record.refused_from = math.inf
        self._records[key] = record
        if len(self._records) > REMEMBERED:
            self._records.popitem(last=False)
        return record
