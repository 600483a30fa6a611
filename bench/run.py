"""The result of one run of parallel streams, by the bare loop or a server."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Run:
    """Per stream: times of the first token and of the end (seconds since the start), and the number of tokens."""

    first: tuple[float, ...]
    end: tuple[float, ...]
    tokens: tuple[int, ...]

    @property
    def decode_rate(self) -> float:
        """Tokens per second of the first stream after its first token, by the receiver's clock."""
        return (self.tokens[0] - 1) / (self.end[0] - self.first[0])

    @property
    def total_rate(self) -> float:
        """Tokens per second of all streams together, including prefill."""
        return sum(self.tokens) / max(self.end)

    @property
    def median_first(self) -> float:
        """Median time to first token in seconds."""
        return median(self.first)

    @property
    def worst_first(self) -> float:
        """Longest time to first token in seconds."""
        return max(self.first)
