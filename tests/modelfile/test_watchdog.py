"""Processes that hang, that are stopped, and that are only slow."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from modelfile import operating_system
from modelfile.operating_system import is_ready, is_stopped, work_done
from modelfile.watchdog import LOOKS, Watchdog, killed_if_stopped

SLEEPS = "import time; print(flush=True); time.sleep(600)"
COMPUTES = "print(flush=True)\nwhile True: pass"


@pytest.fixture(params=[True, False], ids=["linux", "macos"])
def linux(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param and sys.platform != "linux":
        pytest.skip("there is no /proc")
    monkeypatch.setattr(operating_system, "LINUX", request.param)
    return bool(request.param)


@contextmanager
def running(code: str) -> Iterator[int]:
    """A process that has begun to do this."""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process.pid
        finally:
            process.kill()


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)


def looks(dog: Watchdog, count: int, *, asked: bool = False) -> list[bool]:
    results = []
    for _ in range(count):
        time.sleep(0.03)  # three ticks in which it could have computed
        results.append(dog.look(asked=asked))
    return results


def test_a_stopped_process_hangs_whether_it_is_asked_or_not(linux: bool) -> None:
    for asked in (False, True):
        with running(SLEEPS) as pid:
            dog = Watchdog(pid, 1.0)
            stop(pid)
            assert is_stopped(pid)
            assert not is_ready(pid)
            assert looks(dog, LOOKS - 1, asked=asked) == [False] * (LOOKS - 2) + [True]


def test_a_process_that_goes_on_does_not_hang(linux: bool) -> None:
    with running(SLEEPS) as pid:
        dog = Watchdog(pid, 1.0)
        stop(pid)
        assert not any(looks(dog, LOOKS - 2))
        os.kill(pid, signal.SIGCONT)
        while is_stopped(pid):
            time.sleep(0.01)
        assert not any(looks(dog, 2 * LOOKS))


def test_a_process_that_sleeps_hangs_only_if_it_is_asked(linux: bool) -> None:
    with running(SLEEPS) as pid:
        dog = Watchdog(pid, 1.0)
        assert not any(looks(dog, 2 * LOOKS))
        assert looks(dog, LOOKS, asked=True).index(True) == LOOKS - 1
        assert not dog.look(heard=True, asked=True)


def test_a_process_that_computes_does_not_hang(linux: bool) -> None:
    with running(COMPUTES) as pid:
        before = work_done(pid)
        assert not any(looks(Watchdog(pid, 1.0), 2 * LOOKS, asked=True))
        assert work_done(pid) > before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_a_process_that_gets_no_processor_does_not_hang() -> None:
    """All compute on one core, and the one that is looked at comes last."""
    core = {min(os.sched_getaffinity(0))}
    with running(COMPUTES) as first, running(COMPUTES) as pid:
        for each in (first, pid):
            os.sched_setaffinity(each, core)
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
        assert is_ready(pid)
        assert not any(looks(Watchdog(pid, 1.0), 2 * LOOKS, asked=True))


def test_a_process_that_has_ended_gives_no_sign(linux: bool) -> None:
    with running(SLEEPS) as pid:
        pass
    assert not is_stopped(pid)
    assert not is_ready(pid)
    assert work_done(pid) == ()


async def test_a_stopped_process_is_killed_while_it_is_watched() -> None:
    with running(SLEEPS) as pid:
        killed = asyncio.Event()
        async with killed_if_stopped(pid, 0.2, killed.set):
            await asyncio.sleep(0.3)
            assert not killed.is_set()
            stop(pid)
            await asyncio.wait_for(killed.wait(), 60)
        async with killed_if_stopped(pid, float("inf"), killed.clear):
            await asyncio.sleep(0.1)
        assert killed.is_set()
