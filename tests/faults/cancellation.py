"""R3 and R7: who leaves frees his place at once, and leaves nothing behind.

A place that is free cannot be seen from outside, so it is measured by who gets it: with one place for each model, the
time from one client's leaving to the first token of the next. That is more than the freeing took.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from bench.workload import text
from tests.faults.measure import Counts, Line, kept, milliseconds, percentile, timed
from tests.faults.models import ONE, OTHER, SLOW, provide
from tests.faults.streams import Stream, answer, story
from tests.serving import Served, serving

_QUEUE = 4
_PLACES = 8
_SIGNS = ("Task was destroyed", "unclosed", "never awaited", "ResourceWarning", "Traceback")
_PROMPT = 6000  # words that are read when a client leaves


def cancellation(folder: Path, counts: Counts) -> Iterator[Line]:
    """R3."""
    with serving(
        folder / "models",
        OLLAMA_KEEP_ALIVE="-1",
        OLLAMA_NUM_PARALLEL="1",
        OLLAMA_MAX_QUEUE=str(_QUEUE),
        OLLAMA_MAX_LOADED_MODELS="1",
    ) as server:
        provide(server, folder, ONE, OTHER, SLOW)
        yield from asyncio.run(_cancel(server, counts))


async def _cancel(server: Served, counts: Counts) -> list[Line]:
    decode = await _while_decoding(server, counts.cancels)
    queued, wrong = await _while_queued(server, counts.queued)
    prefill = await _while_reading(server, counts.prefills)
    asked = counts.cancels + counts.prefills + counts.queued
    freed = len(decode) + len(prefill) + len(queued)
    return [
        timed(
            "R3", "a place freed while decoding ≤ 250 ms p99", milliseconds(decode), percentile(decode, 0.99) <= 0.25
        ),
        timed(
            "R3",
            f"while a prompt of {_PROMPT} tokens or more is read ≤ 250 ms p99",
            milliseconds(prefill),
            percentile(prefill, 0.99) <= 0.25,
        ),
        timed("R3", "in the queue ≤ 50 ms", milliseconds(queued), max(queued) <= 0.05),
        kept(
            "R3",
            "no place is lost",
            f"{freed} of {asked} freed, with one place to lose"
            + (f"; {wrong} places too many or too few" if wrong else ""),
            freed == asked and not wrong,
        ),
    ]


async def _while_decoding(server: Served, count: int) -> list[float]:
    current = await Stream(server, story(ONE)).start()
    await current.begun()
    waited = []
    for _ in range(count):
        following = await Stream(server, story(ONE)).start()
        await asyncio.sleep(0.01)  # it is in line
        waited.append(await _hand_over(current, following))
        current = following
    current.leave()
    return waited


async def _while_reading(server: Served, count: int) -> list[float]:
    await answer(server, story(SLOW, num_predict=1))
    waited: list[float] = []
    for turn in itertools.count():
        if len(waited) == count or turn > 2 * count:
            return waited
        long: dict[str, Any] = story(SLOW, num_predict=5, num_ctx=16384) | {"prompt": text(_PROMPT, f"reading {turn}")}
        current = await Stream(server, long).start()
        following = await Stream(server, story(SLOW, num_predict=1, num_ctx=16384)).start()
        await asyncio.sleep(0.1 + 0.02 * (turn % 10))
        if current.first.is_set():  # read already: a fast machine
            await following.ended()
            continue
        waited.append(await _hand_over(current, following))
        await following.ended()
    raise AssertionError


async def _hand_over(current: Stream, following: Stream) -> float:
    """Seconds from one's leaving to the other's first token."""
    left = time.perf_counter()
    current.leave()
    await following.begun()
    assert following.lines, following.last
    return following.first_at - left


async def _while_queued(server: Served, count: int) -> tuple[list[float], int]:
    """Seconds until a place in a full queue can be taken again, and how many places were too many or too few."""
    holder = await Stream(server, story(ONE)).start()
    await holder.begun()
    line = [await Stream(server, story(OTHER, num_predict=1)).start() for _ in range(_QUEUE + 1)]
    await asyncio.sleep(0.3)
    waited, wrong = [], 0
    for turn in range(count):
        left = time.perf_counter()
        line.pop(turn % len(line)).leave()
        probes = []
        for _ in range(25):
            probes.append(await Stream(server, story(OTHER, num_predict=1)).start())
            await asyncio.sleep(0.004)
        await asyncio.sleep(0.3)
        accepted = [probe for probe in probes if not probe.status]
        wrong += len(accepted) != 1
        if accepted:
            waited.append(accepted[0].sent_at - left)
        line += accepted
    holder.leave()
    for stream in line:
        await stream.ended()
    return waited, wrong


def handles(folder: Path, counts: Counts) -> Iterator[Line]:
    """R7."""
    report = folder / "report.json"
    with serving(
        folder / "models",
        module="tests.faults.watched",
        PYTHONWARNINGS="default",
        OLLAMA_NUM_PARALLEL=str(_PLACES),
        FAULTS_REPORT=str(report),
    ) as server:
        provide(server, folder, ONE)
        yield from asyncio.run(_cycles(server, report, counts))
    log = server.log.read_text(errors="replace")
    found = {sign: log.count(sign) for sign in _SIGNS if sign in log}
    told = ", ".join(f"{count} × {sign}" for sign, count in found.items()) or "none"
    yield kept("R7", "no warning of tasks, sockets or files that were left", told, not found)


async def _cycles(server: Served, report: Path, counts: Counts) -> list[Line]:
    ask(server, report)  # from now on its pool of threads grows no more
    await _leave_often(server, 100)
    before = await _settled(server, report, None)
    await _leave_often(server, counts.cycles)
    after = await _settled(server, report, before)
    together = [await Stream(server, story(ONE)).start() for _ in range(_PLACES)]
    await asyncio.gather(*(stream.begun(30) for stream in together))
    running = sum(not stream.last for stream in together)
    for stream in together:
        stream.leave()
    shown = ", ".join(f"{name} {before[name]} → {after[name]}" for name in before)
    same = all(after[name] <= before[name] for name in before)
    n = counts.cycles
    return [
        kept("R7", f"files, threads, tasks as before {n} connections that were dropped", shown, same),
        kept("R7", "all places of the model still free", f"{running} of {_PLACES} run together", running == _PLACES),
    ]


async def _leave_often(server: Served, count: int) -> None:
    gate = asyncio.Semaphore(_PLACES)

    async def one(turn: int) -> None:
        async with gate:
            match turn % 4:
                case 0:  # says nothing
                    _, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
                    writer.transport.abort()
                case 1:  # does not wait for an answer
                    stream = Stream(server, story(ONE))
                    await stream.start_silent()
                    await asyncio.sleep(0.005)
                    stream.leave()
                case _:
                    stream = await Stream(server, story(ONE)).start()
                    await stream.begun()
                    stream.leave()

    await asyncio.gather(*(one(turn) for turn in range(count)))


async def _settled(server: Served, report: Path, baseline: dict[str, int] | None) -> dict[str, int]:
    """Open files, threads and tasks of the server, once they are down to a baseline, or for 10 seconds the same."""
    deadline = time.monotonic() + 10
    while True:
        await asyncio.sleep(0.5)
        found = _handles(server, report)
        if baseline is not None and all(found[name] <= baseline[name] for name in found):
            return found
        if time.monotonic() > deadline:
            return found


def _handles(server: Served, report: Path) -> dict[str, int]:
    process = psutil.Process(server.process.pid)
    tasks = int(ask(server, report)["tasks"])
    return {"files": process.num_fds(), "threads": process.num_threads(), "tasks": tasks}


def ask(server: Served, report: Path) -> dict[str, float]:
    """What `tests.faults.watched` tells. Raises TimeoutError."""
    report.unlink(missing_ok=True)
    server.process.send_signal(signal.SIGUSR1)
    deadline = time.monotonic() + 30
    while not report.exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the server does not tell of its event loop")
        time.sleep(0.005)
    found: dict[str, float] = json.loads(report.read_text())
    return found
