"""Folders for files in the making, on the disk of the blobs: they are as large as blobs, and become some."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.errors import without_paths
from registry.files import make_directory

_PREFIX = "making-"


class Scratch:
    """The temporary folders of a models directory. Methods may be called from any thread."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """An empty folder, which goes with all that is in it. Raises StoreError."""
        with without_paths("make a folder"):
            make_directory(self._root)
            folder = tempfile.mkdtemp(prefix=_PREFIX, dir=self._root)
        try:
            yield Path(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def remove_older(self, than: float) -> None:
        """Remove what a crash left: folders in which nothing was written since a time, in Unix seconds."""
        for folder in self._root.glob(f"{_PREFIX}*"):
            if _last_written(folder) < than:
                shutil.rmtree(folder, ignore_errors=True)


def _last_written(folder: Path) -> float:
    with without_paths("look at old folders"):
        try:
            return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
        except FileNotFoundError:  # it is in use: something has gone meanwhile
            return float("inf")
