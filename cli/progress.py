"""Progress on standard error: bars or lines for long operations, before an answer a spinner and what it waits for.

The library that draws is imported where something is drawn, at a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

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
    if not is_shown():
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


def is_shown() -> bool:
    """Whether progress is drawn: standard error is a terminal."""
    return sys.stderr.isatty()


def spinning(replies: Iterable[Reply]) -> Iterator[Reply]:
    """The replies to a request, without those that tell of its progress.

    On a terminal a spinner turns until the first one arrives, beside what is told meanwhile.
    """
    iterator = iter(replies)
    with _spinner() as tell:
        for reply in iterator:
            if (told := reply.fields.get("progress")) is None:
                break
            tell(waits_for(told))
        else:
            return
    yield reply
    yield from iterator


def follow_load(replies: Iterable[Reply]) -> None:
    """Read the replies to a load; on a terminal a spinner turns as soon as one tells of its progress."""
    with ExitStack() as drawn:
        tell: Callable[[str], None] | None = None
        for reply in replies:
            if (told := reply.fields.get("progress")) is not None:
                tell = tell or drawn.enter_context(_spinner())
                tell(waits_for(told))


def waits_for(told: Any) -> str:
    """What a request waits for, in words, by the field `progress` of a reply; empty for what is not known."""
    match told:
        case {"stage": "queued", "position": int(position)}:
            return "next in the queue" if position == 1 else f"number {position:,} in the queue"
        case {"stage": "loading", "completed": int() | float() as completed}:
            return f"loading the model, {completed:.0%}" if completed else "loading the model"
        case {"stage": "prompt", "completed": int(completed), "total": int(total)}:
            return f"reading {completed:,} of {total:,} tokens"
    return ""


@contextmanager
def _spinner() -> Iterator[Callable[[str], None]]:
    if not is_shown():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("") as status:
        yield lambda text: status.update(Text(text))
