"""Files that appear complete or not at all, also when the power fails. Functions raise OSError."""

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
    """A file that has no name of its own yet. One thread at a time; `close` it in the end.

    It is locked, so that other programs can tell it from what one that died has left.
    """

    def __init__(self, directory: Path, prefix: str) -> None:
        self._descriptor, self._path = _locked_file(directory, prefix)

    @property
    def modified_at(self) -> int:
        """When it was last written, in Unix nanoseconds."""
        return os.fstat(self._descriptor).st_mtime_ns

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


def without_waiting(path: str, flags: int) -> int:
    """An opener for `open`: a pipe would keep us waiting for its other end."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def publish(descriptor: int, path: Path, target: Path) -> None:
    """Give an open, complete file its final name; once this has returned, both last."""
    os.fchmod(descriptor, _MODE)
    os.fsync(descriptor)
    path.replace(target)
    with suppress(FileNotFoundError):  # another program has removed it again, and its folder
        sync_directory(target.parent)


def make_directory(path: Path) -> None:
    """Make a directory and those above it, so that they last."""
    missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        with suppress(FileNotFoundError):  # another program has removed it again
            sync_directory(folder.parent)


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file or folder, unless another has it open and locked; None where nothing can be locked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def is_there(descriptor: int, path: Path) -> bool:
    """Whether a path still leads to an open file or folder."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


def is_abandoned(path: Path, before: float) -> bool:
    """Whether nobody has a file or folder locked that is locked while it is used. False if it is gone.

    Where nothing can be locked, whether it was last written before a time (in Unix seconds).
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
    """Remove a file that was last written before a time, in Unix seconds. Whether it was there and that old."""
    try:
        if path.lstat().st_mtime >= than:
            return False
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _locked_file(directory: Path, prefix: str) -> tuple[int, Path]:
    """A new file, open and locked; where nothing can be locked, open."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix=prefix, dir=directory)
        try_lock(descriptor)
        if is_there(descriptor, Path(name)):
            return descriptor, Path(name)
        os.close(descriptor)  # somebody tidied up just before it was locked


def sync_directory(path: Path) -> None:
    """Make the names in a directory last."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Folders for files in the making, on the disk of the blobs: they are as large as blobs, and become some.

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


# How much room a disk has.


@dataclass(frozen=True, slots=True)
class Room:
    """What can be written to a folder, or where it is to be made: free bytes, and why nothing can (empty if it can)."""

    exists: bool
    free: int
    hindrance: str = ""


def room(folder: Path) -> Room:
    """Try to write to a folder, or to the first above it that is there. Nothing is left. Raises nothing."""
    exists = os.path.exists(folder)  # which is false, and raises nothing, where it may not be looked at
    place = next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))
    try:
        free = _free(place)
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        return Room(exists, 0, error.strerror or str(error))
    return Room(exists, free)


def hindrance(models: Path) -> tuple[Path, str] | None:
    """The folder of the models, or the first below it, that cannot be written, and why; None if all can."""
    below = [path for path in (models / "blobs", models / "manifests") if os.path.exists(path)]
    checks = ((path, room(path).hindrance) for path in (models, *below))
    return next(((path, reason) for path, reason in checks if reason), None)


def require_space(folder: Path, needed: int) -> None:
    """Raise DiskFull if so many bytes do not fit on the disk of a folder; OSError if that cannot be known."""
    free = _free(folder)
    if needed > free:
        raise DiskFull(needed, free)


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


# Whether a file or a folder is still what it was when it was read.

_TICK = 100_000_000  # nanoseconds; the clock of a file system goes on in steps of some milliseconds
_COARSE_TICK = 2_000_000_000  # where it has no fractions of seconds


class Stamp(NamedTuple):
    """What changes with every change: of a file's content, or of a folder's entries. Times are Unix nanoseconds."""

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
        """Whether any change after `now`, when it was taken, gives another stamp: not so soon after the last one."""
        last = max(self.modified_at, self.changed_at)
        return last + (_TICK if last % 1_000_000_000 else _COARSE_TICK) < now
