"""The verb pull: what the server says while it fetches, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from ollama import ProgressResponse
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from cli.client import Client, connect


def pull(model: str, *, insecure: bool) -> None:
    """Fetch a model."""
    with connect() as client:
        fetch(client, model, insecure=insecure)


def fetch(client: Client, model: str, *, insecure: bool) -> None:
    """Fetch a model over a client that is there already."""
    steps = client.pull(model, insecure=insecure, stream=True)
    if sys.stderr.isatty():
        _draw(steps)
    else:
        _tell(steps)


def _tell(steps: Iterable[ProgressResponse]) -> None:
    """One line for each new status: a file has no use for a bar."""
    last = None
    for step in steps:
        if step.status != last:
            print(step.status, file=sys.stderr)
        last = step.status


def _draw(steps: Iterable[ProgressResponse]) -> None:
    """A bar for each layer, the other statuses as lines above."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    layers: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True)) as progress:
        for step in steps:
            status = step.status or ""
            if not step.total:
                progress.console.print(status, highlight=False)
                continue
            if status not in layers:
                layers[status] = progress.add_task(status, total=step.total)
            progress.update(layers[status], completed=step.completed or 0)
