"""Leases: blobs in use before a manifest names them, visible to all programs that share a models directory.

A lease is a file in the models directory, locked while its owner lives. An unlocked one was left by a dead program and
lists the blobs that it made for nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple, Self, TypeVar

import msgspec

from registry.names import Digest, InvalidDigest
from registry.storage.files import try_lock

T = TypeVar("T")

_PREFIX: Final = "lease-"
_MODE: Final = 0o644
_MOST_BYTES: Final = 16 << 20
_GRACE: Final = 3600
"""Seconds for which a lease is valid on file systems without locks."""
log = logging.getLogger("pronk.registry")


class FolderLock:
    """A reentrant lock among all threads of all programs that use a folder.

    If the folder is missing or cannot be locked, it is a lock among this program's threads only.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._threads = threading.RLock()
        self._depth = 0
        self._descriptor = -1

    def __enter__(self) -> Self:
        self._threads.acquire()
        self._depth += 1
        if self._depth == 1:
            self._descriptor = _locked_folder(self._folder)
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._threads.release()


class Abandoned(NamedTuple):
    """A dead program's lease: its file, its blobs, and whether the program made them."""

    path: Path
    digests: frozenset[Digest]
    made: bool


class _File(msgspec.Struct):
    digests: list[str]
    made: bool


class Leases:
    """The leases on the blobs of one models directory. Used only while its FolderLock is held."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._counts: Counter[Digest] = Counter()
        self._own: dict[Path, int] = {}

    def take(self, digests: frozenset[Digest], *, made: bool) -> Path | None:
        """Lease blobs. Returns the lease file for `give_back`."""
        self._counts.update(digests)
        return self.note(digests, made=made)

    def give_back(self, digests: frozenset[Digest], file: Path | None) -> None:
        """End a lease."""
        self._counts -= Counter(digests)
        self.forget(file)

    def note(self, digests: Iterable[Digest], *, made: bool) -> Path | None:
        """Write a lease file for other programs, and for those that clean up if we die. None if that fails."""
        listed = [digest.hex for digest in digests]
        if not listed:
            return None
        with suppress(OSError):
            descriptor, name = tempfile.mkstemp(prefix=_PREFIX, dir=self._root)
            path = Path(name)
            self._own[path] = descriptor
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                os.fchmod(descriptor, _MODE)
                os.write(descriptor, msgspec.json.encode(_File(listed, made)))
            except OSError as error:  # disk full or no locks: the lease still holds for our own threads
                log.debug("a lease is not told to others: %s", error.strerror)
                self.forget(path)
                return None
            return path
        return None

    def forget(self, file: Path | None) -> None:
        """Remove a lease file written by `note`."""
        if file is not None:
            with suppress(OSError):
                file.unlink(missing_ok=True)
            os.close(self._own.pop(file))

    def held(self) -> set[Digest]:
        """All leased blobs: ours, and those of other living programs."""
        digests = set(self._counts)
        for path in self._others():
            with _opened(path) as descriptor:
                if descriptor >= 0 and not _is_free(descriptor):
                    digests |= _read(descriptor).digests
        return digests

    def abandoned(self) -> list[Abandoned]:
        """The leases of dead programs."""
        leases = []
        for path in self._others():
            with _opened(path) as descriptor:
                if descriptor >= 0 and _is_free(descriptor):
                    leases.append(_read(descriptor)._replace(path=path))
        return leases

    def _others(self) -> list[Path]:
        return [path for path in self._root.glob(f"{_PREFIX}*") if path not in self._own]


@asynccontextmanager
async def held(lease: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter a blocking context manager, such as a lease, in a thread, without blocking the event loop."""
    stack = ExitStack()
    taking = asyncio.ensure_future(asyncio.to_thread(stack.enter_context, lease))
    try:
        yield await asyncio.shield(taking)
    finally:
        await asyncio.wait((taking,))
        await asyncio.shield(asyncio.to_thread(stack.close))


def _locked_folder(folder: Path) -> int:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        log.debug("the models are not locked: %s", error.strerror)  # not every file system can
    return descriptor


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A descriptor; -1 if the file is gone or cannot be opened."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        descriptor = -1
    try:
        yield descriptor
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _is_free(descriptor: int) -> bool:
    locked = try_lock(descriptor)
    return locked if locked is not None else os.fstat(descriptor).st_mtime < time.time() - _GRACE


def _read(descriptor: int) -> Abandoned:
    """The content of a lease file; empty if it cannot be read."""
    try:
        file = msgspec.json.decode(os.read(descriptor, _MOST_BYTES), type=_File)
        return Abandoned(Path(), frozenset(Digest(text) for text in file.digests), file.made)
    except (OSError, ValueError, InvalidDigest):
        return Abandoned(Path(), frozenset(), False)
