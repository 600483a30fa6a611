"""Signal handlers for the time before and after uvicorn's own.

`leave_on_signals` exits with 0 at once; within `exit_on_signals` a signal raises SystemExit, so clean-up runs. The
other verbs of the command line are imported within `interrupted_at_once`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# Imported first: nothing that is slow to import belongs here.

SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ends."""


def leave_on_signals() -> None:
    """From now on SIGINT and SIGTERM exit with 0 at once. Main thread only."""
    for number in SIGNALS:
        signal.signal(number, _leave)


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Inside the block SIGINT and SIGTERM raise SystemExit(0). Main thread only."""
    before = {number: signal.signal(number, _exit) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interrupted_at_once() -> Iterator[None]:
    """Inside the block Ctrl-C exits with 130 at once, if it is not ignored: for imports. Main thread only."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, lambda _, __: os._exit(INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def leave() -> None:
    """Exit with 0 now, without clean-up. Child processes notice and end."""
    os._exit(0)


def _leave(number: int, _: FrameType | None) -> None:
    with suppress(OSError):
        os.write(2, f"stopping on {signal.Signals(number).name}\n".encode())
    leave()


def _exit(number: int, _: FrameType | None) -> None:
    sys.exit(0)
