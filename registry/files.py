"""Files that appear complete or not at all, also when the power fails. Functions raise OSError."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path

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
