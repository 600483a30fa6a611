"""The catalogue: which names are stored, and the manifest of each. A name is a path of four parts."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from registry.errors import ModelMissing, without_paths
from registry.files import PendingFile, make_directory, remove_older, sync_directory
from registry.manifest import MAX_BYTES, ManifestError
from registry.names import InvalidName, ModelName

_READING = "read the models"
_WRITING = "write a model"
_PREFIX = ".incoming-"
_ANY = ("", "", "", "")
_BROKEN = frozenset({errno.EISDIR, errno.ELOOP, errno.EACCES, errno.ENXIO, errno.ENODEV})


class Entry(NamedTuple):
    """The bytes of a manifest, and when it was written, in Unix nanoseconds."""

    data: bytes
    modified_at: int


class Catalog:
    """The folder of manifests. Nothing is remembered: other programs may change it at any time.

    Methods may be called from any thread; who changes it from several keeps them apart.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> Iterator[ModelName]:
        """All stored names, also of what cannot be read. Files whose place is no valid name are passed over."""
        with without_paths(_READING):
            yield from self._matching(_ANY)

    def spelling(self, name: ModelName) -> ModelName | None:
        """The stored name that equals `name` but for case, None if there is none. A folder in its place counts too."""
        with without_paths(_READING):
            if os.path.lexists(self._path(name)):
                return name
            return next(self._matching(name.folded, folders=True), None)

    def read(self, name: ModelName) -> Entry:
        """The manifest of a name as it is spelled in the store. Raises ModelMissing, ManifestError or StoreError."""
        path = self._path(name)
        with without_paths(_READING):
            try:
                with open(path, "rb", opener=_without_waiting) as file:
                    status = os.fstat(file.fileno())
                    if not stat.S_ISREG(status.st_mode):
                        raise ManifestError("not a regular file")
                    return Entry(file.read(MAX_BYTES + 1), status.st_mtime_ns)
            except (FileNotFoundError, NotADirectoryError):
                if path.is_symlink():
                    raise ManifestError("a link to nothing") from None
                raise ModelMissing(name) from None
            except OSError as error:
                if error.errno in _BROKEN:
                    raise ManifestError((error.strerror or "unreadable").lower()) from None
                raise

    def write(self, name: ModelName, data: bytes) -> None:
        """Store a manifest, in place of one that is there. The change is complete or has not happened."""
        path = self._path(name)
        with without_paths(_WRITING):
            make_directory(path.parent)
            _remove_folder(path)
            # Not among the manifests: Ollama stops tidying up when it finds one that it cannot read.
            file = PendingFile(self._folder, _PREFIX)
            try:
                file.write(data)
                file.publish(path)
            finally:
                file.close()

    def remove(self, name: ModelName) -> None:
        """Remove a name as it is spelled in the store, for good, and folders that are empty then.

        Raises ModelMissing.
        """
        path = self._path(name)
        with without_paths("remove a model"):
            try:
                if not _remove_folder(path):
                    path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                raise ModelMissing(name) from None
            sync_directory(path.parent)
        with suppress(OSError):  # the first that is not empty
            for folder in path.parents[:3]:
                folder.rmdir()

    def tidy(self, before: float) -> None:
        """Remove empty folders, and what a crash left unfinished before a time (in Unix seconds)."""
        with without_paths("remove old manifests"):
            for file in self._folder.glob(f"{_PREFIX}*"):
                remove_older(file, before)
            for folder, _, _ in os.walk(self._folder, topdown=False):
                if folder != str(self._folder):
                    with suppress(OSError):
                        os.rmdir(folder)

    def _path(self, name: ModelName) -> Path:
        return self._folder.joinpath(*name.parts)

    def _matching(self, wanted: Sequence[str], *, folders: bool = False) -> Iterator[ModelName]:
        for parts in _below(self._folder, wanted, folders=folders):
            with suppress(InvalidName):
                yield ModelName(*parts)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would keep us waiting for its other end


def _remove_folder(path: Path) -> bool:
    """Remove a folder where a manifest should be; whether there was one."""
    if path.is_symlink() or not path.is_dir():
        return False
    shutil.rmtree(path)
    return True


def _below(folder: Path, wanted: Sequence[str], *, folders: bool) -> Iterator[tuple[str, ...]]:
    """What lies as many levels down as there are wanted parts: files, links of any kind, and `folders` if wanted.

    A part matches in any case, an empty one anything.
    """
    first, *rest = wanted
    try:
        with os.scandir(folder) as entries:
            found = sorted(
                (entry for entry in entries if first in ("", entry.name.lower())), key=lambda entry: entry.name
            )
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in found:
        if rest:
            yield from ((entry.name, *below) for below in _below(Path(entry), rest, folders=folders))
        elif folders or not entry.is_dir(follow_symlinks=False):
            yield (entry.name,)
