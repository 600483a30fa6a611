"""The server, as `python -m server.main`, which tells of its event loop when it gets SIGUSR1.

What it tells goes to the file that FAULTS_REPORT names, as JSON: `tasks` that there are, and the longest `stall` in
seconds since it was last asked: how much later than it should a timer of the loop ran.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from server.main import run
from server.settings import Settings

_TICK = 0.01  # seconds
_PATIENCE = 5.0  # seconds for a pool to start its threads


class Watch:
    """Looks at the event loop of this process from within."""

    def __init__(self, report: Path) -> None:
        self._report = report
        self._stall = 0.0
        self._ticking = False
        self._due = 0.0

    def tell(self, *_: object) -> None:
        """Write the report; the first time, begin to measure stalls and fill the pool of threads."""
        loop = asyncio.get_running_loop()
        if not self._ticking:
            fill_pool(loop)
        partial = self._report.with_suffix(".partial")
        partial.write_text(json.dumps({"tasks": len(asyncio.all_tasks(loop)), "stall": self._stall}))
        partial.replace(self._report)
        self._stall = 0.0
        if not self._ticking:
            self._ticking = True
            self._due = time.monotonic()
            self._tick(loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        self._stall = max(self._stall, now - self._due)
        self._due = now + _TICK
        loop.call_later(_TICK, self._tick, loop)


def fill_pool(loop: asyncio.AbstractEventLoop) -> None:
    """Have the loop's pool start all of its threads: it starts one whenever none is idle, and never ends one."""
    most = min(32, (os.cpu_count() or 1) + 4)  # as concurrent.futures has it
    together = threading.Barrier(most)

    def wait() -> None:
        with suppress(threading.BrokenBarrierError):
            together.wait(_PATIENCE)

    for _ in range(most):
        loop.run_in_executor(None, wait)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, Watch(Path(os.environ["FAULTS_REPORT"])).tell)
    sys.exit(run(Settings.from_env()))
