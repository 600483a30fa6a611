"""Forward reading of an untrusted file: every length is checked against the bytes that are left."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO, Final, NamedTuple

WINDOW: Final = 256 << 10
MAX_HEADER: Final = 256 << 20
_UINT32 = struct.Struct("<I")
_UINT64 = struct.Struct("<Q")


class GGUFError(ValueError):
    """A GGUF file is invalid or unsupported; `str()` says why, without naming the file."""


class Mark(NamedTuple):
    """A position in an array of strings: the string's index, and its start in bytes from the array's first string."""

    number: int
    start: int


class Cursor:
    """A position in an open file, read through a window of WINDOW bytes. For one thread.

    Every method raises GGUFError at the end of the file, and behind MAX_HEADER bytes.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._end = min(size, MAX_HEADER)
        self._problem = "unexpected EOF" if size <= MAX_HEADER else f"header larger than {MAX_HEADER} bytes"
        self._start = 0
        self._window = b""
        self._at = 0

    @property
    def position(self) -> int:
        """Bytes from the start of the file."""
        return self._start + self._at

    def require(self, count: int) -> None:
        """Check that `count` bytes are left."""
        if count > self._end - self.position:
            raise GGUFError(self._problem)

    def take(self, count: int) -> bytes:
        """The next bytes."""
        self._fill(count)
        self._at += count
        return self._window[self._at - count : self._at]

    def skip(self, count: int) -> None:
        """Skip bytes without reading them."""
        self.require(count)
        self._at += count

    def uint32(self) -> int:
        """A 32-bit number."""
        return int(self.unpack(_UINT32))

    def uint64(self) -> int:
        """A 64-bit number."""
        return int(self.unpack(_UINT64))

    def unpack(self, form: struct.Struct) -> Any:
        """The next value, of a struct with one field."""
        self._fill(form.size)
        (value,) = form.unpack_from(self._window, self._at)
        self._at += form.size
        return value

    def skip_strings(self, count: int) -> tuple[tuple[Mark, ...], int]:
        """Skip `count` length-prefixed strings; fast enough for vocabularies of hundreds of thousands.

        Returns a mark for the first string and about one per window after it, and the bytes of the longest string.
        """
        self.require(count * _UINT64.size)
        first, left, marks, longest = self.position, count, [], 0
        while left:
            self._fill(_UINT64.size)
            marks.append(Mark(count - left, self.position - first))
            left, length = self._walk(left)
            longest = max(longest, length)
            self.require(0)
        return tuple(marks), longest

    def _walk(self, count: int) -> tuple[int, int]:
        """Skip strings whose lengths are in the window. Returns how many remain, and the longest length."""
        window, at, longest, unpack = self._window, self._at, 0, _UINT64.unpack_from
        last = len(window) - _UINT64.size
        while count and at <= last:
            (length,) = unpack(window, at)
            if length > longest:
                longest = length
            at += length + _UINT64.size
            count -= 1
        self._at = at
        return count, longest

    def _fill(self, count: int) -> None:
        """Move the window so that it holds the next `count` bytes."""
        if self._at + count <= len(self._window):
            return
        self.require(count)
        self._start, self._at = self.position, 0
        self._file.seek(self._start)
        self._window = self._file.read(min(max(count, WINDOW), self._end - self._start))
        if len(self._window) < count:
            raise GGUFError("unexpected EOF")
