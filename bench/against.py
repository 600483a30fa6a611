"""Compares our server with others: the same requests to all of them, in alternating rounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.batches import batches
from bench.compare import NO_PROMPT_CACHE
from bench.figures import Figure, Measure
from bench.measure import EIGHT_COST, Metered
from bench.models import BenchModel, provide
from bench.pictures import Pictures, picture_server
from bench.scenarios import ColdLoad, Memory, Scenario, scenarios, values_of
from bench.servers import Server, Target, UnknownServer, our_target
from bench.serving import LocalServer
from bench.traffic import FRESH, phases
from bench.workload import EIGHT, WARM_UP, Rounds, interleave


def compare_servers(
    store: Path, others: Sequence[Server], models: Sequence[BenchModel], rounds: Rounds
) -> Iterator[Figure]:
    """Every figure of our server and others. The models must be in `store`; other servers of models get them as well.

    The first model and tiny ones get the traffic. Raises CannotCreate, and UnknownServer for one without any model.
    """
    for other in others:
        if other.api is not None:
            provide(other.api, models)
        elif not any(other.target(model) for model in models):
            raise UnknownServer(f"{other.url} has none of the models: {', '.join(m.gguf.name for m in models)}")
    for model in models:
        theirs = [target for other in others if (target := other.target(model)) is not None]
        if theirs and model.projector is not None:
            with picture_server(store) as server:
                targets = [our_target(server, model), *theirs]
                yield from _beside(Pictures(), targets, model, "", range(rounds.pictures))
        elif theirs:
            yield from _memory(store, theirs, model)
            with LocalServer(store) as server:
                targets = [our_target(server, model), *theirs]
                yield from _beside(ColdLoad(), targets, model, "", range(rounds.loads))
                if model.tiny:
                    yield from _tiny(targets, model, rounds)
                else:
                    yield from _random(targets, model, rounds, traffic=model is models[0])
        for target in theirs:
            target.unload()


def _memory(store: Path, theirs: Sequence[Target], model: BenchModel) -> Iterator[Figure]:
    with LocalServer(store, **NO_PROMPT_CACHE) as server:
        yield from _beside(Memory(), [our_target(server, model), *theirs], model, "", range(1))


def _random(targets: Sequence[Target], model: BenchModel, rounds: Rounds, *, traffic: bool) -> Iterator[Figure]:
    clients = [target.client for target in targets]
    for phase in phases(clients, model.longest, rounds.traffic) if traffic else [FRESH]:
        interleave(clients, WARM_UP, phase.turns(1))
        whole = traffic and phase.measures_all(rounds)
        for scenario, count in [*batches(rounds, whole=whole), *scenarios(rounds, whole=whole)]:
            yield from _beside(scenario, targets, model, phase.name, phase.turns(count))


def _tiny(targets: Sequence[Target], model: BenchModel, rounds: Rounds) -> Iterator[Figure]:
    rate = Measure("8 streams, tokens/s", "tokens/s")
    for phase in phases([target.client for target in targets], model.longest, rounds.traffic):
        interleave([target.client for target in targets], WARM_UP, phase.turns(1))
        sides = [
            Metered(target.client, target.processes)
            if target.processes and target.processes.separate
            else target.client
            for target in targets
        ]
        runs = interleave(sides, EIGHT, phase.turns(rounds.tiny))
        rates = [[run.total_rate for run in its_runs] for its_runs in runs]
        costs = [[side.cost] if isinstance(side, Metered) else [] for side in sides]
        for i, target in enumerate(targets[1:], 1):
            yield rate.figure_beside(model.label, phase.name, rates[0], rates[i], target.label)
            if costs[i]:
                yield EIGHT_COST.figure_beside(model.label, phase.name, costs[0], costs[i], target.label)


def _beside(
    scenario: Scenario, targets: Sequence[Target], model: BenchModel, phase: str, turns: Sequence[int]
) -> Iterator[Figure]:
    """A figure of each measure and other server; none where the server does not allow to measure it."""
    ours, *theirs = values_of(scenario, targets, turns)
    for measure in scenario.measures:
        for target, other in zip(targets[1:], theirs, strict=True):
            if all(measure.name in values for values in other):
                rounds = [[values[measure.name] for values in side] for side in (ours, other)]
                yield measure.figure_beside(model.label, phase, rounds[0], rounds[1], target.label)
