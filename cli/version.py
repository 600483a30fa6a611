"""`pronk --version`: the versions of this command and of the server."""

from __future__ import annotations

import sys
from importlib.metadata import version

from cli.client import Client, ResponseError
from cli.connection import Failure
from cli.reply import Foreign
from cli.text import one_line
from server.settings import Settings


def print_versions(name: str) -> None:
    """Print both; a server that cannot be asked is told on standard error. Raises CommandError for a bad address."""
    print(f"{name} version is {version(name)}", flush=True)
    client = Client(Settings.from_env())
    try:
        print(f"the server at {client.url} speaks the API of Ollama {one_line(client.version())}")
    except (Failure, ResponseError, Foreign):
        print(f"Warning: no server answers at {client.url}", file=sys.stderr)
