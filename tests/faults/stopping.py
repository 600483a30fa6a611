"""R17: how soon a server is there, and how it goes: answers are ended with an object, nothing is left behind."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from tests.faults.measure import MIB, Counts, Line, computed, kept, milliseconds, percentile, timed
from tests.faults.models import ONE, provide
from tests.faults.streams import PATIENCE, Stream, story
from tests.serving import LOOPBACK, ROOT, Served, serving

_MODELS = 500
_POLL = 0.001  # seconds
_ENDLESS, _SHORT = 6, 2  # streams
_SHORT_ANSWER = 40  # tokens
_MOST_DRAIN = 10  # seconds
_BODIES, _BODY = 4, 25 * MIB
_SECOND = 0.3  # seconds from the first signal to the second


@dataclass(slots=True)
class Stop:
    """What a stop was like: seconds from its last signal. `open_ends`: streams without a last object."""

    refused: float = 0.0
    drained: float = 0.0
    exited: float = 0.0
    code: int = 0
    open_ends: int = 0
    broken: int = 0
    orphans: int = 0
    tracebacks: int = 0


@dataclass(slots=True)
class Stops:
    """All stops of one kind."""

    all: list[Stop] = field(default_factory=list)

    def lines(self, name: str, most: float) -> Iterator[Line]:
        """What must hold however a server is stopped, and that it ends within `most` seconds."""
        n = len(self.all)
        codes = sorted({stop.code for stop in self.all})
        tracebacks = sum(stop.tracebacks for stop in self.all)
        told = f"{n} times: {', '.join(map(str, codes))}" + (f"; {tracebacks} tracebacks" if tracebacks else "")
        yield kept("R17", f"{name}: exit code 0", told, codes == [0] and not tracebacks)
        orphans = sum(stop.orphans for stop in self.all)
        yield kept("R17", f"{name}: no orphans", str(orphans), not orphans)
        exited = [stop.exited for stop in self.all]
        yield timed("R17", f"{name}: gone ≤ {most:g} s", milliseconds(exited), max(exited) <= most)


def starting_and_stopping(folder: Path, counts: Counts) -> Iterator[Line]:
    """R17."""
    store = folder / "models"
    with serving(store) as server:
        provide(server, folder, ONE)
    yield from _starts(_crowded(store, folder / "crowd"), counts.starts)
    yield from _drains(store, 1 if counts.quick else 5)
    second = Stops([_stopped_twice(store) for _ in range(counts.starts)])
    yield from second.lines("a second SIGTERM", 1)
    yield _open_ends("a second SIGTERM", second)
    yield from Stops([_captured(store) for _ in range(counts.starts)]).lines(
        f"SIGTERM while {_BODIES * _BODY // MIB} MiB of requests are kept as files", 1
    )


def _crowded(store: Path, target: Path) -> Path:
    """A store with 500 models, each with weights of its own."""
    [manifest] = (store / "manifests").rglob(f"{ONE}/latest")
    text = manifest.read_text()
    weights = max((store / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    digest = weights.name.replace("-", ":")
    (target / "blobs").mkdir(parents=True)
    for blob in (store / "blobs").iterdir():
        os.link(blob, target / "blobs" / blob.name)
    for number in range(_MODELS):
        other = f"sha256:{hashlib.sha256(str(number).encode()).hexdigest()}"
        os.link(weights, target / "blobs" / other.replace(":", "-"))
        path = target / manifest.relative_to(store).parents[1] / f"model-{number}" / "latest"
        path.parent.mkdir(parents=True)
        path.write_text(text.replace(digest, other))
    return target


def _starts(store: Path, count: int) -> Iterator[Line]:
    versions, tags, costs = [], [], []
    for _ in range(count):
        with _starting(store) as (started, pid, url):
            _await_port(url)
            with httpx.Client(base_url=url, **LOOPBACK, timeout=PATIENCE) as client:
                client.get("/api/version").raise_for_status()
                versions.append(time.perf_counter() - started)
                before = computed(pid)
                models = client.get("/api/tags").raise_for_status().json()["models"]
                tags.append(time.perf_counter() - started)
                costs.append((before, computed(pid)))
                assert len(models) == _MODELS, len(models)
    until_version, until_tags = (percentile(values, 0.5) for values in zip(*costs, strict=True))
    told = f"{count} starts: {milliseconds(versions)}; {until_version:.1f} s of CPU"
    yield timed("R17", "first `/api/version` ≤ 1.5 s", told, max(versions) <= 1.5)
    told = f"{milliseconds(tags)}; {until_tags:.1f} s of CPU"
    goal = f"`/api/tags` ready ≤ 2.0 s, {_MODELS} models, none of them read before"
    yield timed("R17", goal, told, max(tags) <= 2)


@contextmanager
def _starting(store: Path) -> Iterator[tuple[float, int, str]]:
    """A server that has just been started: when, its pid, and where it will listen."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = os.environ | {"OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_MODELS": str(store)}
    env |= {"PRONK_API_KEYS_FILE": str(store.parent / "api_keys.json")}
    started = time.perf_counter()
    command = [sys.executable, "-m", "server.main"]
    with subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL) as process:
        try:
            yield started, process.pid, f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _await_port(url: str) -> None:
    """Wait until connections are accepted. Raises TimeoutError."""
    deadline = time.perf_counter() + PATIENCE
    while not _accepts(url):
        if time.perf_counter() > deadline:
            raise TimeoutError("the server does not start")
        time.sleep(_POLL)


