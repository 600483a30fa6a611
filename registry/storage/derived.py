"""Files made of blobs for a program that cannot read these as they are: a cache, which may be lost at any time.

They stand in a folder of their own beside `blobs` and `manifests`. In `blobs` a real Ollama that shares the models
would remove them when it starts, for their names are no digests; beside it, it never looks. A file is named by its
blob and by its form, which says what was made and by which version of the making: another version is another file.
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
    """The folder of derived files. Methods may be called from any thread, and raise StoreError when the disk refuses.

    Nothing is changed in place: a file appears complete, and whoever has it open keeps it when it is removed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: Digest, form: str) -> Path:
        """Where the file of this form is, if it has been made; to be read only."""
        return self.folder / f"{digest.filename}.{form}.{_SUFFIX}"

    @contextmanager
    def making(self, blob: Path) -> Iterator[None]:
        """Keep everybody else from making files of this blob; waits until nobody does. The lock ends with its process.

        What an earlier holder of the lock has left unfinished is removed.
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
        """Raise DiskFull if so many bytes do not fit."""
        with without_paths(_WRITING):
            require_space(self.folder, needed)

    @contextmanager
    def put(self, digest: Digest, form: str) -> Iterator[PendingFile]:
        """A file to write, which counts once the context ends without an exception, and of which else nothing is left.

        Only within `making`.
        """
        with without_paths(_WRITING):
            file = PendingFile(self.folder, f"{digest.filename}.{_PENDING}")
            try:
                yield file
                file.publish(self.path(digest, form))
            finally:
                file.close()

    def keep(self, digest: Digest, forms: Collection[str]) -> None:
        """Remove what other versions have made of a blob. Only within `making`."""
        kept = {self.path(digest, form) for form in forms}
        self._remove(path for path in self._of(digest) if path not in kept)

    def remove(self, digest: Digest) -> None:
        """Remove what was made of a blob."""
        self._remove(self._of(digest))

    def prune(self, needed: Collection[Digest], before: float) -> None:
        """Remove what was made of blobs that nobody needs, and what a crash left, if it is older than a Unix time."""
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
    """Wait for the lock on an open file; False where the file system has none, and everybody works for himself."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        log.debug("derived files are not locked: %s", error.strerror)
        return False
    return True
