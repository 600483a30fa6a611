"""The verb embed, and run on a model that only embeds: vectors as JSON, one a line."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

from cli.client import Client, connect
from cli.errors import CommandError


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How texts are to be embedded; None leaves it to the server. `dimensions` are the numbers of a vector."""

    dimensions: int | None = None
    truncate: bool | None = None
    keep_alive: str | None = None


def embed(model: str, texts: list[str], wishes: Wishes) -> None:
    """Embed the texts, or else the lines that are piped in."""
    if not texts and not sys.stdin.isatty():
        texts = sys.stdin.read().splitlines()
    with connect() as client:
        print_vectors(client, model, texts, wishes)


def print_vectors(client: Client, model: str, texts: list[str], wishes: Wishes) -> None:
    """Ask for the vectors of texts and print them. Raises CommandError where there is nothing to embed."""
    if not texts:
        raise CommandError(f'embedding models require input text. Usage: pronk run {model} "your text here"')
    found = client.embed(
        model, texts, truncate=wishes.truncate, dimensions=wishes.dimensions, keep_alive=wishes.keep_alive
    )
    for vector in found.embeddings:
        print(json.dumps(vector, separators=(",", ":")))
