"""Crash-safe files: atomic publishing, locks, temporary folders, free space, change stamps. Raises OSError."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from registry.errors import DiskFull, without_paths

_MODE = 0o644


class PendingFile:
    """A new file without its final name. One thread at a time; `close` it in the end.

    It is locked, so that other programs can tell it from a dead program's.
    """

    def __init__(self, directory: Path, prefix: str) -> None:
        self._descriptor, self._path = _locked_file(directory, prefix)

    @property
    def modified_at(self) -> int:
        """The mtime in Unix nanoseconds."""
        return os.fstat(self._descriptor).st_mtime_ns

    def write(self, data: bytes) -> None:
        """Append."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def publish(self, target: Path) -> None:
        """Move the file to its final name, replacing one that exists. Durable on return."""
        publish(self._descriptor, self._path, target)

    def close(self) -> None:
        """Close the file; remove it unless it was published."""
        os.close(self._descriptor)
        self._path.unlink(missing_ok=True)


def without_waiting(path: str, flags: int) -> int:
    """An opener for `open` that does not block on a pipe."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def publish(descriptor: int, path: Path, target: Path) -> None:
    """Give an open, complete file its final name. Content and name are durable on return."""
    os.fchmod(descriptor, _MODE)
    os.fsync(descriptor)
    path.replace(target)
    with suppress(FileNotFoundError):  # another program has removed the file and its folder
        sync_directory(target.parent)


def make_directory(path: Path) -> None:
    """Create a directory and its parents, durably."""
    missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        with suppress(FileNotFoundError):  # another program has removed it again
            sync_directory(folder.parent)


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file or folder. False if another process holds the lock; None if the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def is_there(descriptor: int, path: Path) -> bool:
    """Whether a path still names this open file or folder."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


def is_abandoned(path: Path, before: float) -> bool:
    """Whether nobody holds the lock of a file or folder that is locked while in use. False if it is gone.

    Without locks: whether it was last written before `before` (Unix seconds).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        locked = try_lock(descriptor)
        return os.fstat(descriptor).st_mtime < before if locked is None else locked
    finally:
        os.close(descriptor)


def remove_older(path: Path, than: float) -> bool:
    """Remove a file last written before `than` (Unix seconds); returns whether it was removed."""
    try:
        if path.lstat().st_mtime >= than:
            return False
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _locked_file(directory: Path, prefix: str) -> tuple[int, Path]:
    """A new open file, locked if the file system has locks."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix=prefix, dir=directory)
        try_lock(descriptor)
        if is_there(descriptor, Path(name)):
            return descriptor, Path(name)
        os.close(descriptor)  # another process pruned it just before it was locked


def sync_directory(path: Path) -> None:
    """Make a directory's entries durable (fsync)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_PREFIX = "making-"


class Scratch:
    """Temporary folders on the blobs' disk, for files that become blobs. Thread-safe."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """An empty folder, removed with its content at the end. Raises StoreError."""
        with without_paths("make a folder"):
            make_directory(self._root)
            descriptor, folder = _locked_folder(self._root)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)

    def remove_abandoned(self, before: float) -> None:
        """Remove folders left by a crash; without locks, those older than `before` (Unix seconds)."""
        for folder in self._root.glob(f"{_PREFIX}*"):
            if is_abandoned(folder, before):
                shutil.rmtree(folder, ignore_errors=True)


def _locked_folder(root: Path) -> tuple[int, Path]:
    """A new folder, open and locked while it is used."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try_lock(descriptor)
        if is_there(descriptor, folder):
            return descriptor, folder
        os.close(descriptor)  # another process pruned it just before it was locked


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """Whether a folder exists, the free bytes on its disk, and why it cannot be written ("" if it can)."""

    exists: bool
    free: int
    unwritable: str = ""


def disk_space(folder: Path) -> DiskSpace:
    """Test-write to a folder, or to its first existing parent. Leaves nothing. Raises nothing."""
    exists = os.path.exists(folder)  # false, without an error, if it may not be looked at
    place = next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))
    try:
        free = _free(place)
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        return DiskSpace(exists, 0, error.strerror or str(error))
    return DiskSpace(exists, free)


def unwritable_folder(models: Path) -> tuple[Path, str] | None:
    """The first of the models folder, `blobs` and `manifests` that cannot be written, and why; None if all can."""
    below = [path for path in (models / "blobs", models / "manifests") if os.path.exists(path)]
    checks = ((path, disk_space(path).unwritable) for path in (models, *below))
    return next(((path, reason) for path, reason in checks if reason), None)


def require_space(folder: Path, needed: int) -> None:
    """Raise DiskFull if `needed` bytes do not fit on a folder's disk, OSError if that is unknown."""
    free = _free(folder)
    if needed > free:
        raise DiskFull(needed, free)


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


_TICK = 100_000_000  # nanoseconds; file system clocks advance in steps of milliseconds
_COARSE_TICK = 2_000_000_000  # for file systems without fractions of seconds


class Stamp(NamedTuple):
    """Fields of `stat` that change with a file's content or a folder's entries. Times are Unix nanoseconds."""

    device: int
    inode: int
    size: int
    modified_at: int
    changed_at: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """The stamp in a file's status."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def tells(self, now: int) -> bool:
        """Whether any change after `now` (when it was taken) must change the stamp: not right after the last change."""
        last = max(self.modified_at, self.changed_at)
        return last + (_TICK if last % 1_000_000_000 else _COARSE_TICK) < now
