"""A model that comes in several GGUF files, as one: the first one's metadata, everybody's tensors.

Nothing is decoded. What the files say is copied as it stands, but for the places of the tensors and for the entries
that say that there are several files.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Final, NamedTuple

from registry.gguf import types
from registry.gguf.cursor import Cursor, GGUFError
from registry.gguf.header import GGUFHeader, require_complete
from registry.gguf.reader import DEFAULT_ALIGNMENT, read_header

PIECE: Final = 4 << 20
_COUNTS = struct.Struct("<4sIQQ")
_UINT64 = struct.Struct("<Q")
_VERSION: Final = 3
_SPLIT: Final = b"split."
_TYPE_SIZE: Final = 4


class _Raw(NamedTuple):
    """The bytes of a header: its entries but for those about the split, and its tensors without their places."""

    entries: list[bytes]
    tensors: list[bytes]


def merged(paths: Sequence[Path]) -> Iterator[bytes]:
    """The bytes of the one file, in pieces. Blocking. Raises GGUFError, also on the way, or OSError."""
    headers = [read_header(path) for path in paths]
    require_complete(headers)
    parts = sorted(zip(headers, paths, strict=True), key=lambda part: int(part[0].metadata["split.no"]))
    alignment = int(parts[0][0].metadata.get("general.alignment", DEFAULT_ALIGNMENT))
    yield _header(parts, alignment)
    for header, path in parts:
        yield from _data(path, header.data_offset, alignment)


def _header(parts: Sequence[tuple[GGUFHeader, Path]], alignment: int) -> bytes:
    raws = [_read_raw(path, header) for header, path in parts]
    tensors = []
    base = 0
    for (header, path), raw in zip(parts, raws, strict=True):
        if header.metadata.get("general.alignment", DEFAULT_ALIGNMENT) != alignment:
            raise GGUFError("the parts of a split model are aligned differently")
        for tensor, start in zip(header.tensors, raw.tensors, strict=True):
            tensors.append(start + _UINT64.pack(base + tensor.offset))
        base += _aligned(path.stat().st_size - header.data_offset, alignment)
    entries = raws[0].entries
    text = _COUNTS.pack(b"GGUF", _VERSION, len(tensors), len(entries)) + b"".join((*entries, *tensors))
    return text.ljust(_aligned(len(text), alignment), b"\0")


def _data(path: Path, start: int, alignment: int) -> Iterator[bytes]:
    """All tensors of a file, and what is missing to where the next ones may begin."""
    size = 0
    with path.open("rb") as file:
        file.seek(start)
        while data := file.read(PIECE):
            size += len(data)
            yield data
    yield bytes(_aligned(size, alignment) - size)


def _read_raw(path: Path, header: GGUFHeader) -> _Raw:
    """Walk once more through a header that has been found good."""
    with path.open("rb") as file:
        text = file.read(header.data_offset)
    cursor = Cursor(BytesIO(text), len(text))
    _, _, n_tensors, n_entries = _COUNTS.unpack(cursor.take(_COUNTS.size))
    entries = [_entry(cursor, text) for _ in range(n_entries)]
    tensors = [_tensor(cursor, text) for _ in range(n_tensors)]
    return _Raw([entry for entry in entries if not entry.startswith(_SPLIT, _UINT64.size)], tensors)


def _entry(cursor: Cursor, text: bytes) -> bytes:
    start = cursor.position
    cursor.skip(cursor.uint64())
    match cursor.uint32():
        case types.STRING:
            cursor.skip(cursor.uint64())
        case types.ARRAY:
            _skip_array(cursor, cursor.uint32(), cursor.uint64())
        case kind:
            cursor.skip(types.SCALARS[kind].size)
    return text[start : cursor.position]


def _skip_array(cursor: Cursor, kind: int, count: int) -> None:
    if kind == types.STRING:
        cursor.skip_strings(count)
    else:
        cursor.skip(count * types.SCALARS[kind].size)


def _tensor(cursor: Cursor, text: bytes) -> bytes:
    """A tensor's name, shape and type."""
    start = cursor.position
    cursor.skip(cursor.uint64())
    cursor.skip(cursor.uint32() * _UINT64.size + _TYPE_SIZE)
    end = cursor.position
    cursor.skip(_UINT64.size)
    return text[start:end]


def _aligned(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment
