"""Compares our server with the bare loop in alternating rounds, and measures the server's own costs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench.api import Api
from bench.client import Client
from bench.figures import Figure, Goal, alone, difference, ratio
from bench.measure import Metered, cold_load, prefix_gain
from bench.models import Q8_0, RANDOM, TINYCHAT, BenchModel
from bench.rawloop import RawLoop
from bench.serving import LocalServer
from bench.workload import EIGHT, ONE, SHORT, TINY_EIGHT, TINY_ONE, WARM_UP, Rounds, interleave
from engine.loading.devices import compute_threads
from engine.spawn import child_environment

MIB = 1 << 20


def compare(store: Path, rounds: Rounds) -> Iterator[Figure]:
    """Every figure that has a goal. The models must be in `store`."""
    yield from _starts(store, rounds)
    yield _sampling()
    with LocalServer(store) as server:
        for model in RANDOM:
            yield from _model(server, model, rounds)
            Api(server.url).unload(model.name)
        yield from _tinychat(server, rounds)


def _model(server: LocalServer, model: BenchModel, rounds: Rounds) -> Iterator[Figure]:
    client = Client(server.url, model.name)
    with RawLoop(model.gguf, compute_threads(), EIGHT.streams) as raw:
        interleave([client, raw], WARM_UP, 1)
        ours, bare = interleave([client, raw], ONE, rounds.decode)
        name = f"{model.label}, one stream, decode tokens/s"
        yield ratio(name, [r.decode_rate for r in ours], [r.decode_rate for r in bare], Goal(">=", 0.97))
        ours, bare = interleave([client, raw], SHORT, rounds.short)
        name = f"{model.label}, first token of a short prompt, ms"
        waits = [[run.median_first * 1e3 for run in runs] for runs in (ours, bare)]
        yield difference(name, "ms", waits[0], waits[1], Goal("<=", 15))
        ours, bare = interleave([client, raw], EIGHT, rounds.decode)
        name = f"{model.label}, 8 streams, tokens/s with prefill"
        goal = Goal(">=", 0.95, "Ollama's default about 0.55, llama-server about 1.0")
        yield ratio(name, [r.total_rate for r in ours], [r.total_rate for r in bare], goal)
        name = f"{model.label}, 8 streams, median first token, s"
        goal = Goal("<=", 0.65, "llama-server about 0.95")
        yield ratio(name, [r.median_first for r in ours], [r.median_first for r in bare], goal)
    name = f"{model.label}, first token after a known prefix of 1,200 words / unknown"
    gains = [prefix_gain(client, turn) for turn in range(rounds.prefix)]
    yield alone(name, "", gains, Goal("<=", 0.10, "Ollama about 0.04"))


def _tinychat(server: LocalServer, rounds: Rounds) -> Iterator[Figure]:
    api, client = Api(server.url), Client(server.url, TINYCHAT.name)
    loads = [cold_load(api, client, TINYCHAT.name, turn) for turn in range(rounds.loads)]
    one, eight = Metered(client, server), Metered(client, server)
    interleave([one], TINY_ONE, rounds.tiny)
    goal = Goal("<=", 0.25, "Ollama 0.17")
    yield alone("tinychat, one stream, CPU of the parent per token", "ms", [one.cost], goal)
    with RawLoop(TINYCHAT.gguf, compute_threads(), TINY_EIGHT.streams) as raw:
        interleave([client, raw], WARM_UP, 1)
        ours, bare = interleave([eight, raw], TINY_EIGHT, rounds.tiny)
    goal = Goal("<=", 0.10, "Ollama 0.16")
    yield alone("tinychat, 8 streams, CPU of the parent per token", "ms", [eight.cost], goal)
    name = "tinychat, 8 streams, tokens/s"
    yield ratio(name, [r.total_rate for r in ours], [r.total_rate for r in bare], Goal(">=", 0.60))
    yield alone("tinychat, cold load to first token", "s", loads, Goal("<=", 0.35, "Ollama 0.26 s"))


def _sampling() -> Figure:
    command = [sys.executable, "-m", "bench.sampling", str(Q8_0.gguf), str(compute_threads())]
    output = subprocess.run(command, env=child_environment({}), check=True, stdout=subprocess.PIPE).stdout
    ours, chains = msgspec.json.decode(output, type=tuple[list[float], list[float]])
    name = "sampling for 8 sequences, 152k vocabulary, ms"
    return ratio(name, [s * 1e3 for s in ours], [s * 1e3 for s in chains], Goal("<=", 0.40))


def _starts(store: Path, rounds: Rounds) -> Iterator[Figure]:
    starts, resident, unique = [], [], []
    for turn in range(rounds.loads):
        with LocalServer(store) as server:
            starts.append(server.start_seconds)
            Client(server.url, TINYCHAT.name).run(SHORT.prompts(turn), SHORT.tokens)
            rss, uss = server.memory()
        resident.append(rss / MIB)
        unique.append(uss / MIB)
    yield alone("start of the server to the first /api/version", "s", starts, Goal("<=", 1.5))
    yield alone("idle memory of the parent, resident", "MiB", resident, Goal("<=", 120))
    yield alone("idle memory of the parent, not shared", "MiB", unique)
