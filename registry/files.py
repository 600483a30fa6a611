"""Files that appear complete or not at all, also when the power fails. Functions raise OSError."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

_MODE = 0o644


class PendingFile:
    """A file that has no name of its own yet. One thread at a time; `close` it in the end."""

    def __init__(self, directory: Path, prefix: str) -> None:
        self._descriptor, name = tempfile.mkstemp(prefix=prefix, dir=directory)
        self._path = Path(name)

    def write(self, data: bytes) -> None:
        """Append."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def publish(self, target: Path) -> None:
        """Give the file its name, in place of a file that has it. It counts once this has returned."""
        publish(self._descriptor, self._path, target)

    def close(self) -> None:
        """Let go of the file; one that was not published is removed."""
        os.close(self._descriptor)
        self._path.unlink(missing_ok=True)


def publish(descriptor: int, path: Path, target: Path) -> None:
    """Give an open, complete file its final name; once this has returned, both last."""
    os.fchmod(descriptor, _MODE)
    os.fsync(descriptor)
    path.replace(target)
    sync_directory(target.parent)


def make_directory(path: Path) -> None:
    """Make a directory and those above it, so that they last."""
    missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_directory(folder.parent)


def remove_older(path: Path, than: float) -> bool:
    """Remove a file that was last written before a time, in Unix seconds. Whether it was there and that old."""
    try:
        if path.lstat().st_mtime >= than:
            return False
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def sync_directory(path: Path) -> None:
    """Make the names in a directory last."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
