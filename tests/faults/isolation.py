"""R1 and R2: a child that dies or hangs costs nobody else anything; a parent that dies leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from tests.faults.measure import MIB, Counts, Line, anonymous, kept, milliseconds, percentile, timed
from tests.faults.models import ONE, OTHER, provide, runner_of
from tests.faults.streams import PATIENCE, Stream, answer, story
from tests.serving import LOOPBACK, Served, serving

_STREAMS = 4  # of each model
_LONGEST_GAP = 0.5  # seconds
_WATCHDOG = 1  # seconds
_POLL = 0.005
_LOADING = 0.03  # seconds after a request in which its model is being loaded


def crash_isolation(folder: Path, counts: Counts) -> Iterator[Line]:
    """R1."""
    with serving(folder / "models", PRONK_WATCHDOG=f"{_WATCHDOG}s") as server:
        provide(server, folder, ONE, OTHER)
        yield from asyncio.run(_strike(server, folder, signal.SIGKILL, counts.kills, counts.survivors, 1.0))
        yield from asyncio.run(_strike(server, folder, signal.SIGSTOP, counts.stops, counts.survivors, _WATCHDOG + 1.0))


class _Survivors:
    """Streams of the other model that go on all the time; one that has its `tokens` is followed by the next."""

    def __init__(self, server: Served, tokens: int) -> None:
        self.gaps = self.answers = self.lost = 0
        self.longest = 0.0
        self._server = server
        self._tokens = tokens
        self._tasks = [asyncio.create_task(self._go_on()) for _ in range(_STREAMS)]
        self._ending = False

    async def finish(self) -> None:
        """Let the streams that run come to their end."""
        self._ending = True
        await asyncio.gather(*self._tasks)

    async def _go_on(self) -> None:
        while not self._ending:
            stream = await answer(self._server, story(OTHER, num_predict=self._tokens))
            self.answers += 1
            self.lost += stream.last.get("eval_count") != self._tokens
            self.gaps += stream.longest_gap > _LONGEST_GAP
            self.longest = max(self.longest, stream.longest_gap)


async def _strike(
    server: Served, folder: Path, number: signal.Signals, turns: int, tokens: int, limit: float
) -> list[Line]:
    """Children that get a signal while four streams run in them, and four of `tokens` tokens each in another."""
    for model in (ONE, OTHER):
        await answer(server, story(model, num_predict=10))
    survivors = _Survivors(server, tokens)
    told: list[float] = []
    struck: list[psutil.Process] = []
    untyped = failed = before = 0
    for turn in range(turns):
        if turn == min(5, turns // 2):  # what a server keeps for good it has by then
            before = anonymous(server.process.pid)
        victims = [await Stream(server, story(ONE)).start() for _ in range(_STREAMS)]
        await asyncio.gather(*(victim.begun() for victim in victims))
        struck.append(runner_of(server, folder, ONE))
        sent = time.perf_counter()
        struck[-1].send_signal(number)
        for victim in victims:
            last = await victim.ended()
            untyped += not isinstance(last.get("error"), str)
            told.append(victim.last_at - sent)
        after = await answer(server, story(ONE, num_predict=10))
        failed += after.last.get("eval_count") != 10
    await survivors.finish()
    growth = (anonymous(server.process.pid) - before) / MIB
    zombies = sum(child.status() == psutil.STATUS_ZOMBIE for child in server.runners())
    left = sum(child.is_running() for child in struck)
    name = number.name
    watchdog = f", watchdog {_WATCHDOG} s" if number is signal.SIGSTOP else ""
    return [
        timed(
            "R1",
            f"victims of {name} told ≤ {limit:g} s p99{watchdog}",
            f"{turns} times: {milliseconds(told)}",
            percentile(told, 0.99) <= limit,
        ),
        kept("R1", f"{name}: each victim gets a typed error", f"{len(told) - untyped} of {len(told)}", not untyped),
        kept(
            "R1",
            f"{name}: the other model loses no token",
            f"{survivors.lost} of {survivors.answers} answers",
            not survivors.lost,
        ),
        timed(
            "R1",
            f"{name}: nor has to wait > 500 ms for one",
            f"{survivors.gaps} of {survivors.answers} answers; longest {1000 * survivors.longest:.0f} ms",
            not survivors.gaps,
        ),
        kept(
            "R1",
            f"{name}: next request to the victim's model succeeds",
            f"{turns - failed} of {turns}",
            not failed,
        ),
        timed("R1", f"{name}: parent grows ≤ 5 MiB", f"{growth:.1f} MiB", growth <= 5),
        kept("R1", f"{name}: no zombies, and none of the victims is left", f"{zombies}, {left}", not zombies + left),
    ]


def parent_death(folder: Path, counts: Counts) -> Iterator[Line]:
    """R2."""
    gone: list[float] = []
    restarts: list[float] = []
    left: set[Path] = set()
    port, survivors, before, killed = 0, 0, _shared(), 0.0
    for turn in range(counts.parent_kills):
        with serving(folder / "models", port=port) as server:
            port = int(server.url.rpartition(":")[2])
            if turn == 0:
                provide(server, folder, ONE)
            else:
                restarts.append(time.perf_counter() - killed)
            with _asked(server, decoding=turn % 2 == 0):
                children = server.runners()
                killed = time.perf_counter()
                server.process.kill()
                server.process.wait()
                survivors += len(_wait(children))
                gone.append(time.perf_counter() - killed)
            left |= _shared() - before
    with serving(folder / "models", port=port) as server:
        works = httpx.post(f"{server.url}/api/generate", json=story(ONE, num_predict=5), **LOOPBACK, timeout=PATIENCE)
    n = counts.parent_kills
    fine = works.is_success and not left
    yield kept("R2", "no child outlives the parent", f"{n} kills: {survivors} left", not survivors)
    yield timed("R2", "children gone ≤ 2 s", milliseconds(gone), max(gone) <= 2)
    yield kept(
        "R2",
        "port, store and shared memory free at once",
        f"{len(restarts)} restarts on the same port and store, again listening after {max(restarts):.1f} s at most; "
        f"{len(left)} files left in /dev/shm",
        fine,
    )


@contextmanager
def _asked(server: Served, *, decoding: bool) -> Iterator[None]:
    """A client whose answer has begun, or whose model is being loaded."""
    body = story(ONE)
    if decoding:
        with httpx.stream("POST", f"{server.url}/api/generate", json=body, **LOOPBACK, timeout=PATIENCE) as begun:
            next(begun.iter_lines())
            yield
        return
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as connection:
        data = json.dumps(body).encode()
        connection.sendall(b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\n")
        connection.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
        time.sleep(_LOADING)
        yield


def _wait(children: list[psutil.Process]) -> list[psutil.Process]:
    """Those that are still there after a while."""
    deadline = time.perf_counter() + 30
    while (alive := [child for child in children if _lives(child)]) and time.perf_counter() < deadline:
        time.sleep(_POLL)
    return alive


def _lives(child: psutil.Process) -> bool:
    """Whether it still holds anything: a zombie does not, whoever has to ask for its exit code now."""
    try:
        return child.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _shared() -> set[Path]:
    folder = Path("/dev/shm")
    return set(folder.iterdir()) if folder.is_dir() else set()
