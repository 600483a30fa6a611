"""Compares our server with another Ollama-compatible one: the same requests, in alternating rounds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.api import Api
from bench.client import Client
from bench.figures import Figure, ratio
from bench.measure import cold_load, prefix_gain
from bench.models import RANDOM, TINYCHAT, BenchModel, provide
from bench.serving import LocalServer
from bench.workload import EIGHT, ONE, SHORT, TINY_EIGHT, WARM_UP, Rounds, interleave


def compare_servers(store: Path, other: str, rounds: Rounds) -> Iterator[Figure]:
    """Every figure of two servers. The models must be in `store`; the other server gets them over its API.

    Raises CannotCreate if it neither has them nor creates them.
    """
    provide(Api(other))
    with LocalServer(store) as server:
        for model in RANDOM:
            yield from _model([server.url, other], model, rounds)
        yield from _tinychat([server.url, other], rounds)


def _model(urls: list[str], model: BenchModel, rounds: Rounds) -> Iterator[Figure]:
    clients = [Client(url, model.name) for url in urls]
    interleave(clients, WARM_UP, 1)
    ours, theirs = interleave(clients, ONE, rounds.decode)
    name = f"{model.label}, one stream, decode tokens/s"
    yield ratio(name, [run.decode_rate for run in ours], [run.decode_rate for run in theirs])
    ours, theirs = interleave(clients, SHORT, rounds.short)
    name = f"{model.label}, first token of a short prompt, ms"
    yield ratio(name, [run.median_first * 1e3 for run in ours], [run.median_first * 1e3 for run in theirs])
    ours, theirs = interleave(clients, EIGHT, rounds.decode)
    name = f"{model.label}, 8 streams, tokens/s with prefill"
    yield ratio(name, [run.total_rate for run in ours], [run.total_rate for run in theirs])
    name = f"{model.label}, 8 streams, median first token, s"
    yield ratio(name, [run.median_first for run in ours], [run.median_first for run in theirs])
    name = f"{model.label}, 8 streams, worst first token, s"
    yield ratio(name, [run.worst_first for run in ours], [run.worst_first for run in theirs])
    gains = [[prefix_gain(client, turn) for client in clients] for turn in range(rounds.prefix)]
    name = f"{model.label}, first token after a known prefix of 1,200 words / unknown"
    yield ratio(name, [pair[0] for pair in gains], [pair[1] for pair in gains])
    for url in urls:
        Api(url).unload(model.name)


def _tinychat(urls: list[str], rounds: Rounds) -> Iterator[Figure]:
    clients = [Client(url, TINYCHAT.name) for url in urls]
    sides = [(Api(url), client) for url, client in zip(urls, clients, strict=True)]
    loads = [[cold_load(api, client, TINYCHAT.name, turn) for api, client in sides] for turn in range(rounds.loads)]
    ours, theirs = interleave(clients, TINY_EIGHT, rounds.tiny)
    yield ratio("tinychat, 8 streams, tokens/s", [r.total_rate for r in ours], [r.total_rate for r in theirs])
    yield ratio("tinychat, cold load to first token, s", [pair[0] for pair in loads], [pair[1] for pair in loads])
