"""GGUF headers as raw bytes, to write files made from others: unchanged entries are never decoded."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple

from registry.gguf import types
from registry.gguf.cursor import Cursor, GGUFError
from registry.gguf.header import GGUFHeader, TensorInfo
from registry.gguf.types import SCALARS, aligned

Scalar = bool | int | float | str
Value = Scalar | bytes | list[int] | list[float]
_COUNTS = struct.Struct("<4sIQQ")
_UINT32 = struct.Struct("<I")
_UINT64 = struct.Struct("<Q")
_ARRAY = struct.Struct("<IIQ")
_VERSION: Final = 3
_TYPE_NUMBERS = {kind.name: number for number, kind in types.TENSOR_TYPES.items()}


class MetadataEntry(NamedTuple):
    """A metadata entry; `value` is its bytes in the file, starting with the type."""

    key: str
    value: bytes


def read_entries(path: Path, header: GGUFHeader) -> Iterator[MetadataEntry]:
    """The metadata entries of a file with this valid header, in order. Raises GGUFError or FileNotFoundError."""
    try:
        with path.open("rb") as file:
            text = file.read(header.data_offset)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise GGUFError(f"cannot read: {error.strerror}") from None
    cursor = Cursor(BytesIO(text), len(text))
    _, _, _, count = _COUNTS.unpack(cursor.take(_COUNTS.size))
    for _ in range(count):
        key = cursor.take(cursor.uint64()).decode()
        start = cursor.position
        _skip_value(cursor)
        yield MetadataEntry(key, text[start : cursor.position])


def encode_header(entries: Mapping[str, bytes], tensors: Sequence[TensorInfo], alignment: int) -> bytes:
    """A whole header, padded up to the data."""
    counts = _COUNTS.pack(b"GGUF", _VERSION, len(tensors), len(entries))
    texts = [_text(key) + value for key, value in entries.items()]
    text = b"".join((counts, *texts, *map(_tensor, tensors)))
    return text.ljust(aligned(len(text), alignment), b"\0")


def encode_value(value: Value) -> bytes:
    """Encode a value: 32-bit floats, 32-bit integers (unsigned alone, signed in lists), bytes as uint8 arrays.

    Raises GGUFError for a number out of range.
    """
    try:
        return _encoded(value)
    except (struct.error, OverflowError):
        raise GGUFError(f"the number {value!r} has no place in 32 bits") from None


def decode_scalar(value: bytes) -> Scalar | None:
    """Decode a number, boolean or string; None for an array."""
    (kind,) = _UINT32.unpack_from(value)
    if kind == types.ARRAY:
        return None
    if kind == types.STRING:
        return value[_UINT32.size + _UINT64.size :].decode("utf-8", "replace")
    (number,) = SCALARS[kind].unpack_from(value, _UINT32.size)
    return _scalar(number)


def cut_array(value: bytes, count: int) -> bytes:
    """The array's first `count` elements; other values are returned as they are."""
    if _UINT32.unpack_from(value) != (types.ARRAY,):
        return value
    tag, kind, length = _ARRAY.unpack_from(value)
    if length <= count:
        return value
    cursor = Cursor(BytesIO(value), len(value))
    cursor.skip(_ARRAY.size)
    _skip_elements(cursor, kind, count)
    return _ARRAY.pack(tag, kind, count) + value[_ARRAY.size : cursor.position]


def _encoded(value: Value) -> bytes:
    match value:
        case str():
            return _UINT32.pack(types.STRING) + _text(value)
        case bytes():
            return _ARRAY.pack(types.ARRAY, types.UINT8, len(value)) + value
        case list():
            kind = types.FLOAT32 if isinstance(value[0], float) else types.INT32
            code = SCALARS[kind].format[1:]
            return _ARRAY.pack(types.ARRAY, kind, len(value)) + struct.pack(f"<{len(value)}{code}", *value)
        case bool():
            return _UINT32.pack(types.BOOL) + SCALARS[types.BOOL].pack(value)
        case int():
            return _UINT32.pack(types.UINT32) + SCALARS[types.UINT32].pack(value)
        case float():
            return _UINT32.pack(types.FLOAT32) + SCALARS[types.FLOAT32].pack(value)


def _skip_value(cursor: Cursor) -> None:
    match cursor.uint32():
        case types.STRING:
            cursor.skip(cursor.uint64())
        case types.ARRAY:
            _skip_elements(cursor, cursor.uint32(), cursor.uint64())
        case kind:
            cursor.skip(SCALARS[kind].size)


def _skip_elements(cursor: Cursor, kind: int, count: int) -> None:
    if kind == types.STRING:
        cursor.skip_strings(count)
    else:
        cursor.skip(count * SCALARS[kind].size)


def _tensor(tensor: TensorInfo) -> bytes:
    shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
    return _text(tensor.name) + shape + struct.pack("<IQ", _TYPE_NUMBERS[tensor.type], tensor.offset)


def _text(text: str) -> bytes:
    data = text.encode()
    return _UINT64.pack(len(data)) + data


def _scalar(value: Any) -> Scalar:
    return value if isinstance(value, bool | int) else float(value)
