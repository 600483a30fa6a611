"""Progress on standard error: bars or lines for long operations, a spinner before an answer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar

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
    """A function that shows the steps of one operation: bars on a terminal, lines elsewhere."""
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
    """One line for each new status."""

    def __init__(self) -> None:
        self._last: str | None = None

    def show(self, step: ProgressResponse) -> None:
        if step.status != self._last:
            print(step.status, file=sys.stderr)
        self._last = step.status


class _Bars:
    """A bar for each status with a total, lines for the others."""

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


T = TypeVar("T")


def spinning(items: Iterable[T]) -> Iterator[T]:
    """The same items; on a terminal a spinner turns until the first one arrives."""
    iterator = iter(items)
    with Console(stderr=True).status("") if sys.stderr.isatty() else nullcontext():
        first = next(iterator, None)
    if first is not None:
        yield first
    yield from iterator
