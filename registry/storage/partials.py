"""A blob on its way in by parts: bytes where they belong, a journal of what is there, a name when it is whole.

The files are Ollama's: `sha256-HEX-partial` has the full size from the start, `sha256-HEX-partial-N` says how far part
N is. The journal never says more than what is on the disk, also when the power fails.
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

# How a large blob is divided: parts that travel side by side, each of which remembers how far it is.

_MOST = (1 << 63) - 1
_Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]


class Part(msgspec.Struct, kw_only=True):
    """A range of a blob, in bytes, of which the first `completed` are there. Its JSON is Ollama's."""

    number: _Count = msgspec.field(name="N")
    offset: _Count = msgspec.field(name="Offset")
    size: _Count = msgspec.field(name="Size")
    completed: _Count = msgspec.field(name="Completed", default=0)

    @property
    def start(self) -> int:
        """Where the next byte belongs."""
        return self.offset + self.completed

    @property
    def end(self) -> int:
        """Where the next part begins."""
        return self.offset + self.size

    @property
    def left(self) -> int:
        """Bytes that are missing."""
        return self.size - self.completed


@dataclass(frozen=True, slots=True)
class Division:
    """Into how many parts a blob is divided, and how small and how large they may be in bytes."""

    count: int = 16
    smallest: int = 100_000_000
    largest: int = 1_000_000_000

    def of(self, total: int) -> list[Part]:
        """The parts of a blob, none of an empty one."""
        size = min(max(total // self.count, self.smallest), self.largest)
        return [
            Part(number=number, offset=offset, size=min(size, total - offset))
            for number, offset in enumerate(range(0, total, size))
        ]


DIVISION: Final = Division()


def completed_list(saved: Iterable[Part], total: int) -> list[Part]:
    """Parts that were saved, with new ones for what they leave out; those that cannot be are left out themselves."""
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
"""Bytes that a crash may cost, and no more than the next piece besides."""
SUFFIX: Final = "-partial"
_PIECE = 1 << 20
_MOST_STATE = 1 << 10
_MODE = 0o644
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_WRITING = "write a blob"
_READING = "read a partial blob"
log = logging.getLogger("pronk.registry")


class PartialClosed(StoreError):
    """Nobody waits for this blob any more."""

    def __init__(self) -> None:
        super().__init__("the download was stopped")


class Partial:
    """The partial of one blob; while it is open no other process can open it. One thread at a time, but for `stop`.

    Methods raise StoreError when the disk refuses; what is there then stays and is found again. `close` it in the end.
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
        """Go on with what an earlier try has left of a blob of this size, or start anew."""
        with without_paths(_WRITING):
            make_directory(self._folder)
            self._descriptor = _open_locked(self._path)
            self.parts = self._start(total, division)

    @property
    def kept(self) -> int:
        """Bytes that an earlier try has left. Need not be open."""
        with without_paths(_READING):
            return sum(part.completed for part in self._saved_parts())

    @property
    def total(self) -> int:
        """Bytes of the whole blob."""
        return sum(part.size for part in self.parts)

    @property
    def completed(self) -> int:
        """Bytes that are there. May be read from any thread."""
        return sum(part.completed for part in self.parts)

    def write(self, part: Part, data: bytes | bytearray) -> None:
        """The next bytes of a part; what lies beyond its end is dropped."""
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
        """Check the digest, then let the blob count.

        Raises CorruptDownload, and nothing is left of it; PartialClosed after `stop`.
        """
        digest = self._hash()
        with without_paths(_WRITING):
            if digest != self._digest:
                self._path.unlink(missing_ok=True)
                self._forget()
                raise CorruptDownload(self._digest, digest)
            publish(self._descriptor, self._path, self._folder / self._digest.filename)
            self._forget()

    def stop(self) -> None:
        """Let a `commit` that is at work end soon. May be called from any thread."""
        self._stopping.set()

    def close(self) -> None:
        """Note what is there, and let go of it; one that was not opened is closed already."""
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
        """The parts to work on: those of an earlier try, or new ones."""
        saved = self._saved_parts()
        parts = completed_list(saved, total) if saved else division.of(total)
        os.ftruncate(self._descriptor, total)
        os.utime(self._descriptor)
        self._unsaved = {part.number: part for part in parts}
        self._journal()
        return parts

    def _journal(self) -> None:
        """Write down how far the parts are, once their bytes are safe."""
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
        """The parts that the journal knows; what cannot be read, of it or of the blob, is as good as not there."""
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
    """The data file, held against other processes. Raises StoreError if one of them has it."""
    while True:
        descriptor = os.open(path, _FLAGS, _MODE)
        try:
            _lock(descriptor)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was published or removed just before it was locked


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreError("another program is downloading this blob") from None
    except OSError as error:
        log.debug("downloads are not locked: %s", error.strerror)  # not every file system can


def _save(path: Path, part: Part) -> None:
    """Written over the old state in one go: a part that has grown never has a shorter text."""
    descriptor = os.open(path, _FLAGS, _MODE)
    try:
        os.pwrite(descriptor, msgspec.json.encode(part) + b"\n", 0)
    finally:
        os.close(descriptor)
