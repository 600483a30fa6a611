"""Go strings: sequences of bytes, UTF-8 by habit only.

They are held as `str`; a byte that belongs to no character (half of one, after `slice`) is held as a surrogate escape.
"""

from __future__ import annotations

import codecs

SPACES = " \t\n\v\f\r\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029"
SPACES += "\u202f\u205f\u3000"
"""What Go's `strings.TrimSpace` trims; Python's `strip` also takes some control characters."""


def to_bytes(text: str) -> bytes:
    """The bytes of a Go string. Surrogates that are no escaped byte count as U+FFFD."""
    return text.encode("utf-8", "go-bytes")


def from_bytes(data: bytes) -> str:
    """The Go string of these bytes."""
    return data.decode("utf-8", "surrogateescape")


def byte_length(text: str) -> int:
    """The length of a Go string, in bytes."""
    return len(text) if text.isascii() else len(to_bytes(text))


def joined(parts: list[str]) -> str:
    """The parts in a row; halves of a character that meet become the character."""
    text = "".join(parts)
    return text if text.isascii() else from_bytes(to_bytes(text))


def printable(text: str) -> str:
    """The string for readers outside: U+FFFD for every byte that belongs to no character."""
    return text if text.isascii() else to_bytes(text).decode("utf-8", "replace")


def _surrogate_bytes(error: UnicodeError) -> tuple[bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    code = ord(error.object[error.start])
    return (bytes([code - 0xDC00]) if 0xDC80 <= code <= 0xDCFF else b"\xef\xbf\xbd"), error.start + 1


codecs.register_error("go-bytes", _surrogate_bytes)
