"""Parallel streams of raw prompts: what the bare loop can do as well as a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.figures import Figure, Goal, Measure, Point, difference, ratio
from bench.run import Run
from bench.scenarios import Values
from bench.servers import Target
from bench.workload import EIGHT, ONE, SHORT, Rounds, Workload

STREAMS = (1, 2, 4, 8, 16)
"""How many at once, on the curve of load."""
LOOP = "raw loop"


@dataclass(frozen=True, slots=True)
class RunMeasure:
    """A value of each run. `loop` is the goal of its ratio to the bare loop's, or, with `added`, of the difference."""

    measure: Measure
    value: Callable[[Run], float]
    loop: Goal | None = None
    added: bool = False

    def beside_loop(self, model: str, phase: str, ours: Sequence[Run], bare: Sequence[Run]) -> Figure:
        """Our runs beside those of the bare loop."""
        name = f"{model}, {self.measure.name}"
        values = [self.value(run) for run in ours], [self.value(run) for run in bare]
        if self.added:
            figure = difference(name, self.measure.unit, *values, self.loop)
        else:
            figure = ratio(name, *values, self.loop)
        return self.measure.placed(figure, phase, LOOP)


@dataclass(frozen=True, slots=True)
class Batch:
    """A `Scenario`: one workload, and what is taken from its runs."""

    workload: Workload
    values: Sequence[RunMeasure]

    @property
    def measures(self) -> Sequence[Measure]:
        """What a round gives."""
        return [value.measure for value in self.values]

    def measure(self, target: Target, turn: int) -> Values:
        """One round."""
        run = target.client.run(self.workload.prompts(turn), self.workload.tokens)
        return {value.measure.name: value.value(run) for value in self.values}


def batches(rounds: Rounds, *, whole: bool) -> list[tuple[Batch, int]]:
    """What is measured, the `whole` curve of load or eight streams alone, and how many rounds of each."""
    load = [
        (_load(n, drawn=whole), rounds.decode if n == EIGHT.streams else rounds.scenario)
        for n in STREAMS
        if whole or n == EIGHT.streams
    ]
    return [(_ONE, rounds.decode), (_SHORT, rounds.short), *load]


def _load(streams: int, *, drawn: bool) -> Batch:
    """One point of the curve, which is in the picture if it is `drawn`; that of eight streams has goals."""
    goals = _EIGHT_GOALS if streams == EIGHT.streams else [(None, None)] * len(_LOAD)
    values = []
    for (what, unit, value), (loop, beside) in zip(_LOAD, goals, strict=True):
        name = f"{streams} streams, {what}" if streams > 1 else f"1 stream, {what}"
        point = Point(what.capitalize(), "streams", streams) if drawn else None
        measure = Measure(name, unit, beside=beside, point=point, detail=streams not in (EIGHT.streams, STREAMS[-1]))
        values.append(RunMeasure(measure, value, loop))
    return Batch(Workload(streams, EIGHT.words, EIGHT.tokens), values)


_ONE = Batch(
    ONE,
    [
        RunMeasure(
            Measure("one stream, decode tokens/s", "tokens/s", beside=Goal(">=", 1.0)),
            lambda run: run.decode_rate,
            loop=Goal(">=", 0.97),
        )
    ],
)
_SHORT = Batch(
    SHORT,
    [
        RunMeasure(
            Measure("first token of a short prompt, ms", "ms"),
            lambda run: run.median_first * 1e3,
            loop=Goal("<=", 15),
            added=True,
        )
    ],
)
_LOAD: list[tuple[str, str, Callable[[Run], float]]] = [
    ("tokens/s with prefill", "tokens/s", lambda run: run.total_rate),
    ("median first token, s", "s", lambda run: run.median_first),
    ("worst first token, s", "s", lambda run: run.worst_first),
]
_EIGHT_GOALS: list[tuple[Goal | None, Goal | None]] = [
    (Goal(">=", 0.95, "Ollama's default about 0.55, llama-server about 1.0"), Goal(">=", 1.05)),
    (Goal("<=", 0.65, "llama-server about 0.95"), Goal("<=", 0.6)),
    (None, Goal("<=", 1.1)),
]
