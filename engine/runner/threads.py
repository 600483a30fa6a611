"""How many threads passes use: what requests ask for, else one for each core, or fewer while others need cores."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping

from engine.runner.llamacpp import C
from engine.runner.log import log
from modelfile.operating_system import run_delays
from registry.logfields import fields

WINDOW = 0.25  # seconds of passes between two looks at how long threads stood waiting for a core
BEARABLE = 0.7  # of a thread's share of the time; threads that wait for longer would do better with one less
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 32.0  # seconds until one thread more is tried; twice as long after each vain try


class FreeCores:
    """How many of `most` threads have a core to themselves. Owned by the loop thread.

    llama.cpp's threads wait for each other some hundred times per pass. Where one of them shares its core with another
    program, all are as slow as that one, and slower than fewer threads with a core each. `delays` gives nanoseconds for
    each thread that computes, by its id: how long it was ready to run and had no core. `clock` is in seconds.
    """

    def __init__(
        self,
        most: int,
        delays: Callable[[], Mapping[int, int]] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.most = most
        self._delays = delays or _delays
        self._clock = clock
        self._before: Mapping[int, int] = {}
        self._seconds = 0.0
        self._pause = FIRST_PAUSE
        self._try_at = 0.0
        self._trying = False
        self.count = most

    def passed(self, seconds: float) -> None:
        """Note how long a pass with `count` threads took, and after some of them decide anew."""
        self._seconds += seconds
        if self.most > 1 and self._seconds >= WINDOW:
            self._decide(self._waited() / self._seconds)
            self._seconds = 0.0

    def _waited(self) -> float:
        """Seconds that threads stood waiting for a core since the last call, all together."""
        before, self._before = self._before, self._delays()
        return sum(delay - before.get(thread, delay) for thread, delay in self._before.items()) / 1e9

    def _decide(self, missing: float) -> None:
        """`missing`: how many cores the threads would have needed besides, on average."""
        now, count = self._clock(), self.count
        if missing * count > BEARABLE:
            self.count = max(1, count - max(1, int(missing)))
            self._pause = min(2 * self._pause, LONGEST_PAUSE) if self._trying else FIRST_PAUSE
            self._try_at = now + self._pause
            self._trying = False
        else:
            if self._trying:
                self._try_at = now
            self._trying = count < self.most and now >= self._try_at
            self.count += self._trying
        if self.count != count:
            log.debug("threads changed", extra=fields(threads=self.count, before=count, missing_cores=missing))


def _delays() -> dict[int, int]:
    """Of the calling thread and of those that llama.cpp has started: Python's others do not compute passes."""
    python = {thread.native_id for thread in threading.enumerate() if thread is not threading.current_thread()}
    return run_delays(without=python)


class Threads:
    """The number of threads of one llama.cpp context."""

    def __init__(self, context: C.llama_context_p, cores: FreeCores) -> None:
        self._cores = cores
        self.bind(context)

    def bind(self, context: C.llama_context_p) -> None:
        """Go on with another context."""
        self._context = context
        self.current: int = C.llama_n_threads(context)
        """How many threads the next pass uses."""

    def use(self, requested: Iterable[int], *, steady: bool = True) -> bool:
        """Use the requests' `num_thread` for the next pass if all agree, else the default; 0 asks for none.

        One request's small number must not slow the others. The default of a `steady` pass is always the same: of some
        quantisations, the sums depend on the number of threads. Returns whether the default is used.
        """
        distinct = set(requested)
        agreed = distinct.pop() if len(distinct) == 1 else 0
        default = self._cores.most if steady else self._cores.count
        count = agreed or default
        if count != self.current:
            C.llama_set_n_threads(self._context, count, count)
            self.current = count
        return count == default

    def passed(self, seconds: float) -> None:
        """Note how long a pass took."""
        if self.current == self._cores.count:
            self._cores.passed(seconds)
