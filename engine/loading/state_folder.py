"""The prompt cache on disk (`PRONK_PROMPT_CACHE_DISK`): a folder of states, which this server alone writes.

Below the folder that the user names stand `pronk-states/v1/DIGEST/NAME.state`, by the digest of the model's weights.
What is beside `pronk-states` is nobody's business here. Files appear whole or not at all: a temporary name, fsync,
rename. They are private, since they hold what users wrote.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import stat
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from engine.state_messages import SUFFIX
from registry.logfields import fields
from registry.sizes import binary_size
from registry.storage.files import sync_directory, try_lock

OURS = "pronk-states"
FORMAT = "v1"  # another one where the layout of files or folders changes
RETRY = 60.0  # seconds without writing after it has failed
_LOCK = "lock"
_TEMPORARY = ".new-"
_NAME = re.compile(rf"[0-9a-f]{{16}}-[0-9a-f]{{32}}{re.escape(SUFFIX)}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FORMAT_FOLDER = re.compile(r"v[0-9]+")
log = logging.getLogger("pronk.engine")


class Unusable(Exception):
    """The folder cannot be used; the message says why."""


class StateFolder:
    """States of all models in at most `limit` bytes; the least recently used ones go first. For any thread.

    The constructor takes the folder for this process alone. It raises Unusable. `close` gives it up.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.limit = limit
        self.root = folder / OURS
        self._states = self.root / FORMAT
        self._guard = threading.Lock()
        self._files: OrderedDict[tuple[str, str], int] = OrderedDict()  # sizes by digest and name; the last used at end
        self._sizes: Counter[str] = Counter()  # by digest
        self._reserved = 0  # bytes of files that are being written
        self._numbers = 0
        self._open: set[str] = set()  # digests of models for which states are taken
        self._quiet_until = 0.0
        self._warned = self._closed = False
        try:
            self._lock = self._take()
        except OSError as error:
            raise Unusable(error.strerror or type(error).__name__) from None
        try:
            self._scan()
        except OSError as error:
            os.close(self._lock)
            raise Unusable(error.strerror or type(error).__name__) from None

    @property
    def size(self) -> int:
        """Bytes of all states."""
        return sum(tuple(self._sizes.values()))  # a copy: other threads write

    def size_of(self, digest: str) -> int:
        """Bytes of the states of the model whose weights have this digest (hexadecimal)."""
        return self._sizes[digest]

    def close(self) -> None:
        """Write nothing more, and leave the folder to others."""
        with self._guard:
            if not self._closed:
                self._closed = True
                os.close(self._lock)

    def open_for(self, digest: str) -> Path:
        """The folder of a model's states, which are taken from now on. It may be that it cannot be made."""
        with self._guard:
            self._open.add(digest)
        folder = self._states / digest
        with suppress(OSError, Unusable):
            _make(folder)
        return folder

    @property
    def digests(self) -> set[str]:
        """The models of which there are states, or may be."""
        with self._guard:
            return {digest for digest, _ in self._files} | self._open

    def forget(self, digests: Collection[str]) -> None:
        """Remove the states of these models, and take none of theirs until they are opened again."""
        with self._guard:
            self._open -= set(digests)
            for key in [key for key in self._files if key[0] in digests]:
                self._forget(key)
        for digest in digests:
            shutil.rmtree(self._states / digest, ignore_errors=True)

    def used(self, digest: str, name: str) -> None:
        """Note that a file was read."""
        with self._guard:
            if (digest, name) not in self._files:
                return
            self._files.move_to_end((digest, name))
        with suppress(OSError):
            os.utime(self._states / digest / name)  # the order survives a restart

    def remove(self, digest: str, names: Iterable[str]) -> None:
        """Remove files, as far as they are there."""
        with self._guard:
            for name in names:
                if _NAME.fullmatch(name):
                    self._unlink((digest, name))

    def begin(self, digest: str, name: str, size: int) -> PendingState | None:
        """A new file of just so many bytes, once older ones have made room; None if it cannot be kept."""
        with self._guard:
            unwanted = self._closed or digest not in self._open or time.monotonic() < self._quiet_until
            if unwanted or not 0 < size <= self.limit or not _NAME.fullmatch(name):
                return None
            while self._files and self.size + self._reserved + size > self.limit:
                self._unlink(next(iter(self._files)))
            if self._reserved + size > self.limit:  # others are being written
                return None
            self._reserved += size
            self._numbers += 1
            number = self._numbers
        folder = self._states / digest
        path = folder / f"{_TEMPORARY}{number}"
        try:
            _make(folder)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except (OSError, Unusable) as error:
            self._failed(error)
            self._release(size)
            return None
        return PendingState(self, (digest, name), size, path, descriptor)

    def _publish(self, pending: PendingState) -> bool:
        """Give a complete file its name. False if nobody wants it any more. Raises OSError."""
        folder = self._states / pending.key[0]
        with self._guard:
            if self._closed or pending.key[0] not in self._open:
                return False
            pending.path.replace(folder / pending.key[1])
            self._forget(pending.key)
            self._files[pending.key] = pending.size
            self._sizes[pending.key[0]] += pending.size
        sync_directory(folder)
        return True

    def _release(self, size: int) -> None:
        with self._guard:
            self._reserved -= size

    def _failed(self, error: OSError | Unusable) -> None:
        """A file could not be written: warn once, and leave it for a while."""
        with self._guard:
            self._quiet_until = time.monotonic() + RETRY
            level, self._warned = (logging.DEBUG if self._warned else logging.WARNING), True
        reason = str(error)
        if isinstance(error, OSError):
            reason = (
                "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or "it failed"
            )
        log.log(level, "prompt cache on disk cannot be written: %s", reason, extra=fields(folder=str(self.root)))

    def _forget(self, key: tuple[str, str]) -> None:
        if size := self._files.pop(key, 0):
            self._sizes[key[0]] -= size

    def _unlink(self, key: tuple[str, str]) -> None:
        self._forget(key)
        with suppress(OSError):
            (self._states / key[0] / key[1]).unlink()

    def _take(self) -> int:
        """Make the folders and lock them; returns the lock's descriptor. Raises OSError and Unusable."""
        self.root.parent.mkdir(parents=True, exist_ok=True)
        _make(self.root)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.open(self.root / _LOCK, flags, 0o600)
        try:
            if (locked := try_lock(lock)) is not True:
                raise Unusable("another server uses it" if locked is False else "its file system has no locks")
            _make(self._states)
            probe = self._states / f"{_TEMPORARY}probe"
            probe.unlink(missing_ok=True)
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            probe.unlink()
        except BaseException:
            os.close(lock)
            raise
        return lock

    def _scan(self) -> None:
        """Find the states that there are; remove what is left of writing, what is foreign, and other formats."""
        found: list[tuple[float, str, str, int]] = []
        others = [entry for entry in os.scandir(self.root) if _FORMAT_FOLDER.fullmatch(entry.name)]
        if old := [entry.path for entry in others if entry.name != FORMAT]:
            log.warning("prompt cache on disk: states of another version are removed", extra=fields(folders=len(old)))
            for path in old:
                shutil.rmtree(path, ignore_errors=True)
        for model in list(os.scandir(self._states)):
            if not (_DIGEST.fullmatch(model.name) and model.is_dir(follow_symlinks=False)):
                _remove(model)
                continue
            for entry in list(os.scandir(model.path)):
                status = entry.stat(follow_symlinks=False)
                if _NAME.fullmatch(entry.name) and stat.S_ISREG(status.st_mode):
                    found.append((status.st_mtime, model.name, entry.name, status.st_size))
                else:
                    _remove(entry)
        for _, digest, name, size in sorted(found):
            self._files[digest, name] = size
            self._sizes[digest] += size
        while self._files and self.size > self.limit:
            self._unlink(next(iter(self._files)))


