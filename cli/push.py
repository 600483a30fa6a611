"""The verb push."""

from __future__ import annotations

from cli.client import connect
from cli.progress import display


def push(model: str, *, insecure: bool) -> None:
    """Send a model to its registry."""
    with connect() as client, display() as show:
        for step in client.push(model, insecure=insecure, stream=True):
            show(step)
