"""What a long operation says while it is under way, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from cli.client import ProgressResponse

Show = Callable[[ProgressResponse], None]


@contextmanager
def display() -> Iterator[Show]:
    """What shows the steps of one operation: bars at a terminal, lines elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines().show
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield _Bars(progress).show


class _Lines:
    """One line for each new status: a file has no use for a bar."""

    def __init__(self) -> None:
        self._last: str | None = None

    def show(self, step: ProgressResponse) -> None:
        if step.status != self._last:
            print(step.status, file=sys.stderr)
        self._last = step.status


class _Bars:
    """A bar for each layer or file, the other statuses as lines above."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def show(self, step: ProgressResponse) -> None:
        status = step.status or ""
        if not step.total:
            self._progress.console.print(status, highlight=False)
            return
        if status not in self._bars:
            self._bars[status] = self._progress.add_task(status, total=step.total)
        self._progress.update(self._bars[status], completed=step.completed or 0)
