"""The header of a GGUF file: metadata and tensors, read without the weights and without trust.

Everything is bounded: by what is left of the file, by the caps below, and by the time that they allow. What a file may
hold beyond them (a text of megabytes) is stepped over; what could not be loaded anyway is refused here, in a process
that nothing can crash.
"""

from __future__ import annotations

import math
import stat
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from registry.gguf_cursor import Cursor, GGUFError
from registry.gguf_types import FILE_TYPES, TENSOR_TYPES, UNKNOWN, parameter_size

__all__ = ["GGUFArray", "GGUFError", "GGUFHeader", "TensorInfo", "read_header", "require_complete"]

MAX_ENTRIES: Final = 1 << 16
"""Of metadata, and of tensors."""
MAX_ELEMENTS: Final = 4 << 20
"""In all arrays together: a vocabulary of 262,000 tokens takes 1.3 million."""
MAX_KEY: Final = 64 << 10
MAX_TEXT: Final = 1 << 20
"""Bytes of one text; longer ones are left out of the metadata."""
MAX_TEXTS: Final = 16 << 20
"""Bytes of all keys, texts and names together."""
MAX_TENSOR_NAME: Final = 63
MAX_DIMENSIONS: Final = 4
DEFAULT_ALIGNMENT: Final = 32
_ALIGNMENTS = frozenset(1 << bit for bit in range(3, 13))
_MOST_NUMBERS = (1 << 63) - 1

_STRING, _ARRAY, _UINT32 = 8, 9, 4
_SCALARS = {
    number: struct.Struct(f"<{code}")
    for number, code in {
        0: "B",
        1: "b",
        2: "H",
        3: "h",
        4: "I",
        5: "i",
        6: "f",
        7: "?",
        10: "Q",
        11: "q",
        12: "d",
    }.items()
}
_UINT64 = struct.Struct("<Q")


class TensorInfo(NamedTuple):
    """One tensor: `shape` with the row length first, `offset` in bytes from the start of the data, `size` in bytes."""

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class GGUFArray:
    """An array of the metadata. Its length is known; its values are read when they are asked for."""

    path: Path
    kind: int
    count: int
    offset: int
    size: int

    def __len__(self) -> int:
        return self.count

    def values(self) -> list[Any]:
        """Numbers, truth values or texts. Reads the file. Raises GGUFError, or FileNotFoundError if it is gone."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read(self.size)
            return _texts(data, self.count) if self.kind == _STRING else _numbers(data, self.kind, self.count)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise GGUFError(f"cannot read: {error.strerror}") from None
        except struct.error:
            raise GGUFError("unexpected EOF") from None


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """What a GGUF file says about itself. `metadata` holds numbers, truth values, texts and `GGUFArray`s."""

    version: int
    metadata: dict[str, Any]
    tensors: tuple[TensorInfo, ...]
    data_offset: int

    @property
    def architecture(self) -> str:
        """`general.architecture`: which graph the weights are for."""
        value = self.metadata.get("general.architecture")
        return value if isinstance(value, str) else UNKNOWN

    def field(self, suffix: str) -> Any:
        """The value of `<architecture>.<suffix>`, None if there is none."""
        return self.metadata.get(f"{self.architecture}.{suffix}")

    @property
    def parameter_count(self) -> int:
        """How many numbers the tensors hold."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    @property
    def parameter_size(self) -> str:
        """The number of parameters as a label."""
        return parameter_size(self.parameter_count)

    @property
    def file_type(self) -> str:
        """What most of the weights are, by `general.file_type`. A 0 is as good as nothing: Ollama reads it so."""
        value = self.metadata.get("general.file_type")
        return FILE_TYPES.get(value, UNKNOWN) if isinstance(value, int) and value else UNKNOWN


def read_header(path: Path) -> GGUFHeader:
    """Read a header; blocking, some milliseconds. Raises GGUFError, or FileNotFoundError if there is no such file."""
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


def require_complete(headers: Sequence[GGUFHeader]) -> None:
    """Check that these are all the parts of one split model. Raises GGUFError."""
    counts = {header.metadata.get("split.count") for header in headers}
    numbers = {header.metadata.get("split.no") for header in headers}
    if counts != {len(headers)} or numbers != set(range(len(headers))):
        raise GGUFError("the parts of a split model do not belong together")


class _Reader:
    """One pass over one header. Keeps count of what the file has been granted so far."""

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
        data_offset = -(-self._cursor.position // alignment) * alignment
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
        """The entries, and the alignment of the data that they ask for."""
        metadata: dict[str, Any] = {}
        seen = set()
        alignment = DEFAULT_ALIGNMENT
        for _ in range(count):
            key = self._text(MAX_KEY, "key")
            if not key or key in seen:
                raise GGUFError(f"duplicate key {key!r}" if key else "empty key")
            seen.add(key)
            kind = self._cursor.uint32()
            value = self._value(kind)
            if key == "general.alignment":
                alignment = _alignment(kind, value)
            if value is not None:
                metadata[key] = value
        return metadata, alignment

    def _value(self, kind: int) -> Any:
        """One value of a type; None for a text that is too long to keep."""
        if kind == _STRING:
            return self._long_text()
        if kind == _ARRAY:
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
        """Bytes that will be kept in memory."""
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
        if kind == _STRING:
            cursor.skip_strings(count)
        else:
            cursor.skip(count * _scalar(kind).size)
        return GGUFArray(self._path, kind, count, start, cursor.position - start)

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
        """Each tensor lies in the file, aligned, and none on another."""
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
    if kind != _UINT32 or value not in _ALIGNMENTS:
        raise GGUFError(f"invalid GGUF alignment: {value}" if kind == _UINT32 else "invalid GGUF alignment")
    return int(value)


def _scalar(kind: int) -> struct.Struct:
    if kind not in _SCALARS:
        raise GGUFError("nested array" if kind == _ARRAY else f"invalid type {kind}")
    return _SCALARS[kind]


def _numbers(data: bytes, kind: int, count: int) -> list[Any]:
    return list(struct.unpack(f"<{count}{_SCALARS[kind].format[1:]}", data))


def _texts(data: bytes, count: int) -> list[str]:
    unpack, at, found = _UINT64.unpack_from, 0, []
    for _ in range(count):
        start = at + _UINT64.size
        at = start + unpack(data, at)[0]
        found.append(data[start:at].decode("utf-8", "replace"))
    return found
