"""A cache of files derived from blobs: GGUFs repacked for llama.cpp. It may be deleted at any time.

It has its own folder beside `blobs` and `manifests`: an Ollama that shares the models would remove the files from
`blobs` at its start, because their names are no digests. A file is named by its blob and its form, which includes the
version of the code that made it.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.errors import without_paths
from registry.names import Digest
from registry.storage.blobs import digest_of
from registry.storage.files import PendingFile, is_abandoned, make_directory, remove_older, require_space

_WRITING = "write a derived file"
_REMOVING = "remove derived files"
_SUFFIX = "gguf"
_PENDING = "incoming-"
log = logging.getLogger("pronk.registry")


class DerivedFiles:
    """The folder of derived files. Thread-safe; methods raise StoreError.

    Files appear complete and never change; an open file outlives its removal.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: Digest, form: str) -> Path:
        """The path of the file of this form, whether it exists or not. Read only."""
        return self.folder / f"{digest.filename}.{form}.{_SUFFIX}"

    @contextmanager
    def making(self, blob: Path) -> Iterator[None]:
        """Hold the lock for making files from this blob; waits for other processes, and ends with this one.

        Unfinished files of an earlier holder are removed.
        """
        with without_paths(_WRITING):
            make_directory(self.folder)
            descriptor = os.open(blob, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _locked(descriptor):
                self._remove(self.folder.glob(f"{blob.name}.{_PENDING}*"))
            yield
        finally:
            os.close(descriptor)

    def require_space(self, needed: int) -> None:
        """Raise DiskFull if `needed` bytes do not fit."""
        with without_paths(_WRITING):
            require_space(self.folder, needed)

    @contextmanager
    def put(self, digest: Digest, form: str) -> Iterator[PendingFile]:
        """A file to write; published at the end of the context, removed on an exception. Only inside `making`."""
        with without_paths(_WRITING):
            file = PendingFile(self.folder, f"{digest.filename}.{_PENDING}")
            try:
                yield file
                file.publish(self.path(digest, form))
            finally:
                file.close()

    def keep(self, digest: Digest, forms: Collection[str]) -> None:
        """Remove a blob's files except these forms: other versions made them. Only inside `making`."""
        kept = {self.path(digest, form) for form in forms}
        self._remove(path for path in self._of(digest) if path not in kept)

    def remove(self, digest: Digest) -> None:
        """Remove all files made from a blob."""
        self._remove(self._of(digest))

    def prune(self, needed: Collection[Digest], before: float) -> None:
        """Remove files of blobs not `needed` and files left by a crash, if older than `before` (Unix seconds)."""
        with without_paths(_REMOVING):
            for path in self.folder.glob("*"):
                owner, _, rest = path.name.partition(".")
                if rest.startswith(_PENDING):
                    if is_abandoned(path, before):
                        path.unlink(missing_ok=True)
                elif digest_of(owner) not in needed:
                    remove_older(path, before)

    def _of(self, digest: Digest) -> Iterator[Path]:
        return self.folder.glob(f"{digest.filename}.*")

    def _remove(self, paths: Iterator[Path]) -> None:
        with without_paths(_REMOVING):
            for path in paths:
                path.unlink(missing_ok=True)


def _locked(descriptor: int) -> bool:
    """Wait for the lock on an open file; False if the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        log.debug("derived files are not locked: %s", error.strerror)
        return False
    return True
