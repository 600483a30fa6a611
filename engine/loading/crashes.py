"""Child processes that die: what is said of it, and whose fault it is when loading a model kills them in a row."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Final

from engine.errors import LoadCrashed, LoadFailed
from engine.selftest import Outcome, SelfTest
from modelfile.crashes import CRASHES, advice, name_of, processor, remedy

IN_A_ROW: Final = 3  # deaths while the same model is loaded the same way, until the library is tested
REMEMBERED: Final = 100  # models that are known to kill, at most
VERDICT_LASTS: Final = 300.0  # seconds


def how_it_ended(code: int, last_words: str = "") -> str:
    """One line on the end of a child: its exit code (negative: the signal), and what it said last."""
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


def died_loading(detail: str, signal_number: int, *, given: bool = True) -> LoadFailed:
    """The end of a child that was to load: how it ended, and the signal that killed it, 0 if none did.

    `given`: it had been given the model.
    """
    text = f"llama-server process has terminated: {detail}"
    return LoadCrashed(text, name_of(signal_number), given=given) if signal_number in CRASHES else LoadFailed(text)


class LoadCrashes:
    """Counts deaths in a row while a model is loaded or does its first request. Owned by the event loop; `close` it.

    At the third of the same load `prove` runs the self-test, once while the server runs. If that passes, the model is
    at fault and is not tried again as it is for `VERDICT_LASTS` seconds; if not, the installation is.
    """

    def __init__(self, prove: Callable[[], Awaitable[SelfTest]], clock: Callable[[], float] = time.monotonic) -> None:
        self._prove = prove
        self._clock = clock
        self._proving = asyncio.Lock()
        self._self_test: SelfTest | None = None
        self._deaths: dict[Hashable, int] = {}
        self._verdicts: dict[Hashable, tuple[str, float]] = {}  # and when they end
        self._counting: set[asyncio.Task[str]] = set()

    @property
    def fault(self) -> str:
        """What is wrong with the installation; empty if nothing is known to be."""
        found = self._self_test
        if found is None or found.outcome in (Outcome.OK, Outcome.FAILED):
            return ""
        return f"{found.sentence}: the installation is at fault; {remedy()}"

    def verdict(self, load: Hashable) -> str | None:
        """Why this load is not worth another process; None if it is."""
        told, end = self._verdicts.get(load, ("", 0.0))
        if told and self._clock() >= end:
            del self._verdicts[load]
            return None
        return told or None

    def survived(self, load: Hashable) -> None:
        """This load has succeeded, and so has a request."""
        self._deaths.pop(load, None)
        self._deaths.pop(None, None)

    async def died(self, load: Hashable, model: str, error: LoadCrashed) -> str:
        """This load has ended with the death of its process; returns what the user is told."""
        if error.given:
            return await self._count(load, f"loading '{model}'", error.cause, str(error))
        return await self._count(None, "", error.cause, str(error))  # no model's doing

    def died_at_work(self, load: Hashable, model: str, cause: str) -> None:
        """The process has died of its first requests. Whose fault that was is found out by and by."""
        task = asyncio.create_task(self._count(load, f"the first request to '{model}'", cause, ""))
        self._counting.add(task)
        task.add_done_callback(self._counting.discard)

    async def close(self) -> None:
        """Give up what is being found out."""
        for task in self._counting:
            task.cancel()
        await asyncio.gather(*self._counting, return_exceptions=True)

    async def _count(self, load: Hashable, what: str, cause: str, told: str) -> str:
        self._deaths[load] = deaths = self._deaths.get(load, 0) + 1
        if deaths < IN_A_ROW and not self.fault:
            return told
        async with self._proving:
            if self._self_test is None:
                self._self_test = await self._prove()
        found = self._self_test
        if fault := self.fault:
            return f"{told.replace(f'; {remedy()}', '')}; {fault}"  # what helps is said once
        if found.outcome is Outcome.FAILED or load is None:
            return f"{told}; {found.sentence}"
        for oldest in list(self._verdicts)[: len(self._verdicts) - REMEMBERED + 1]:
            del self._verdicts[oldest]
        told = (
            f"{what} has killed its process {deaths} times, last by {cause}, and the engine's self-test passes on "
            f"{processor()}: the model is at fault, its file may be damaged or of a kind that llama.cpp does not know; "
            f"it is tried again after {VERDICT_LASTS / 60:.0f} minutes, or once another version of it is pulled or "
            "created"
        )
        self._verdicts[load] = told, self._clock() + VERDICT_LASTS
        self._deaths.pop(load, None)
        return told
