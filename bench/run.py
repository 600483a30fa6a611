"""What one run of some streams gave, whoever produced them: the bare loop or a server."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Run:
    """Per stream: the first token, the end (both in seconds since the start of the run) and the number of tokens."""

    first: tuple[float, ...]
    end: tuple[float, ...]
    tokens: tuple[int, ...]

    @property
    def decode_rate(self) -> float:
        """Tokens per second of one stream after its first token, by the clock of who receives it."""
        return (self.tokens[0] - 1) / (self.end[0] - self.first[0])

    @property
    def total_rate(self) -> float:
        """Tokens per second of all streams together, from the start to the last one's end: prefill is in it."""
        return sum(self.tokens) / max(self.end)

    @property
    def median_first(self) -> float:
        """Seconds to the first token: the median of the streams."""
        return median(self.first)

    @property
    def worst_first(self) -> float:
        """Seconds to the first token of the stream that waited longest."""
        return max(self.first)
