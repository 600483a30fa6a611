"""Progress on standard error: bars or lines for long operations, a spinner before an answer.

The library that draws is imported where something is drawn, at a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from cli.reply import Reply
from cli.text import one_line

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Show = Callable[[Reply], None]


def step(status: str, total: int = 0, completed: int = 0) -> Reply:
    """A step of our own, in the form of the server's. `total` and `completed` are bytes."""
    return Reply({"status": status, "total": total, "completed": completed})


@contextmanager
def display() -> Iterator[Show]:
    """A function that shows the steps of one operation: bars on a terminal, lines elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines().show
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
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

    def show(self, reply: Reply) -> None:
        status = one_line(reply.text("status"))
        if status != self._last:
            print(status, file=sys.stderr)
        self._last = status


class _Bars:
    """A bar for each status with a total, lines for the others."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def show(self, reply: Reply) -> None:
        status, total = one_line(reply.text("status")), reply.number("total")
        if not total:
            self._progress.console.print(status, highlight=False, markup=False)
            return
        if status not in self._bars:
            self._bars[status] = self._progress.add_task(status, total=total)
        self._progress.update(self._bars[status], completed=reply.number("completed"))


T = TypeVar("T")


def spinning(items: Iterable[T]) -> Iterator[T]:
    """The same items; on a terminal a spinner turns until the first one arrives."""
    iterator = iter(items)
    with _spinner():
        first = next(iterator, None)
    if first is not None:
        yield first
    yield from iterator


@contextmanager
def _spinner() -> Iterator[None]:
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(""):
        yield
