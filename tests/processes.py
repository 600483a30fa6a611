"""The processes that a server or a test has started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil


def descendants(pid: int, module: str) -> list[psutil.Process]:
    """Those that run this module (`python -m MODULE`) and have not ended."""
    return [process for process in psutil.Process(pid).children(recursive=True) if _runs(process, module)]


class NewChildren:
    """The children of this process that began after this object was made, which still run."""

    def __init__(self) -> None:
        self._before = set(psutil.Process().children(recursive=True))

    def __call__(self) -> set[psutil.Process]:
        """The processes."""
        return set(psutil.Process().children(recursive=True)) - self._before


@contextmanager
def short_of_memory(pid: int, spare: int) -> Iterator[None]:
    """Lets a process have `spare` bytes of address space more than it has now, and no more, as long as this lasts."""
    process = psutil.Process(pid)
    before = process.rlimit(psutil.RLIMIT_AS)
    process.rlimit(psutil.RLIMIT_AS, (process.memory_info().vms + spare, before[1]))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_AS, before)


def _runs(process: psutil.Process, module: str) -> bool:
    try:
        return module in process.cmdline()
    except psutil.NoSuchProcess:  # it ended while we looked; also a zombie, which has only not been reaped yet
        return False
