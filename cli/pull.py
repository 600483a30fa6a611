"""The verb pull."""

from __future__ import annotations

from cli.client import Client, connect
from cli.progress import display


def pull(model: str, *, insecure: bool) -> None:
    """Fetch a model."""
    with connect() as client:
        fetch(client, model, insecure=insecure)


def fetch(client: Client, model: str, *, insecure: bool) -> None:
    """Fetch a model over a client that is there already."""
    with display() as show:
        for step in client.pull(model, insecure=insecure, stream=True):
            show(step)
