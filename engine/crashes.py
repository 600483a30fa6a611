"""Child processes that die: what is said of it, and whose fault it is when loading a model kills them in a row."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Hashable
from typing import Final

from engine.errors import LoadCrashed, LoadFailed
from engine.selftest import Outcome, SelfTest
from modelfile.crashes import CRASHES, REBUILD, advice, name_of, processor

IN_A_ROW: Final = 3  # deaths while the same model is loaded the same way, until the library is tested
REMEMBERED: Final = 100  # models that are known to kill, at most


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


def died_loading(detail: str, signal_number: int) -> LoadFailed:
    """The end of a child while it loaded: how it ended, and the signal that killed it, 0 if none did."""
    text = f"llama-server process has terminated: {detail}"
    return LoadCrashed(text, name_of(signal_number)) if signal_number in CRASHES else LoadFailed(text)


class LoadCrashes:
    """Counts deaths in a row while a model is loaded. Owned by the event loop.

    At the third of the same load `prove` runs the self-test, once while the server runs. If that passes, the model is
    at fault and is not tried again as it is; if not, the installation is.
    """

    def __init__(self, prove: Callable[[], Awaitable[SelfTest]]) -> None:
        self._prove = prove
        self._self_test: SelfTest | None = None
        self._deaths: dict[Hashable, int] = {}
        self._verdicts: dict[Hashable, str] = {}

    def verdict(self, load: Hashable) -> str | None:
        """Why this load is not worth another process; None if it is."""
        return self._verdicts.get(load)

    def survived(self, load: Hashable) -> None:
        """This load has succeeded."""
        self._deaths.pop(load, None)

    async def died(self, load: Hashable, model: str, error: LoadCrashed) -> str:
        """This load has ended with the death of its process; returns what the user is told."""
        self._deaths[load] = deaths = self._deaths.get(load, 0) + 1
        if deaths < IN_A_ROW and (self._self_test is None or self._self_test.ok):
            return str(error)
        if self._self_test is None:
            self._self_test = await self._prove()
        found = self._self_test
        if found.outcome is Outcome.FAILED:
            return f"{error}; {found.sentence}"
        if not found.ok:
            return f"{error}; {found.sentence}: the installation is at fault, `{REBUILD}` compiles the engine anew"
        for oldest in list(self._verdicts)[: len(self._verdicts) - REMEMBERED + 1]:
            del self._verdicts[oldest]
        told = (
            f"loading '{model}' has killed its process {deaths} times, last by {error.cause}, and the engine's "
            f"self-test passes on {processor()}: the model is at fault, its file may be damaged or of a kind that "
            f"llama.cpp does not know"
        )
        self._verdicts[load] = told
        self._deaths.pop(load)
        return told
