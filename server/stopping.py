"""How the process ends on a signal while the server is not there to see to it: before it serves, and after."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# Imported before everything else, so nothing is imported here that takes time.

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def leave_on_signals() -> None:
    """From now on a signal ends the process at once, and successfully: there is nothing to finish. Main thread only."""
    for number in SIGNALS:
        signal.signal(number, _leave)


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Meanwhile a signal raises SystemExit in the main thread: there is something to clean up, nothing to finish."""
    before = {number: signal.signal(number, _exit) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave() -> None:
    """End the process now. Children end by themselves when they see it."""
    os._exit(0)


def _leave(number: int, _: FrameType | None) -> None:
    with suppress(OSError):
        os.write(2, f"stopping on {signal.Signals(number).name}\n".encode())
    leave()


def _exit(number: int, _: FrameType | None) -> None:
    sys.exit(0)
