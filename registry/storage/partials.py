"""Partial blobs: downloads in parts that survive a crash, in Ollama's file format.

`sha256-HEX-partial` has the full size from the start; `sha256-HEX-partial-N` is the journal of part N, which never
claims bytes that are not on the disk, even after a power failure.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec

from registry.errors import CorruptDownload, StoreError, without_paths
from registry.names import Digest
from registry.storage.files import make_directory, publish

_MOST = (1 << 63) - 1
_Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]


class Part(msgspec.Struct, kw_only=True):
    """A range of a blob in bytes, of which the first `completed` are there. Its JSON is Ollama's."""

    number: _Count = msgspec.field(name="N")
    offset: _Count = msgspec.field(name="Offset")
    size: _Count = msgspec.field(name="Size")
    completed: _Count = msgspec.field(name="Completed", default=0)

    @property
    def start(self) -> int:
        """The offset of the next byte."""
        return self.offset + self.completed

    @property
    def end(self) -> int:
        """The offset behind the part."""
        return self.offset + self.size

    @property
    def left(self) -> int:
        """Missing bytes."""
        return self.size - self.completed


@dataclass(frozen=True, slots=True)
class Division:
    """How a blob is divided: the number of parts, and their smallest and largest size in bytes."""

    count: int = 16
    smallest: int = 100_000_000
    largest: int = 1_000_000_000

    def of(self, total: int) -> list[Part]:
        """The parts of a blob of `total` bytes; none for an empty one."""
        size = min(max(total // self.count, self.smallest), self.largest)
        return [
            Part(number=number, offset=offset, size=min(size, total - offset))
            for number, offset in enumerate(range(0, total, size))
        ]


DIVISION: Final = Division()


def completed_list(saved: Iterable[Part], total: int) -> list[Part]:
    """Saved parts plus new ones for the gaps, in order; impossible parts are dropped."""
    known = list(saved)
    fresh = max((part.number for part in known), default=-1) + 1
    parts: list[Part] = []
    at = 0
    for part in sorted(known, key=lambda part: part.offset):
        if part.size and at <= part.offset and part.end <= total:
            if at < part.offset:
                parts.append(Part(number=fresh, offset=at, size=part.offset - at))
                fresh += 1
            parts.append(part)
            at = part.end
    if at < total:
        parts.append(Part(number=fresh, offset=at, size=total - at))
    return parts


JOURNAL_EVERY: Final = 8 << 20
"""Bytes between two journal writes, so at most about as many are lost in a crash."""
SUFFIX: Final = "-partial"
_PIECE = 1 << 20
_MOST_STATE = 1 << 10
_MODE = 0o644
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_WRITING = "write a blob"
_READING = "read a partial blob"
log = logging.getLogger("pronk.registry")


class PartialClosed(StoreError):
    """The download was stopped."""

    def __init__(self) -> None:
        super().__init__("the download was stopped")


class Partial:
    """One partial blob. While open, no other process can open it. One thread at a time, except for `stop`.

    Methods raise StoreError; bytes so far are kept for the next attempt. `close` it in the end.
    """

    def __init__(self, folder: Path, digest: Digest) -> None:
        self.parts: list[Part] = []
        self._folder = folder
        self._digest = digest
        self._descriptor = -1
        self._stopping = threading.Event()
        self._unsaved: dict[int, Part] = {}
        self._since_journal = 0

    def open(self, total: int, division: Division) -> None:
        """Resume an earlier attempt at this blob of `total` bytes, or start anew."""
        with without_paths(_WRITING):
            make_directory(self._folder)
            self._descriptor = _open_locked(self._path)
            self.parts = self._start(total, division)

    @property
    def kept(self) -> int:
        """Bytes left by an earlier attempt. Works on a closed partial."""
        with without_paths(_READING):
            return sum(part.completed for part in self._saved_parts())

    @property
    def total(self) -> int:
        """Bytes of the whole blob."""
        return sum(part.size for part in self.parts)

    @property
    def completed(self) -> int:
        """Bytes written. May be read from any thread."""
        return sum(part.completed for part in self.parts)

    def write(self, part: Part, data: bytes | bytearray) -> None:
        """Write the next bytes of a part; bytes beyond its end are dropped."""
        rest = memoryview(data)[: part.left]
        self._since_journal += len(rest)
        self._unsaved[part.number] = part
        with without_paths(_WRITING):
            while rest:
                count = os.pwrite(self._descriptor, rest, part.start)
                part.completed += count
                rest = rest[count:]
            if self._since_journal >= JOURNAL_EVERY:
                self._journal()

    def commit(self) -> None:
        """Verify the digest and publish the blob. Raises CorruptDownload and removes it; PartialClosed after `stop`."""
        digest = self._hash()
        with without_paths(_WRITING):
            if digest != self._digest:
                self._path.unlink(missing_ok=True)
                self._forget()
                raise CorruptDownload(self._digest, digest)
            publish(self._descriptor, self._path, self._folder / self._digest.filename)
            self._forget()

    def stop(self) -> None:
        """Make a running `commit` end soon. May be called from any thread."""
        self._stopping.set()

    def close(self) -> None:
        """Write the journal and close the file, if it is open."""
        if self._descriptor < 0:
            return
        try:
            with without_paths(_WRITING):
                self._journal()
        finally:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def _path(self) -> Path:
        return self._folder / f"{self._digest.filename}{SUFFIX}"

    def _start(self, total: int, division: Division) -> list[Part]:
        """The parts to download: those of an earlier attempt, or new ones."""
        saved = self._saved_parts()
        parts = completed_list(saved, total) if saved else division.of(total)
        os.ftruncate(self._descriptor, total)
        os.utime(self._descriptor)
        self._unsaved = {part.number: part for part in parts}
        self._journal()
        return parts

    def _journal(self) -> None:
        """Write the progress of changed parts, after an fsync of their bytes."""
        if not self._unsaved:
            return
        os.fsync(self._descriptor)
        for part in self._unsaved.values():
            _save(self._folder / f"{self._path.name}-{part.number}", part)
        self._unsaved.clear()
        self._since_journal = 0

    def _forget(self) -> None:
        """Remove the journal."""
        self._unsaved.clear()
        for path in self._states():
            path.unlink(missing_ok=True)

    def _states(self) -> Iterator[Path]:
        return self._folder.glob(f"{self._path.name}-*")

    def _saved_parts(self) -> list[Part]:
        """The parts in the journal. Unreadable entries and bytes beyond the file count as missing."""
        parts: dict[int, Part] = {}
        present = self._path.stat().st_size if self._path.is_file() else 0
        for path in self._states():
            try:
                with path.open("rb") as file:
                    part = msgspec.json.decode(file.read(_MOST_STATE), type=Part)
            except (FileNotFoundError, ValueError):
                continue
            if path.name == f"{self._path.name}-{part.number}":
                part.completed = max(0, min(part.completed, part.size, present - part.offset))
                parts[part.number] = part
        return list(parts.values())

    def _hash(self) -> Digest:
        total = hashlib.sha256()
        offset = 0
        with without_paths(_READING):
            while data := os.pread(self._descriptor, _PIECE, offset):
                if self._stopping.is_set():
                    raise PartialClosed
                total.update(data)
                offset += len(data)
        return Digest(total.hexdigest())


def _open_locked(path: Path) -> int:
    """The open data file, locked. Raises StoreError if another process holds it."""
    while True:
        descriptor = os.open(path, _FLAGS, _MODE)
        try:
            _lock(descriptor)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # another process published or removed it just before it was locked


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreError("another program is downloading this blob") from None
    except OSError as error:
        log.debug("downloads are not locked: %s", error.strerror)  # not every file system can


def _save(path: Path, part: Part) -> None:
    """Overwrite a part's journal in one write: a grown part never has a shorter text."""
    descriptor = os.open(path, _FLAGS, _MODE)
    try:
        os.pwrite(descriptor, msgspec.json.encode(part) + b"\n", 0)
    finally:
        os.close(descriptor)
