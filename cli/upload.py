"""A file on its way to the server, which knows it by its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from cli.client import Client, ProgressResponse
from cli.errors import CommandError
from cli.progress import Show

_PIECE = 1 << 20


def upload(client: Client, path: Path, show: Show) -> str:
    """Send a file unless the server has it; returns its digest. Raises CommandError if it cannot be read."""
    try:
        digest = _digest(path)
        if not client.has_blob(digest):
            client.send_blob(digest, _pieces(path, show))
    except FileNotFoundError as error:
        raise CommandError(f"open {path}: {error.strerror}") from None
    return digest


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _pieces(path: Path, show: Show) -> Iterator[bytes]:
    """All of the file, shown as it is taken."""
    status, total, sent = f"copying {path.name}", path.stat().st_size, 0
    with path.open("rb") as file:
        while data := file.read(_PIECE):
            yield data
            sent += len(data)
            show(ProgressResponse(status=status, total=total, completed=sent))
