"""What a forward pass costs on this machine with this model, learned from the passes that ran."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

Parts: TypeAlias = tuple[float, float, float]
"""(graphs, tokens, cells) of a pass, or the seconds that one of each takes."""

GUESS: Parts = (4.0, 1.0, 1 / 8000)  # how parts compare, where the measured passes do not tell them apart
GUESS_WEIGHT = 0.05  # of the guess, in passes
MEMORY = 256  # passes after which one weighs a third
RECENT = 9  # passes that say how fast the machine is now; their median ignores those that something disturbed
LEAST = 0.001  # of its guess that a part costs at least


@dataclass(frozen=True, slots=True)
class PassWork:
    """The work of one pass (`llama_decode`): either a chunk of one prompt or a row for each of some sequences.

    `cells`: used KV cells that its tokens attend to, summed over the tokens. `graphs`: into how many pieces llama.cpp
    cuts the pass; each reads all weights.
    """

    prompt_tokens: int = 0
    rows: int = 0
    cells: int = 0
    graphs: int = 1

    @classmethod
    def prompt(cls, tokens: int, start: int, n_ubatch: int) -> PassWork:
        """A prompt's chunk of `tokens` (1 or more) from position `start`, in micro-batches of `n_ubatch` tokens."""
        return cls(tokens, 0, tokens * start + tokens * (tokens + 1) // 2, -(-tokens // n_ubatch))


class PassCosts:
    """Estimates seconds of passes from measured ones. Owned by the loop thread.

    A pass costs so much per graph, per token and per cell. Chunks of prompts and rows are told apart: one is bound by
    arithmetic, the other by memory.
    """

    def __init__(self) -> None:
        self._prompts = _Fit()
        self._rows = _Fit()

    @property
    def known(self) -> bool:
        """Whether a prompt's pass was measured."""
        return self._prompts.known

    @property
    def graph_seconds(self) -> float:
        """What each graph of a prompt's pass costs beside its tokens; 0 until `known`."""
        return self._prompts.seconds((1, 0, 0))

    def measured(self, work: PassWork, seconds: float) -> None:
        """Record how long a complete pass took. Measure only passes with the usual number of threads."""
        if seconds > 0:
            fit = self._prompts if work.prompt_tokens else self._rows
            fit.measured(_parts(work), seconds)

    def seconds(self, work: PassWork) -> float:
        """The estimate for a pass; 0 before anything was measured."""
        fit = self._prompts if work.prompt_tokens else self._rows
        if not fit.known:
            fit = self._rows if work.prompt_tokens else self._prompts
        return fit.seconds(_parts(work))


def _parts(work: PassWork) -> Parts:
    return work.graphs, work.prompt_tokens + work.rows, work.cells


def _sum(costs: Parts | list[float], parts: Parts) -> float:
    return costs[0] * parts[0] + costs[1] * parts[1] + costs[2] * parts[2]


def _median(values: deque[float]) -> float:
    return sorted(values)[len(values) // 2]


class _Fit:
    """Least squares of relative errors, so that passes of all sizes count alike and a disturbed, slow one for little.

    `_matrix` and `_vector` are its normal equations over the memory, `_costs` (seconds of each part) their solution,
    improved with each pass. `_speed` is how much slower than that the recent passes were, by their median.
    """

    def __init__(self) -> None:
        self._matrix = [[0.0] * 3 for _ in GUESS]
        self._vector = [0.0] * 3
        self._costs = [0.0] * 3
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._units: deque[float] = deque(maxlen=RECENT)
        self._speed = 1.0

    @property
    def known(self) -> bool:
        return bool(self._recent)

    def seconds(self, parts: Parts) -> float:
        return self._speed * _sum(self._costs, parts)

    def measured(self, parts: Parts, seconds: float) -> None:
        self._units.append(seconds / _sum(GUESS, parts))
        guess = [_median(self._units) * part for part in GUESS]
        if not self.known:
            self._costs = guess
        self._remember([part / seconds for part in parts])
        self._solve(guess)
        self._recent.append(seconds / _sum(self._costs, parts))
        self._speed = _median(self._recent)

    def _remember(self, scaled: list[float]) -> None:
        """Add a pass, its parts divided by its seconds, to the normal equations."""
        keep = 1 - 1 / MEMORY
        for i, part in enumerate(scaled):
            row = self._matrix[i]
            for j, other in enumerate(scaled):
                row[j] = keep * row[j] + part * other
            self._vector[i] = keep * self._vector[i] + part

    def _solve(self, guess: list[float]) -> None:
        """One round of coordinate descent, the part that explains most first."""
        costs = self._costs
        for i in (1, 2, 0):
            row = self._matrix[i]
            others = _sum(costs, (row[0], row[1], row[2])) - row[i] * costs[i]
            weight = GUESS_WEIGHT / guess[i]
            cost = (self._vector[i] - others + weight) / (row[i] + weight / guess[i])
            costs[i] = max(cost, LEAST * guess[i])
