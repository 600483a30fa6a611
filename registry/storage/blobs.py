"""Blobs: files named by the SHA-256 of their content."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from registry.errors import BlobMissing, BlobTooLarge, DigestMismatch, StoreError, raise_if_stopped, without_paths
from registry.names import Digest, InvalidDigest
from registry.storage.files import (
    PendingFile,
    Stamp,
    is_abandoned,
    make_directory,
    publish,
    remove_older,
    require_space,
    without_waiting,
)
from registry.storage.partials import SUFFIX, Partial

_READING = "read a blob"
_WRITING = "write a blob"
_TIDYING = "remove old blobs"
_PREFIX = "incoming-"
_PIECE = 4 << 20
_SMALL = 1 << 20
"""Bytes up to which `seems_whole` hashes a blob."""


class Blob(NamedTuple):
    """A stored blob: its digest, and its size in bytes."""

    digest: Digest
    size: int


class Check(NamedTuple):
    """Progress of one blob's verification, in bytes. Once `done`, `fault` says what is wrong, empty if nothing."""

    digest: Digest
    completed: int
    total: int
    done: bool = False
    fault: str = ""


class BlobWriter:
    """Writes a new blob. One thread at a time. Methods raise StoreError."""

    def __init__(
        self,
        folder: Path,
        file: PendingFile,
        expected: Digest | None,
        lease: Callable[[Digest], None] | None,
        sizes: dict[Digest, int],
    ) -> None:
        self._folder = folder
        self._file = file
        self._expected = expected
        self._lease = lease
        self._sizes = sizes
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append."""
        self._hash.update(data)
        self._size += len(data)
        with without_paths(_WRITING):
            self._file.write(data)

    def commit(self) -> Blob:
        """Verify the digest and publish the blob. Raises DigestMismatch."""
        digest = Digest(self._hash.hexdigest())
        if self._expected is not None and self._expected != digest:
            raise DigestMismatch(self._expected, digest)
        if self._lease is not None:
            self._lease(digest)
        with without_paths(_WRITING):
            self._file.publish(self._folder / digest.filename)
        self._sizes[digest] = self._size
        return Blob(digest, self._size)


class BlobRepair:
    """Compares a stored blob with the same blob uploaded again, and replaces it if it is damaged.

    One thread at a time. `repaired` is set if it was replaced. Methods raise StoreError.
    """

    def __init__(self, path: Path, digest: Digest) -> None:
        self.repaired = False
        self._path = path
        self._digest = digest
        self._hash = hashlib.sha256()
        self._equal = 0  # bytes up to the first that differs
        self._present: BinaryIO | None = None
        self._new: PendingFile | None = None
        with suppress(OSError):  # a blob that cannot be opened differs from the first byte on
            self._present = _opened(path)

    def write(self, data: bytes) -> None:
        """Compare or write the next uploaded bytes."""
        self._hash.update(data)
        with without_paths(_WRITING):
            if self._new is None and self._bytes(self._equal, len(data)) == data:
                self._equal += len(data)
            else:
                self._replacement().write(data)

    def commit(self) -> None:
        """Replace the blob if the upload has the right digest and the blob differs."""
        if self._hash.hexdigest() != self._digest.hex:
            return
        with without_paths(_WRITING):
            if self._new is not None or self._bytes(self._equal, 1):  # or the blob is longer than the upload
                self._replacement().publish(self._path)
                self.repaired = True

    def close(self) -> None:
        """Close both files."""
        if self._present is not None:
            self._present.close()
        if self._new is not None:
            self._new.close()

    def _bytes(self, start: int, count: int) -> bytes:
        """Bytes of the stored blob; empty if it cannot be read."""
        if self._present is None:
            return b""
        try:
            self._present.seek(start)
            return self._present.read(count)
        except OSError:
            return b""

    def _replacement(self) -> PendingFile:
        """The replacement file, which starts with the bytes that were equal."""
        if self._new is None:
            self._new = PendingFile(self._path.parent, _PREFIX)
            for start in range(0, self._equal, _PIECE):
                self._new.write(self._bytes(start, min(_PIECE, self._equal - start)))
        return self._new


class Blobs:
    """The folder of blobs. Thread-safe; files are never changed in place."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: tuple[Stamp | None, frozenset[str]] | None = None
        self._written: dict[Digest, int] = {}
        """The sizes in bytes of blobs written by this object."""

    def path(self, digest: Digest) -> Path:
        """The blob's path, whether it exists or not."""
        return self._folder / digest.filename

    def has(self, digest: Digest) -> bool:
        """Whether the blob is there."""
        with without_paths(_READING):
            return self.path(digest).is_file()

    def size(self, digest: Digest) -> int | None:
        """The size of a blob in bytes, None if it is missing."""
        with without_paths(_READING):
            try:
                status = self.path(digest).stat()
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno == errno.ELOOP:
                    return None
                raise
            return status.st_size if stat.S_ISREG(status.st_mode) else None

    def seems_whole(self, digest: Digest, sizes: Collection[int]) -> bool:
        """Whether the blob exists with one of these `sizes` in bytes (none: any size).

        A small blob is hashed instead. An unreadable one counts as missing.
        """
        try:
            size = self.size(digest)
            if size is not None and size <= _SMALL:
                return Digest.of(self.read(digest, _SMALL)) == digest
        except StoreError:
            return False
        written = self._written.get(digest)
        sizes = {*sizes, *([] if written is None else [written])}
        return size is not None and (not sizes or size in sizes)

    def read(self, digest: Digest, limit: int) -> bytes:
        """The bytes of a blob of up to `limit` bytes. Raises BlobMissing, BlobTooLarge or StoreError."""
        with without_paths(_READING):
            try:
                with _opened(self.path(digest)) as file:
                    data = file.read(limit + 1)
            except FileNotFoundError:
                raise BlobMissing(digest) from None
        if len(data) > limit:
            raise BlobTooLarge(digest, limit)
        return data

    def digests(self) -> list[Digest]:
        """All stored blobs."""
        return [digest for name in self.filenames() if (digest := digest_of(name)) and digest.filename == name]

    def check(self, digest: Digest) -> Iterator[Check]:
        """Hash a blob in steps; the last one is `done` and has the fault. Raises nothing."""
        completed = total = 0
        sha256 = hashlib.sha256()
        try:
            with _opened(self.path(digest)) as file:
                total = os.fstat(file.fileno()).st_size
                while data := file.read(_PIECE):
                    sha256.update(data)
                    completed += len(data)
                    yield Check(digest, completed, total)
        except FileNotFoundError:
            yield Check(digest, completed, total, done=True, fault="missing")
        except OSError as error:
            yield Check(digest, completed, total, done=True, fault=f"cannot be read: {error.strerror}")
        else:
            intact = sha256.hexdigest() == digest.hex
            yield Check(digest, completed, total, done=True, fault="" if intact else "its bytes have changed")

    @contextmanager
    def put(
        self, expected: Digest | None = None, lease: Callable[[Digest], None] | None = None
    ) -> Iterator[BlobWriter]:
        """A writer for a new blob, verified against `expected` if given. Without a commit nothing is left.

        `lease` is called with the digest before the blob is published.
        """
        with without_paths(_WRITING):
            make_directory(self._folder)
            file = PendingFile(self._folder, _PREFIX)
        try:
            yield BlobWriter(self._folder, file, expected, lease, self._written)
        finally:
            file.close()

    @contextmanager
    def repair(self, digest: Digest) -> Iterator[BlobRepair]:
        """A BlobRepair for a stored blob that is uploaded again."""
        repair = BlobRepair(self.path(digest), digest)
        try:
            yield repair
        finally:
            repair.close()

    def adopt(self, path: Path, lease: Callable[[Digest], None], stopping: threading.Event | None) -> tuple[Blob, bool]:
        """Move a complete file on the same disk into the blobs. Returns the blob, and whether it existed already.

        `lease` is called with the digest before the blob is published. Raises Stopped once `stopping` is set.
        """
        sha256 = hashlib.sha256()
        with without_paths(_WRITING), path.open("rb") as file:
            while data := file.read(_PIECE):
                raise_if_stopped(stopping)
                sha256.update(data)
            digest = Digest(sha256.hexdigest())
            blob = Blob(digest, os.fstat(file.fileno()).st_size)
            lease(digest)
            if self.path(digest).is_file():
                return blob, True
            make_directory(self._folder)
            publish(file.fileno(), path, self.path(digest))
        return blob, False

    def touch(self, digest: Digest) -> None:
        """Renew a blob's mtime: programs that share the folder do not remove young blobs."""
        with suppress(OSError):  # missing, or owned by another user
            os.utime(self.path(digest))

    def remove(self, digest: Digest) -> None:
        """Remove a blob, if it exists."""
        with without_paths("remove a blob"):
            self.path(digest).unlink(missing_ok=True)
        self._written.pop(digest, None)

    def filenames(self) -> list[str]:
        """The names of all files, blobs or not."""
        with without_paths(_TIDYING):
            return [entry.name for entry in self._files()]

    def stored(self) -> frozenset[str]:
        """The names of all files; the same object as before if nothing has changed."""
        with without_paths(_READING):
            try:
                now = time.time_ns()
                stamp = Stamp.of(self._folder.stat())
            except (FileNotFoundError, NotADirectoryError):
                return frozenset()
            known = self._known
            if known is not None and known[0] == stamp:
                return known[1]
            entries = self._files()
            links = [entry for entry in entries if entry.is_symlink()]
            filenames = frozenset(entry.name for entry in entries) - {
                link.name for link in links if not _leads_to_file(link)
            }
        if known is not None and known[1] == filenames:
            filenames = known[1]
        # A link's target may disappear without a change of this folder.
        self._known = (stamp if stamp.tells(now) and not links else None, filenames)
        return filenames

    def remove_older(self, filename: str, than: float) -> bool:
        """Remove a file last written before `than` (Unix seconds); returns whether it was removed.

        An unfinished file of a dead process goes at any age.
        """
        path = self._folder / filename
        with without_paths(_TIDYING):
            if filename.startswith(_PREFIX) and is_abandoned(path, than):
                path.unlink(missing_ok=True)
                return True
            return not filename.startswith(_PREFIX) and remove_older(path, than)

    def partial(self, digest: Digest) -> Partial:
        """A blob to download in parts."""
        return Partial(self._folder, digest)

    def require_space(self, needed: int) -> None:
        """Raise DiskFull if `needed` bytes do not fit."""
        with without_paths(_WRITING):
            make_directory(self._folder)
            require_space(self._folder, needed)

    def rename_legacy(self) -> None:
        """Rename blobs from the old form `sha256:HEX` to `sha256-HEX`."""
        with without_paths("rename old blobs"):
            for entry in self._files():
                digest = digest_of(entry.name)
                if digest is not None and ":" in entry.name:
                    with suppress(IsADirectoryError):  # something else is in its place
                        Path(entry).replace(self.path(digest))

    def _files(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._folder) as entries:
                return [entry for entry in entries if not entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []


def _opened(path: Path) -> BinaryIO:
    """Open a regular file. Raises OSError for anything else: a pipe or a device may never end."""
    descriptor = without_waiting(str(path), os.O_RDONLY)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise OSError(errno.EINVAL, "not a regular file")
    return os.fdopen(descriptor, "rb")


def _leads_to_file(link: os.DirEntry[str]) -> bool:
    try:
        return link.is_file()
    except OSError:  # a cycle, or no permission
        return False


def owner_of(filename: str) -> Digest | None:
    """The digest of a blob or partial blob with this file name."""
    return digest_of(filename.partition(SUFFIX)[0])


def digest_of(filename: str) -> Digest | None:
    """The digest in a file name, or None."""
    try:
        return Digest.parse(filename)
    except InvalidDigest:
        return None
