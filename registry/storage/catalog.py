"""The stored names and their manifests. A name is a path of four parts below `manifests`."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from registry.errors import ModelMissing, without_paths
from registry.manifest import MAX_BYTES, ManifestError
from registry.names import InvalidName, ModelName
from registry.storage.files import PendingFile, Stamp, is_abandoned, make_directory, sync_directory, without_waiting

_READING = "read the models"
_WRITING = "write a model"
_PREFIX = ".incoming-"
_ANY = ("", "", "", "")
_TRIES = 100
_BROKEN = frozenset({errno.EISDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENXIO, errno.ENODEV})
log = logging.getLogger("pronk.registry")


class StoredManifest(NamedTuple):
    """A manifest's bytes and mtime (Unix nanoseconds).

    `stamp` is None for a file changed so recently that another change might not alter it.
    """

    data: bytes
    modified_at: int
    stamp: Stamp | None


class _Folder(NamedTuple):
    """A folder's entries; at the last level also the names of its files and of its folders."""

    stamp: Stamp
    entries: tuple[str, ...]
    names: tuple[ModelName, ...]
    folders: tuple[ModelName, ...]


class Catalog:
    """The folder of manifests. Other programs may change it, so a cached folder is valid only while its stamp is.

    Methods may be called from any thread; the caller serializes changes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._root = str(folder)
        self._known: dict[str, _Folder] = {}
        self._warned: set[str] = set()

    @property
    def exists(self) -> bool:
        """Whether there is a folder of manifests; the first model makes it."""
        return os.path.lexists(self._root)

    def names(self, *, strict: bool = False) -> Iterator[ModelName]:
        """All stored names, also of unreadable manifests. Files without a valid name are skipped.

        Unreadable folders are skipped with a warning; with `strict` they raise StoreError.
        """
        with without_paths(_READING):
            yield from self._matching(_ANY, strict=strict)

    def stamps(self) -> Iterator[tuple[ModelName, Stamp | None]]:
        """All stored names, and the current stamps of their manifests."""
        with without_paths(_READING):
            for name in self._matching(_ANY):
                yield name, self.stamp(name)

    def spelling(self, name: ModelName) -> ModelName | None:
        """The stored name that equals `name` ignoring case, or None. A folder in its place counts, too."""
        with without_paths(_READING):
            if os.path.lexists(self._path(name)):
                return name
            return next(self._matching(name.folded, folders=True), None)

    def read(self, name: ModelName) -> StoredManifest:
        """The manifest of a name in the store's spelling. Raises ModelMissing, ManifestError or StoreError."""
        path = self._path(name)
        with without_paths(_READING):
            try:
                with open(path, "rb", opener=without_waiting) as file:
                    now, status = time.time_ns(), os.fstat(file.fileno())
                    if not stat.S_ISREG(status.st_mode):
                        raise ManifestError("not a regular file")
                    stamp = Stamp.of(status)
                    return StoredManifest(
                        file.read(MAX_BYTES + 1), stamp.modified_at, stamp if stamp.tells(now) else None
                    )
            except (FileNotFoundError, NotADirectoryError):
                if path.is_symlink():
                    raise ManifestError("a link to nothing") from None
                raise ModelMissing(name) from None
            except OSError as error:
                if error.errno in _BROKEN:
                    raise ManifestError((error.strerror or "unreadable").lower()) from None
                raise

    def stamp(self, name: ModelName) -> Stamp | None:
        """The current stamp of a name's manifest; None if it cannot be read."""
        try:
            return Stamp.of(os.stat(f"{self._root}/{name.host}/{name.namespace}/{name.model}/{name.tag}"))
        except OSError:
            return None

    def write(self, name: ModelName, data: bytes) -> int:
        """Store or replace a manifest, atomically. Returns its mtime in Unix nanoseconds."""
        path = self._path(name)
        with without_paths(_WRITING):
            make_directory(self._folder)
            # Not among the manifests: Ollama stops pruning when it meets one that it cannot read.
            file = PendingFile(self._folder, _PREFIX)
            try:
                file.write(data)
                _publish(file, path)
                return file.modified_at
            finally:
                file.close()

    def remove(self, name: ModelName) -> None:
        """Remove a name in the store's spelling, durably, and folders that become empty. Raises ModelMissing."""
        path = self._path(name)
        with without_paths("remove a model"):
            try:
                if not _remove_folder(path):
                    path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                raise ModelMissing(name) from None
            with suppress(FileNotFoundError):  # another program has removed the folder as well
                sync_directory(path.parent)
        with suppress(OSError):  # a folder that is not empty
            for folder in path.parents[:3]:
                self._known.pop(str(folder), None)
                folder.rmdir()

    def tidy(self, before: float) -> None:
        """Remove empty folders and files left by a crash; without file locks, those older than `before` (Unix time)."""
        with without_paths("remove old manifests"):
            for file in self._folder.glob(f"{_PREFIX}*"):
                if is_abandoned(file, before):
                    with suppress(OSError):  # a folder with such a name
                        file.unlink(missing_ok=True)
            for folder, _, _ in os.walk(self._folder, topdown=False):
                if folder != str(self._folder):
                    with suppress(OSError):
                        os.rmdir(folder)

    def _path(self, name: ModelName) -> Path:
        return self._folder.joinpath(*name.parts)

    def _matching(self, pattern: Sequence[str], *, folders: bool = False, strict: bool = False) -> Iterator[ModelName]:
        """The names that match the pattern's parts, ignoring case; an empty part matches anything.

        Names of files, of links, and with `folders` of folders.
        """
        return self._below(self._root, pattern, (), folders=folders, strict=strict)

    def _below(
        self, path: str, pattern: Sequence[str], parts: tuple[str, ...], *, folders: bool, strict: bool
    ) -> Iterator[ModelName]:
        first, *rest = pattern
        try:
            folder = self._read_folder(path, parts)
        except OSError as error:
            # The folder's content is unknown; but a cyclic link has none.
            if not parts or (strict and error.errno != errno.ELOOP):
                raise
            self._warn(path, error)
            folder = None
        if rest:
            for entry in folder.entries if folder else ():
                if first in ("", entry.lower()):
                    yield from self._below(f"{path}/{entry}", rest, (*parts, entry), folders=folders, strict=strict)
        elif folder:
            names = (*folder.names, *folder.folders) if folders else folder.names
            yield from (name for name in names if first in ("", name.tag.lower()))

    def _read_folder(self, path: str, parts: tuple[str, ...]) -> _Folder | None:
        """The folder at `path`, which stands for these parts of a name; None if it is missing. Raises OSError."""
        known = self._known.get(path)
        try:
            now = time.time_ns()
            stamp = Stamp.of(os.stat(path))
            if known is not None and known.stamp == stamp:
                return known
            with os.scandir(path) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            self._known.pop(path, None)
            if isinstance(error, NotADirectoryError) or (
                isinstance(error, FileNotFoundError) and not os.path.islink(path)
            ):
                return None
            raise
        files = [entry for entry in entries if not entry.is_dir(follow_symlinks=False)]
        folders = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
        names = tuple(_names(files, parts)), tuple(_names(folders, parts))
        folder = _Folder(stamp, tuple(entry.name for entry in entries), *names)
        if stamp.tells(now):
            self._known[path] = folder
        self._warned.discard(path)
        return folder

    def _warn(self, path: str, error: OSError) -> None:
        """Log once that a folder is skipped."""
        if path not in self._warned:
            self._warned.add(path)
            log.warning("no model below %s is seen: %s", path, (error.strerror or "unreadable").lower())


def _names(entries: Sequence[os.DirEntry[str]], parts: tuple[str, ...]) -> Iterator[ModelName]:
    if len(parts) < 3:
        return
    host, namespace, model = parts
    for entry in entries:
        with suppress(InvalidName):
            yield ModelName(host, namespace, model, entry.name)


def _publish(file: PendingFile, path: Path) -> None:
    """Publish a manifest; try again if another program removes the folder while it is still empty."""
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):
            make_directory(path.parent)
            _remove_folder(path)
            return file.publish(path)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _remove_folder(path: Path) -> bool:
    """Remove a folder in a manifest's place; returns whether there was one."""
    if path.is_symlink() or not path.is_dir():
        return False
    shutil.rmtree(path)
    return True
