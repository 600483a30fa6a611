"""Measurements beyond one run: a shared prefix, a cold load, CPU time of the parent process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bench.api import Api
from bench.figures import Goal, Measure
from bench.run import Run
from bench.workload import ENDING_WORDS, PREFIX_WORDS, SHORT, Side, text

ONE_COST = Measure("one stream, CPU of the parent per token", "ms", Goal("<=", 0.25, "Ollama 0.17"))
EIGHT_COST = Measure("8 streams, CPU of the parent per token", "ms", Goal("<=", 0.10, "Ollama 0.16"))


class CpuClock(Protocol):
    """Counts the CPU time of a process."""

    def cpu_seconds(self) -> float:
        """CPU seconds since its start."""


class Metered:
    """A `Side` that also sums the CPU time of another process over its runs.

    Only the sum is reported: one run may be shorter than the resolution of CPU times.
    """

    def __init__(self, side: Side, clock: CpuClock) -> None:
        self._side = side
        self._clock = clock
        self._seconds = 0.0
        self._tokens = 0

    @property
    def cost(self) -> float:
        """CPU milliseconds per token over all runs so far, of which there must be one."""
        return self._seconds * 1e3 / self._tokens

    def run(self, prompts: Sequence[str], n_tokens: int) -> Run:
        """The side's run."""
        before = self._clock.cpu_seconds()
        run = self._side.run(prompts, n_tokens)
        self._seconds += self._clock.cpu_seconds() - before
        self._tokens += sum(run.tokens)
        return run


def prefix_gain(side: Side, turn: int) -> float:
    """Time to first token of the second request with a long prefix, relative to the first one's."""
    first, second = (first_token_behind(side, turn, ending) for ending in range(2))
    return second / first


def first_token_behind(side: Side, turn: int, ending: int) -> float:
    """Seconds to the first token behind this turn's long prefix and an ending of its own."""
    prompt = f"{text(PREFIX_WORDS, f'prefix {turn}')} {text(ENDING_WORDS, f'ending {turn} {ending}')}"
    return side.run([prompt], 1).median_first


def cold_load(api: Api, side: Side, model: str, turn: int) -> float:
    """Seconds from the request to the first token if the model is not loaded."""
    api.unload(model)
    return side.run(SHORT.prompts(turn), SHORT.tokens).median_first
