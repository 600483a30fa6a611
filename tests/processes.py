"""The processes that a server or a test has started."""

from __future__ import annotations

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


def _runs(process: psutil.Process, module: str) -> bool:
    try:
        return module in process.cmdline()
    except psutil.NoSuchProcess:  # it ended while we looked; also a zombie, which has only not been reaped yet
        return False
