"""Parser for GGUF headers with bounds on memory and time."""

from __future__ import annotations

import math
import stat
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from registry.gguf.cursor import Cursor, GGUFError, Mark
from registry.gguf.header import GGUFArray, GGUFHeader, TensorInfo
from registry.gguf.types import ALIGNMENT, ARRAY, SCALARS, STRING, TENSOR_TYPES, UINT32, aligned

MAX_ENTRIES: Final = 1 << 16
"""Metadata entries, and tensors."""
MAX_ELEMENTS: Final = 4 << 20
"""Elements of all arrays together: a vocabulary of 262,000 tokens has 1.3 million."""
MAX_KEY: Final = 64 << 10
MAX_TEXT: Final = 1 << 20
"""Bytes of one string; longer ones are left out of the metadata."""
MAX_TEXTS: Final = 16 << 20
"""Bytes of all keys, strings and names together."""
MAX_TENSOR_NAME: Final = 63
MAX_DIMENSIONS: Final = 4
_ALIGNMENTS = frozenset(1 << bit for bit in range(3, 13))
_MOST_NUMBERS = (1 << 63) - 1


def read_header(path: Path) -> GGUFHeader:
    """Read a header. Blocking, some milliseconds. Raises GGUFError or FileNotFoundError."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise GGUFError("not a regular file")
        with path.open("rb", buffering=0) as file:
            return _Reader(path, file, status.st_size).read()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise GGUFError(f"cannot read: {error.strerror}") from None


class _Reader:
    """One pass over one header; counts the memory used so far."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self._path = path
        self._size = size
        self._cursor = Cursor(file, size)
        self._elements = 0
        self._texts = 0

    def read(self) -> GGUFHeader:
        version, n_tensors, n_entries = self._counts()
        metadata, alignment = self._metadata(n_entries)
        tensors = [self._tensor() for _ in range(n_tensors)]
        data_offset = aligned(self._cursor.position, alignment)
        _check_names(tensors)
        self._check_places(tensors, data_offset, alignment)
        return GGUFHeader(version, metadata, tuple(tensors), data_offset)

    def _counts(self) -> tuple[int, int, int]:
        cursor = self._cursor
        if self._size < 4 or cursor.take(4) != b"GGUF":
            raise GGUFError("supplied file was not in GGUF format")
        version = cursor.uint32()
        if version and not version & 0xFFFF:
            raise GGUFError("big-endian GGUF files are not supported")
        if version not in (2, 3):
            raise GGUFError(f"unsupported GGUF version {version}")
        n_tensors, n_entries = cursor.uint64(), cursor.uint64()
        if max(n_tensors, n_entries) > MAX_ENTRIES:
            raise GGUFError(f"more than {MAX_ENTRIES} entries")
        return version, n_tensors, n_entries

    def _metadata(self, count: int) -> tuple[dict[str, Any], int]:
        """The entries, and the alignment of tensor data in bytes."""
        metadata: dict[str, Any] = {}
        seen = set()
        alignment = ALIGNMENT
        for _ in range(count):
            key = self._text(MAX_KEY, "key")
            if not key or key in seen:
                raise GGUFError("duplicate key" if key else "empty key")
            seen.add(key)
            kind = self._cursor.uint32()
            value = self._value(kind)
            if key == "general.alignment":
                alignment = _alignment(kind, value)
            if value is not None:
                metadata[key] = value
        return metadata, alignment

    def _value(self, kind: int) -> Any:
        """One value; None for a string longer than MAX_TEXT."""
        if kind == STRING:
            return self._long_text()
        if kind == ARRAY:
            return self._array()
        return self._cursor.unpack(_scalar(kind))

    def _text(self, limit: int, what: str) -> str:
        length = self._cursor.uint64()
        if length > limit:
            self._cursor.require(length)
            raise GGUFError(f"{what} longer than {limit} bytes")
        try:
            return self._granted(length).decode()
        except UnicodeDecodeError:
            raise GGUFError(f"{what} is not UTF-8") from None

    def _long_text(self) -> str | None:
        length = self._cursor.uint64()
        if length > MAX_TEXT:
            self._cursor.skip(length)
            return None
        return self._granted(length).decode("utf-8", "replace")

    def _granted(self, length: int) -> bytes:
        """Read bytes that stay in memory, within MAX_TEXTS."""
        self._texts += length
        if self._texts > MAX_TEXTS:
            raise GGUFError(f"more than {MAX_TEXTS} bytes of text")
        return self._cursor.take(length)

    def _array(self) -> GGUFArray:
        cursor = self._cursor
        kind, count = cursor.uint32(), cursor.uint64()
        self._elements += count
        if self._elements > MAX_ELEMENTS:
            raise GGUFError(f"more than {MAX_ELEMENTS} array elements")
        start = cursor.position
        marks: tuple[Mark, ...] = ()
        longest = 0
        if kind == STRING:
            marks, longest = cursor.skip_strings(count)
        else:
            cursor.skip(count * _scalar(kind).size)
        return GGUFArray(self._path, kind, count, start, cursor.position - start, marks, longest)

    def _tensor(self) -> TensorInfo:
        cursor = self._cursor
        name = self._text(MAX_TENSOR_NAME, "tensor name")
        dimensions = cursor.uint32()
        if dimensions > MAX_DIMENSIONS:
            raise GGUFError(f'tensor "{name}" dimensions {dimensions} exceeds maximum {MAX_DIMENSIONS}')
        shape = tuple(cursor.uint64() for _ in range(dimensions))
        kind = TENSOR_TYPES.get(cursor.uint32())
        if kind is None:
            raise GGUFError(f'tensor "{name}" has an unknown type')
        numbers = math.prod(shape)
        if not 0 < numbers <= _MOST_NUMBERS or (shape[0] if shape else 1) % kind.block:
            raise GGUFError(f'tensor "{name}" has an impossible shape')
        return TensorInfo(name, kind.name, shape, cursor.uint64(), numbers // kind.block * kind.size)

    def _check_places(self, tensors: Iterable[TensorInfo], data_offset: int, alignment: int) -> None:
        """Check that tensors are inside the file, aligned, and do not overlap."""
        taken = 0
        for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
            end = tensor.offset + tensor.size
            if data_offset + end > self._size:
                place = f"offset+size ({data_offset + end}) exceeds file size ({self._size})"
                raise GGUFError(f'tensor "{tensor.name}" {place}')
            if tensor.offset % alignment or tensor.offset < taken:
                raise GGUFError(f'tensor "{tensor.name}" has an invalid offset')
            taken = end


def _check_names(tensors: Sequence[TensorInfo]) -> None:
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise GGUFError("duplicate tensor name")


def _alignment(kind: int, value: Any) -> int:
    if kind != UINT32 or value not in _ALIGNMENTS:
        raise GGUFError(f"invalid GGUF alignment: {value}" if kind == UINT32 else "invalid GGUF alignment")
    return int(value)


def _scalar(kind: int) -> struct.Struct:
    if kind not in SCALARS:
        raise GGUFError("nested array" if kind == ARRAY else f"invalid type {kind}")
    return SCALARS[kind]