class PendingState:
    """A file that is being written under a temporary name. One thread at a time; `close` it in the end."""

    def __init__(self, folder: StateFolder, key: tuple[str, str], size: int, path: Path, descriptor: int) -> None:
        self.key, self.size, self.path = key, size, path
        self._folder = folder
        self._descriptor = descriptor
        self._written = 0
        self._broken = False

    def write(self, data: memoryview) -> None:
        """Append. What cannot be written is lost, and the file with it."""
        try:
            while data and not self._broken:
                count = os.write(self._descriptor, data)
                data = data[count:]
                self._written += count
        except OSError as error:
            self._fail(error)

    def publish(self) -> bool:
        """Give the file its name, if it is complete. It is durable then."""
        if self._broken or self._written != self.size:
            return False
        try:
            os.fsync(self._descriptor)
            return self._folder._publish(self)
        except OSError as error:
            self._fail(error)
            return False

    def close(self) -> None:
        """Close the file; remove it unless it was published."""
        os.close(self._descriptor)
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        self._folder._release(self.size)

    def _fail(self, error: OSError) -> None:
        self._broken = True
        self._folder._failed(error)


def open_folder(folder: Path, limit: int) -> StateFolder | None:
    """The folder, or None with a warning in the log: then nothing is kept on disk. Blocking."""
    try:
        states = StateFolder(folder, limit)
    except Unusable as error:
        log.warning("prompt cache on disk is off: %s", error, extra=fields(folder=str(folder)))
        return None
    told = {"limit": binary_size(limit), "holds": binary_size(states.size)}
    log.info("prompt cache on disk", extra=fields(folder=str(states.root), **told))
    return states


def holdings(folder: Path) -> tuple[int, int]:
    """Number and bytes of the states in a folder, whoever uses it. Blocking. Raises OSError."""
    states = folder / OURS / FORMAT
    sizes = [path.stat().st_size for path in states.glob(f"*/*{SUFFIX}")] if states.is_dir() else []
    return len(sizes), sum(sizes)


def _make(folder: Path) -> None:
    """Make a private folder of ours. Raises OSError; Unusable if there is one that others may write."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise Unusable(f"{folder.name} is not a folder of this user")
    if status.st_mode & 0o077:
        folder.chmod(0o700)


def _remove(entry: os.DirEntry[str]) -> None:
    """Remove what does not belong in a folder of ours."""
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        with suppress(OSError):
            os.unlink(entry.path)