def _accepts(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) == 0


def _drains(store: Path, count: int) -> Iterator[Line]:
    """Stops while answers run, some of which end by themselves."""
    stops = Stops()
    for _ in range(count):
        with _capturing(store) as server:
            stops.all.append(asyncio.run(_stopped(server, [signal.SIGTERM])))
    refused, drained = [stop.refused for stop in stops.all], [stop.drained for stop in stops.all]
    yield timed("R17", "SIGTERM: no connection is accepted after ≤ 50 ms", milliseconds(refused), max(refused) <= 0.05)
    goal = f"SIGTERM: {_ENDLESS} answers without end go on for ≤ {_MOST_DRAIN} s"
    yield timed("R17", goal, milliseconds(drained), max(drained) <= _MOST_DRAIN)
    yield _open_ends("SIGTERM", stops)
    broken, short = sum(stop.broken for stop in stops.all), _SHORT * count
    yield kept("R17", "SIGTERM: short answers are whole", f"{short - broken} of {short}", not broken)
    yield from stops.lines("SIGTERM", _MOST_DRAIN + 1)


def _open_ends(name: str, stops: Stops) -> Line:
    ends, all_of_them = sum(stop.open_ends for stop in stops.all), (_ENDLESS + _SHORT) * len(stops.all)
    told = f"{all_of_them - ends} of {all_of_them}"
    return kept("R17", f"{name}: every open stream ends with a last object", told, not ends)


def _stopped_twice(store: Path) -> Stop:
    with _capturing(store) as server:
        return asyncio.run(_stopped(server, [signal.SIGTERM, signal.SIGTERM]))


@contextmanager
def _capturing(store: Path) -> Iterator[Served]:
    """A server that keeps its requests as files, too."""
    folder = store.parent / "kept"
    folder.mkdir(exist_ok=True)
    with serving(store, OLLAMA_DEBUG_LOG_REQUESTS="1", TMPDIR=str(folder)) as server:
        yield server


async def _stopped(server: Served, signals: list[signal.Signals]) -> Stop:
    short = [await Stream(server, story(ONE, num_predict=_SHORT_ANSWER)).start() for _ in range(_SHORT)]
    endless = [await Stream(server, story(ONE)).start() for _ in range(_ENDLESS)]
    await asyncio.gather(*(stream.begun() for stream in [*short, *endless]))
    children, stop = server.runners(), Stop()
    for number, each in enumerate(signals):
        if number:
            await asyncio.sleep(_SECOND)
        sent = time.perf_counter()
        server.process.send_signal(each)
    if len(signals) == 1:
        stop.refused = await asyncio.to_thread(_refuses, server.url, sent)
    ends = [await stream.ended() for stream in [*short, *endless]]
    stop.drained = time.perf_counter() - sent
    stop.code = await asyncio.to_thread(server.process.wait, PATIENCE)
    stop.exited = time.perf_counter() - sent
    stop.open_ends = sum(not (end.get("done") or end.get("error")) for end in ends)
    stop.broken = sum(end.get("eval_count") != _SHORT_ANSWER for end in ends[:_SHORT])
    _look_back(server, children, stop)
    return stop


def _refuses(url: str, sent: float) -> float:
    """Seconds from the signal until connections are refused."""
    while _accepts(url) and time.perf_counter() < sent + PATIENCE:
        time.sleep(_POLL)
    return time.perf_counter() - sent


def _captured(store: Path) -> Stop:
    """A stop while many bytes of requests are still to be written."""
    body = b'{"model":"no-such-model","prompt":"' + b"word, " * (_BODY // 6) + b'"}'
    stop = Stop()
    with _capturing(store) as server:
        port = int(server.url.rpartition(":")[2])
        head = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        connections = [socket.create_connection(("127.0.0.1", port), PATIENCE) for _ in range(_BODIES)]
        for connection in connections:
            connection.sendall(head + body)
        for connection in connections:
            connection.recv(1 << 16)
        children, sent = server.runners(), time.perf_counter()
        server.process.send_signal(signal.SIGTERM)
        stop.code = server.process.wait(PATIENCE)
        stop.exited = time.perf_counter() - sent
        for connection in connections:
            connection.close()
        _look_back(server, children, stop)
    return stop


def _look_back(server: Served, children: list[psutil.Process], stop: Stop) -> None:
    """What a server that has ended has left behind: processes, tracebacks in its log."""
    _, alive = psutil.wait_procs(children, timeout=0.2)
    for child in alive:
        with suppress(psutil.NoSuchProcess):
            stop.orphans += child.status() != psutil.STATUS_ZOMBIE
    stop.tracebacks = server.log.read_text(errors="replace").count("Traceback")
