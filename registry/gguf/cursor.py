"""Reading a hostile file forwards: no length is believed before it is compared with the bytes that are left."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO, Final, NamedTuple

WINDOW: Final = 256 << 10
MAX_HEADER: Final = 256 << 20
_UINT32 = struct.Struct("<I")
_UINT64 = struct.Struct("<Q")


class GGUFError(ValueError):
    """A file is no GGUF that can be served; `str()` says why, without naming the file."""


class Mark(NamedTuple):
    """A text among others: its number, and where it begins, in bytes from the first one's beginning."""

    number: int
    start: int


class Cursor:
    """A place in a file, seen through a window of some kilobytes. Used by one thread, while the file is open.

    Every method raises GGUFError when the file, or what a header may take of it, ends before.
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
        """Step over bytes without reading them."""
        self.require(count)
        self._at += count

    def uint32(self) -> int:
        """A 32-bit number."""
        return int(self.unpack(_UINT32))

    def uint64(self) -> int:
        """A 64-bit number."""
        return int(self.unpack(_UINT64))

    def unpack(self, form: struct.Struct) -> Any:
        """The one value of this form."""
        self._fill(form.size)
        (value,) = form.unpack_from(self._window, self._at)
        self._at += form.size
        return value

    def skip_strings(self, count: int) -> tuple[tuple[Mark, ...], int]:
        """Step over texts, each behind its length; fast enough for vocabularies of hundreds of thousands.

        Returns a mark for the first text, and for one every window after it, and the bytes of the longest one.
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
        """Step over up to `count` texts whose lengths stand in the window; how many remain, and the longest's bytes."""
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
        """Move the window if the next `count` bytes are not in it."""
        if self._at + count <= len(self._window):
            return
        self.require(count)
        self._start, self._at = self.position, 0
        self._file.seek(self._start)
        self._window = self._file.read(min(max(count, WINDOW), self._end - self._start))
        if len(self._window) < count:
            raise GGUFError("unexpected EOF")
