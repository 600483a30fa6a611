"""Crashes of child processes: how users are told, and whether the model or the installation is at fault."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Final

from engine.errors import LoadCrashed, LoadFailed, OutOfMemory
from engine.selftest import Outcome, SelfTest
from modelfile.crashes import CRASHES, advice, name_of, processor, remedy

IN_A_ROW: Final = 3  # crashes of the same load until the self-test runs
REMEMBERED: Final = 100  # loads that are known to crash, at most
FIRST_PAUSE: Final = 5.0  # seconds without another try after as many loads that were killed
VERDICT_LASTS: Final = 300.0  # seconds that such a load is not tried again


def how_it_ended(code: int, last_words: str = "") -> str:
    """One line on the end of a child from its exit code (negative: the signal) and its last message."""
    if code >= 0:
        return last_words or f"it ended with exit status {code}"
    number = -code
    if number in CRASHES:
        why = f"llama.cpp gave up: {last_words}" if last_words else advice(number)
        return f"it died of {name_of(number)} on {processor()}: {why}"
    if last_words:
        return last_words
    if number == signal.SIGKILL:
        return "it was killed (SIGKILL), maybe because the system ran out of memory"
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


class LoadCrashes:
    """Counts crashes in a row of a load or of its first requests. Owned by the event loop; `close` it.

    A load is identified by any hashable value. At the third crash `run_self_test` is called, at most once while the
    server runs. If the test passes, the model is at fault and this load is refused for `VERDICT_LASTS` seconds; else
    the installation is at fault.
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
        reason, end = self._verdicts.get(load, ("", 0.0))
        if reason and self._clock() >= end:
            del self._verdicts[load]
            return None
        return reason or None

    def survived(self, load: Hashable) -> None:
        """The process has ended without a crash, or after an answer: forget the crashes of this load."""
        self._crashes.pop(load, None)
        self._crashes.pop(None, None)

    def killed(self, load: Hashable, reason: str) -> str:
        """Something has killed this load's process, for want of memory perhaps; returns the text for the user.

        From the third time in a row on the load is refused for a while, twice as long each time.
        """
        self._crashes[load] = times = self._crashes.get(load, 0) + 1
        if times < IN_A_ROW:
            return reason
        pause = min(FIRST_PAUSE * 2 ** (times - IN_A_ROW), VERDICT_LASTS)
        text = f"{reason}; {times} loads in a row have ended so, the next is tried after {pause:.0f} seconds"
        self._refuse(load, text, pause)
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
        self._crashes[load] = crashes = self._crashes.get(load, 0) + 1
        if crashes < IN_A_ROW and not self.fault:
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
            f"{what} has killed its process {crashes} times, last by {cause}, and the engine's self-test passes on "
            f"{processor()}: the model is at fault, its file may be damaged or of a kind that llama.cpp does not know; "
            f"it is tried again after {VERDICT_LASTS / 60:.0f} minutes, or once another version of it is pulled or "
            "created"
        )
        self._refuse(load, verdict, VERDICT_LASTS)
        self._crashes.pop(load, None)
        return verdict

    def _refuse(self, load: Hashable, verdict: str, seconds: float) -> None:
        for oldest in list(self._verdicts)[: len(self._verdicts) - REMEMBERED + 1]:
            del self._verdicts[oldest]
        self._verdicts[load] = verdict, self._clock() + seconds
