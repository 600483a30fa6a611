"""Folders for files in the making, on the disk of the blobs: they are as large as blobs, and become some."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.errors import without_paths
from registry.files import is_abandoned, is_there, make_directory, try_lock

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
            descriptor, folder = _locked_folder(self._root)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)

    def remove_abandoned(self, before: float) -> None:
        """Remove what a crash left; where folders cannot be locked, what is older than a time in Unix seconds."""
        for folder in self._root.glob(f"{_PREFIX}*"):
            if is_abandoned(folder, before):
                shutil.rmtree(folder, ignore_errors=True)


def _locked_folder(root: Path) -> tuple[int, Path]:
    """A new folder, open and locked for as long as it is used."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try_lock(descriptor)
        if is_there(descriptor, folder):
            return descriptor, folder
        os.close(descriptor)  # somebody tidied up just before it was locked
