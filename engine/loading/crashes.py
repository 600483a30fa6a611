"""Crashes of child processes: how users are told, and whether the model or the installation is at fault."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, NamedTuple, TypeVar

from engine.errors import LoadCrashed, LoadFailed, OutOfMemory
from engine.selftest import Outcome, SelfTest
from modelfile.crashes import CRASHES, advice, name_of, processor, remedy

IN_A_ROW: Final = 3  # crashes of the same load until the self-test runs
ANYHOW: Final = 8  # crashes in a row of the same weights, loaded with any options, that have the same consequences
REMEMBERED: Final = 100  # loads that are known to crash, at most
FIRST_PAUSE: Final = 5.0  # seconds without another try after as many loads that were killed
VERDICT_LASTS: Final = 300.0  # seconds that such a load is not tried again
V = TypeVar("V")


def how_it_ended(code: int, last_words: str = "", *, out_of_memory: bool = False) -> str:
    """One line on the end of a child from its exit code (negative: the signal) and its last message.

    `out_of_memory`: the system has killed somebody for want of memory.
    """
    if code >= 0:
        return last_words or f"it ended with exit status {code}"
    number = -code
    if number in CRASHES:
        why = f"llama.cpp gave up: {last_words}" if last_words else advice(number)
        return f"it died of {name_of(number)} on {processor()}: {why}"
    if last_words:
        return last_words
    if number == signal.SIGKILL:
        likely = "; out of memory is likely: the system has killed a process for that" if out_of_memory else ""
        return f"it was killed by signal 9 (SIGKILL){likely}"
    return f"it was ended by {name_of(number)}"


def died_loading(detail: str, signal_number: int, *, model_sent: bool = True, memory: bool = False) -> LoadFailed:
    """The error for a child that ended instead of loading. `detail`: how it ended.

    `signal_number`: the signal that killed it, or 0. `model_sent`: it had been told which model to load. `memory`:
    there was not enough of it.
    """
    text = f"llama-server process has terminated: {detail}"
    if memory:
        return OutOfMemory(text)
    return (
        LoadCrashed(text, name_of(signal_number), model_sent=model_sent)
        if signal_number in CRASHES
        else LoadFailed(text)
    )


class LoadIdentity(NamedTuple):
    """What tells loads apart: the weights as they are stored, and how they are loaded."""

    weights: Hashable
    num_ctx: int
    options: Hashable = None


class LoadCrashes:
    """Counts crashes in a row of a load or of its first requests. Owned by the event loop; `close` it.

    A load is identified by any hashable value. At the third crash `run_self_test` is called, at most once while the
    server runs. If the test passes, the model is at fault and this load is refused for `VERDICT_LASTS` seconds; else
    the installation is at fault. The same weights may be loaded with other options: after `ANYHOW` crashes in a row,
    however they were loaded, all contexts are refused that are longer than half of the shortest one that crashed.
    """

    def __init__(
        self, run_self_test: Callable[[], Awaitable[SelfTest]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._run_self_test = run_self_test
        self._clock = clock
        self._testing = asyncio.Lock()
        self._self_test: SelfTest | None = None
        self._crashes: dict[Hashable, int] = {}
        self._verdicts: dict[Hashable, tuple[str, float]] = {}  # why a load is refused, and until when
        self._anyhow: dict[Hashable, tuple[int, int]] = {}  # by weights: crashes in a row, and the shortest context
        self._counting: set[asyncio.Task[str]] = set()

    @property
    def fault(self) -> str:
        """What is wrong with the installation; empty if nothing is known."""
        test = self._self_test
        if test is None or test.outcome in (Outcome.OK, Outcome.FAILED):
            return ""
        return f"{test.sentence}: the installation is at fault; {remedy()}"

    def verdict(self, load: Hashable) -> str | None:
        """Why this load is refused; None if it may be tried."""
        keys = [load]
        if isinstance(load, LoadIdentity) and load.num_ctx > self._anyhow.get(load.weights, (0, 0))[1] // 2:
            keys.append(load.weights)
        for key in keys:
            reason, end = self._verdicts.get(key, ("", 0.0))
            if reason and self._clock() < end:
                return reason
            self._verdicts.pop(key, None)
        return None

    def survived(self, load: Hashable) -> None:
        """The process has ended without a crash, or after an answer: forget the crashes of this load."""
        self._crashes.pop(load, None)
        self._crashes.pop(None, None)
        if isinstance(load, LoadIdentity):
            self._anyhow.pop(load.weights, None)

    def killed(self, load: Hashable, reason: str) -> str:
        """Something has killed this load's process, for want of memory perhaps; returns the text for the user.

        From the third time in a row on the load is refused for a while, twice as long each time.
        """
        times, anyhow = self._add(load)
        if times < IN_A_ROW and anyhow < ANYHOW:
            return reason
        times = max(times, anyhow)
        pause = min(FIRST_PAUSE * 2 ** (times - IN_A_ROW), VERDICT_LASTS)
        text = f"{reason}; {times} loads in a row have ended so, the next is tried after {pause:.0f} seconds"
        self._refuse(load, text, pause, anyhow)
        return text

    async def died(self, load: Hashable, model: str, error: LoadCrashed) -> str:
        """This load has crashed its process; returns the text for the user."""
        if error.model_sent:
            return await self._count(load, f"loading '{model}'", error.cause, str(error))
        return await self._count(None, "", error.cause, str(error))  # no model is at fault

    def died_at_work(self, load: Hashable, model: str, cause: str) -> None:
        """The process has crashed before its first answer. Counts in the background: a self-test takes seconds."""
        task = asyncio.create_task(self._count(load, f"the first request to '{model}'", cause, ""))
        self._counting.add(task)
        task.add_done_callback(self._counting.discard)

    async def close(self) -> None:
        """Cancel the counting in the background."""
        for task in self._counting:
            task.cancel()
        await asyncio.gather(*self._counting, return_exceptions=True)

    async def _count(self, load: Hashable, what: str, cause: str, text: str) -> str:
        crashes, anyhow = self._add(load)
        if crashes < IN_A_ROW and anyhow < ANYHOW and not self.fault:
            return text
        async with self._testing:
            if self._self_test is None:
                self._self_test = await self._run_self_test()
        test = self._self_test
        if fault := self.fault:
            return f"{text.replace(f'; {remedy()}', '')}; {fault}"  # names the remedy once
        if test.outcome is Outcome.FAILED or load is None:
            return f"{text}; {test.sentence}"
        verdict = (
            f"{what} has killed its process {max(crashes, anyhow)} times, last by {cause}, and the engine's self-test "
            f"passes on {processor()}: the model is at fault, its file may be damaged or of a kind that llama.cpp does "
            f"not know; it is tried again after {VERDICT_LASTS / 60:.0f} minutes, or once another version of it is "
            "pulled or created"
        )
        self._refuse(load, verdict, VERDICT_LASTS, anyhow)
        self._crashes.pop(load, None)
        return verdict

    def _add(self, load: Hashable) -> tuple[int, int]:
        """Count a crash; returns how many in a row this load has had, and its weights however they were loaded."""
        self._crashes[load] = times = self._crashes.pop(load, 0) + 1
        _forget_oldest(self._crashes)
        if not isinstance(load, LoadIdentity):
            return times, 0
        anyhow, shortest = self._anyhow.pop(load.weights, (0, load.num_ctx))
        self._anyhow[load.weights] = anyhow + 1, min(shortest, load.num_ctx)
        _forget_oldest(self._anyhow)
        return times, anyhow + 1

    def _refuse(self, load: Hashable, verdict: str, seconds: float, anyhow: int) -> None:
        """Refuse a load for a while; `anyhow` is how often in a row its weights have crashed."""
        end = self._clock() + seconds
        self._verdicts[load] = verdict, end
        if isinstance(load, LoadIdentity) and anyhow >= ANYHOW:
            self._verdicts[load.weights] = verdict, end
        _forget_oldest(self._verdicts)


def _forget_oldest(entries: dict[Hashable, V]) -> None:
    while len(entries) > REMEMBERED:
        del entries[next(iter(entries))]
