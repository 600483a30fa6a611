"""R4 and R5: more requests than there is room for, clients that do not read, and small requests beside large ones."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.faults.cancellation import ask
from tests.faults.measure import MIB, Counts, Line, anonymous, kept, milliseconds, percentile, timed
from tests.faults.models import ONE, OTHER, provide
from tests.faults.streams import Stream, answer, story
from tests.serving import LOOPBACK, Served, serving

_QUEUE = 16
_CLIENTS = 16  # that are refused, each one request after the other
_ROUNDS = 10
_BURST = 500
_BUSY = 8  # streams that keep both cores busy
_SLOW_READERS = 4
_ANSWER = 300  # tokens
_CORES = os.cpu_count() or 1
_MODELS = 500
_PATHS = ("/", "/api/version", "/api/ps", "/api/tags")


def back_pressure(folder: Path, counts: Counts) -> Iterator[Line]:
    """R4."""
    with serving(folder / "models", OLLAMA_MAX_QUEUE=str(_QUEUE), OLLAMA_MAX_LOADED_MODELS="1") as server:
        provide(server, folder, ONE, OTHER)
        yield from asyncio.run(_refuse(server, counts))
    with serving(folder / "models") as server:
        yield from asyncio.run(_slow_readers(server))


async def _refuse(server: Served, counts: Counts) -> list[Line]:
    """A model is busy, so that nobody else's is loaded: the line is full until its streams end."""
    told: list[float] = []
    accepted = lost = wrong = bare = 0
    rounds = 2 if counts.quick else _ROUNDS
    for turn in range(rounds):
        busy, wanted = (ONE, OTHER) if turn % 2 == 0 else (OTHER, ONE)
        holders, line = await _fill(server, busy, wanted)
        refused = await _storm(server, wanted, counts.over_cap // rounds)
        told += [stream.head_at - stream.sent_at for stream in refused]
        wrong += sum(stream.status != 503 for stream in refused) + sum(bool(stream.status) for stream in line)
        bare += sum("retry-after" not in stream.headers for stream in refused)
        lost += await _release(holders, line)
        accepted += len(line)
    holders, line = await _fill(server, ONE, OTHER)
    burst = [await Stream(server, story(OTHER, num_predict=5, num_thread=_CORES)).start() for _ in range(_BURST)]
    await asyncio.gather(*(stream.ended() for stream in burst))
    lost += await _release(holders, line)
    at_once = [stream.head_at - stream.sent_at for stream in burst]
    n = len(told)
    return [
        kept("R4", f"the queue takes {_QUEUE} behind the head and no more", f"{wrong} of {n} wrong", not wrong),
        timed("R4", "503 ≤ 50 ms p99, both cores busy", f"{n}: {milliseconds(told)}", percentile(told, 0.99) <= 0.05),
        timed("R4", f"the same, {_BURST} at once", milliseconds(at_once), percentile(at_once, 0.99) <= 0.05),
        kept("R4", "each 503 has Retry-After", f"{n - bare} of {n}", not bare),
        kept(
            "R4",
            "no request that was accepted is lost",
            f"{lost} of {accepted + _QUEUE + 1} in line, beside {n + _BURST} that were refused",
            not lost,
        ),
    ]


async def _fill(server: Served, busy: str, wanted: str) -> tuple[list[Stream], list[Stream]]:
    holders = [await Stream(server, story(busy, num_thread=_CORES)).start() for _ in range(_BUSY)]
    await asyncio.gather(*(stream.begun() for stream in holders))
    line = [await Stream(server, story(wanted, num_predict=5, num_thread=_CORES)).start() for _ in range(_QUEUE + 1)]
    await asyncio.sleep(0.5)
    return holders, line


async def _storm(server: Served, model: str, count: int) -> list[Stream]:
    """Requests that find no room, from clients that each wait for their answer."""
    refused: list[Stream] = []

    async def client() -> None:
        while len(refused) < count:
            stream = await Stream(server, story(model, num_predict=5, num_thread=_CORES)).start()
            await stream.ended()
            refused.append(stream)

    await asyncio.gather(*(client() for _ in range(_CLIENTS)))
    return refused


async def _release(holders: list[Stream], line: list[Stream]) -> int:
    """How many of those in line are not answered."""
    for holder in holders:
        holder.leave()
    ends = [await stream.ended() for stream in line]
    return sum(end.get("eval_count") != 5 for end in ends)


async def _slow_readers(server: Served) -> list[Line]:
    await answer(server, story(ONE, num_predict=_ANSWER))
    reading = [await Stream(server, story(ONE)).start() for _ in range(_SLOW_READERS)]
    await asyncio.gather(*(stream.begun() for stream in reading))
    beside_readers = await _timed_answers(server)
    for stream in reading:
        stream.leave()
    await asyncio.sleep(0.5)
    before = anonymous(server.process.pid)
    silent = [Stream(server, story(ONE)) for _ in range(_SLOW_READERS)]
    for stream in silent:
        await stream.start_silent(receive_buffer=4096)
    beside_silent = await _timed_answers(server)
    held = (anonymous(server.process.pid) - before) / _SLOW_READERS / MIB
    for stream in silent:
        stream.leave()
    median, other = percentile(beside_silent, 0.5), percentile(beside_readers, 0.5)
    return [
        timed("R4", "a reader that stands still holds ≤ 1 MiB", f"{held:.2f} MiB each of {_SLOW_READERS}", held <= 1),
        timed(
            "R4",
            "and does not delay others (≤ 1.2 times as long as beside readers)",
            f"{_ANSWER} tokens in {median:.2f} s, beside readers {other:.2f} s",
            median <= 1.2 * other,
        ),
    ]


async def _timed_answers(server: Served) -> list[float]:
    answers = [await answer(server, story(ONE, num_predict=_ANSWER)) for _ in range(5)]
    return [stream.last_at - stream.sent_at for stream in answers]


def control_plane(folder: Path, counts: Counts) -> Iterator[Line]:
    """R5."""
    report = folder / "report.json"
    with serving(folder / "models", module="tests.faults.watched", FAULTS_REPORT=str(report)) as server:
        provide(server, folder, ONE)
        manifests = server.store / "manifests" / "registry.ollama.ai" / "library"
        for number in range(_MODELS - 1):
            shutil.copytree(manifests / ONE, manifests / f"copy-{number}")
        yield from asyncio.run(_look(server, report, counts))


async def _look(server: Served, report: Path, counts: Counts) -> list[Line]:
    streams = [await Stream(server, story(ONE)).start() for _ in range(_BUSY)]
    await asyncio.gather(*(stream.begun() for stream in streams))
    took: dict[str, list[float]] = {path: [] for path in _PATHS}
    ask(server, report)  # from now on it looks for stalls
    deadline = time.monotonic() + counts.load_seconds
    async with httpx.AsyncClient(base_url=server.url, **LOOPBACK, timeout=60) as client:
        while time.monotonic() < deadline:
            for path in _PATHS:
                started = time.perf_counter()
                (await client.get(path)).raise_for_status()
                took[path].append(time.perf_counter() - started)
                await asyncio.sleep(0.02)
    stall = ask(server, report)["stall"]
    broken = sum(bool(stream.last) for stream in streams)
    for stream in streams:
        stream.leave()
    lines = [_path_line(path, values) for path, values in took.items()]
    goal = f"longest stall of the event loop in {counts.load_seconds:.0f} s ≤ 100 ms"
    lines.append(timed("R5", goal, f"{1000 * stall:.0f} ms", stall <= 0.1))
    lines.append(kept("R5", "the streams go on meanwhile", f"{_BUSY - broken} of {_BUSY}", not broken))
    return lines


def _path_line(path: str, values: list[float]) -> Line:
    goal = f"`{path}` beside {_BUSY} streams, {_MODELS} models: p50 ≤ 10 ms, p99 ≤ 100 ms"
    reached = percentile(values, 0.5) <= 0.01 and percentile(values, 0.99) <= 0.1
    return timed("R5", goal, f"{len(values)}: {milliseconds(values)}", reached)
