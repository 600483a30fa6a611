"""Compares our server with the bare loop in alternating rounds, and measures the server's own costs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from bench.batches import LOOP, STREAMS, batches
from bench.client import Client
from bench.figures import Figure, Goal, Measure, alone, ratio
from bench.measure import EIGHT_COST, ONE_COST, Metered, first_token_behind
from bench.models import Q8_0, TINYCHAT, BenchModel
from bench.pictures import Pictures, picture_server
from bench.rawloop import RawLoop
from bench.scenarios import MIB, ColdLoad, Memory, Scenario, scenarios, values_of
from bench.servers import Target, our_target
from bench.serving import LocalServer
from bench.traffic import FRESH, phases
from bench.workload import EIGHT, SHORT, TINY_ONE, WARM_UP, Rounds, Side, interleave
from engine.loading.devices import compute_threads
from engine.spawn import child_environment

STEP_COST, SEQUENCE_COST = 0.15, 0.012  # milliseconds that a step of the loop may cost, and each sequence in it
NO_PROMPT_CACHE = {"PRONK_PROMPT_CACHE_RAM": "0"}


def compare(store: Path, models: Sequence[BenchModel], rounds: Rounds) -> Iterator[Figure]:
    """Every figure of our server. The models must be in `store`; the first one and tiny ones get the traffic."""
    yield from _starts(store, rounds)
    yield from _sampling()
    yield from _overhead()
    with LocalServer(store, **NO_PROMPT_CACHE) as server:
        yield from _alone(Memory(), our_target(server, models[0]), models[0], "", range(1))
    yield restarts(store, models[0], rounds.prefix)
    with LocalServer(store) as server:
        for model in models:
            if model.projector is not None:
                continue
            target = our_target(server, model)
            if model.tiny:
                yield from _tiny(target, model, rounds)
            else:
                yield from _random(target, model, rounds, traffic=model is models[0])
            target.unload()
    for model in models:
        if model.projector is not None:
            with picture_server(store) as server:
                yield from _alone(Pictures(), our_target(server, model), model, "", range(rounds.pictures))


def _random(target: Target, model: BenchModel, rounds: Rounds, *, traffic: bool) -> Iterator[Figure]:
    yield from _alone(ColdLoad(), target, model, "", range(rounds.loads))
    with RawLoop(model.gguf, compute_threads(), STREAMS[-1]) as raw:
        sides: list[Side] = [target.client, raw]
        for phase in phases([target.client], model.longest, rounds.traffic) if traffic else [FRESH]:
            interleave(sides, WARM_UP, phase.turns(1))
            whole = traffic and phase.measures_all(rounds)
            for batch, count in batches(rounds, whole=whole):
                ours, bare = interleave(sides, batch.workload, phase.turns(count))
                yield from (value.beside_loop(model.label, phase.name, ours, bare) for value in batch.values)
            for scenario, count in scenarios(rounds, whole=whole):
                yield from _alone(scenario, target, model, phase.name, phase.turns(count))


def _tiny(target: Target, model: BenchModel, rounds: Rounds) -> Iterator[Figure]:
    yield from _alone(ColdLoad(Goal("<=", 0.35, "Ollama 0.26 s")), target, model, "", range(rounds.loads))
    assert target.processes is not None
    rate = Measure("8 streams, tokens/s", "tokens/s")
    with RawLoop(model.gguf, compute_threads(), EIGHT.streams) as raw:
        for phase in phases([target.client], model.longest, rounds.traffic):
            one, eight = (Metered(target.client, target.processes) for _ in range(2))
            interleave([one], TINY_ONE, phase.turns(rounds.tiny))
            yield ONE_COST.figure(model.label, phase.name, [one.cost])
            interleave([target.client, raw], WARM_UP, phase.turns(1))
            ours, bare = interleave([eight, raw], EIGHT, phase.turns(rounds.tiny))
            yield EIGHT_COST.figure(model.label, phase.name, [eight.cost])
            rates = [run.total_rate for run in ours], [run.total_rate for run in bare]
            yield rate.placed(ratio(f"{model.label}, {rate.name}", *rates, Goal(">=", 0.60)), phase.name, LOOP)


def _alone(scenario: Scenario, target: Target, model: BenchModel, phase: str, turns: Sequence[int]) -> Iterator[Figure]:
    (rounds,) = values_of(scenario, [target], turns)
    for measure in scenario.measures:
        if all(measure.name in values for values in rounds):
            yield measure.figure(model.label, phase, [values[measure.name] for values in rounds])


def restarts(store: Path, model: BenchModel, rounds: int) -> Figure:
    """The first token behind a prefix that was computed before the server was restarted, beside computing it.

    Ollama and llama-server keep no prompts over a restart by themselves (llama-server saves a slot if it is told to).
    """
    computed: list[float] = []
    restored: list[float] = []
    for turn in range(rounds):
        with tempfile.TemporaryDirectory(prefix="states-", dir=store) as folder:
            for ending, seconds in enumerate((computed, restored)):
                with LocalServer(store, PRONK_PROMPT_CACHE_DISK=f"{folder}:8GiB") as server:
                    client = Client(server.url, model.name)
                    client.run(SHORT.prompts(turn), SHORT.tokens)  # the load is not what is measured
                    seconds.append(first_token_behind(client, turn, ending))
    goal = Goal("<=", 0.10, "Ollama and llama-server keep none")
    return ratio(
        f"{model.label}, first token after a restart, known prefix of 1,200 words / unknown", restored, computed, goal
    )


def _sampling() -> Iterator[Figure]:
    ours, chains = msgspec.json.decode(_output("bench.sampling", Q8_0), type=tuple[list[float], list[float]])
    name = f"sampling for {EIGHT.streams} sequences, 152k vocabulary, ms"
    yield ratio(name, [s * 1e3 for s in ours], [s * 1e3 for s in chains], Goal("<=", 0.40))
    each = [s * 1e6 / EIGHT.streams for s in ours]
    yield alone(f"sampling for {EIGHT.streams} sequences, 152k vocabulary, per token", "µs", each, Goal("<=", 40))


def _overhead() -> Iterator[Figure]:
    for count, seconds in msgspec.json.decode(_output("bench.overhead", TINYCHAT), type=dict[int, list[float]]).items():
        name = f"{TINYCHAT.label}, step of the loop without llama.cpp's pass, {count} sequence{'s' * (count > 1)}"
        yield alone(name, "ms", [s * 1e3 for s in seconds], Goal("<=", round(STEP_COST + SEQUENCE_COST * count, 3)))


def _output(module: str, model: BenchModel) -> bytes:
    """What one of our modules prints, in the environment of a server's child."""
    command = [sys.executable, "-m", module, str(model.gguf), str(compute_threads())]
    return subprocess.run(command, env=child_environment({}), check=True, stdout=subprocess.PIPE).stdout


def _starts(store: Path, rounds: Rounds) -> Iterator[Figure]:
    starts, resident, unique = [], [], []
    for turn in range(rounds.loads):
        with LocalServer(store) as server:
            starts.append(server.start_seconds)
            Client(server.url, TINYCHAT.name).run(SHORT.prompts(turn), SHORT.tokens)
            rss, uss = server.processes.front_memory()
        resident.append(rss / MIB)
        unique.append(uss / MIB)
    yield alone("start of the server to the first /api/version", "s", starts, Goal("<=", 1.5))
    yield alone("idle memory of the parent, resident", "MiB", resident, Goal("<=", 120))
    yield alone("idle memory of the parent, not shared", "MiB", unique)
