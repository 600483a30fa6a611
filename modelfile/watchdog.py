"""Tells processes that hang from those that are slow. For child processes of every kind; runs on the event loop."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from modelfile.operating_system import is_ready, is_stopped, work_done

PATIENCE = 10.0  # seconds without a sign of life, by default
LOOKS = 10  # in that time
STUCK_FACTOR = 30  # so many times the patience may work go on without a result, or rest without being asked for a sign


class Watchdog:
    """Counts looks at a process that showed no sign of life. Look every `interval` seconds.

    A message is a sign. A process that is `asked` for one also lives as long as it computes, has pages read from a
    disk, or waits for a processor: it is slow, or the machine is busy. One that is stopped (SIGSTOP) gives no sign.
    Looks are counted, not seconds: time that passes while this process itself is held up, as on a machine that was
    suspended, counts for nothing.
    """

    def __init__(self, pid: int, patience: float) -> None:
        self.interval = patience / LOOKS
        self._pid = pid
        self._silent = 0
        self._work: tuple[float, ...] | None = None

    def look(self, *, heard: bool = False, asked: bool = False) -> bool:
        """Whether it hangs. `heard`: it has sent a message since the last look; `asked`: it owes one."""
        if heard:
            self._silent, self._work = 0, None
            return False
        before, self._work = self._work, work_done(self._pid) if asked else None
        idle = asked and self._work == before and not is_ready(self._pid)
        self._silent = self._silent + 1 if idle or is_stopped(self._pid) else 0
        return self._silent > LOOKS - 2  # the first may come an interval after the last sign, and this one is done


@asynccontextmanager
async def killed_if_stopped(pid: int, patience: float, kill: Callable[[], None]) -> AsyncIterator[None]:
    """Calls `kill` if a process is stopped by a signal for `patience` seconds while the context lasts."""
    watching = asyncio.create_task(kill_if_stopped(pid, patience, kill))
    try:
        yield
    finally:
        watching.cancel()


async def watch_worker(pid: int, patience: float, heard: Callable[[], bool]) -> float:
    """Returns once a process that always has work to do hangs: the seconds without a sign of life.

    That is `patience` if a signal has stopped it, and STUCK_FACTOR times as long if it does not compute and waits
    neither for a processor nor for a disk. `heard`: whether it has reported anything since the last call. However slow
    a disk or a busy machine makes it, it does not hang.
    """
    stopped, stuck = Watchdog(pid, patience), Watchdog(pid, patience * STUCK_FACTOR)
    looks = 0
    while True:
        await asyncio.sleep(stopped.interval)
        looks += 1
        if stopped.look():
            return patience
        if looks % STUCK_FACTOR == 0 and stuck.look(heard=heard(), asked=True):
            return patience * STUCK_FACTOR


async def kill_if_stopped(pid: int, patience: float, kill: Callable[[], None]) -> None:
    """The same until it is cancelled. Without a limit (inf) it returns at once."""
    if math.isinf(patience):
        return
    dog = Watchdog(pid, patience)
    while True:
        await asyncio.sleep(dog.interval)
        if dog.look():
            kill()
            return
