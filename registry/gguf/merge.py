"""Merges a split model into one GGUF: the first part's metadata, the tensors of all parts.

Metadata are copied as bytes; only the tensors' offsets and the `split.*` entries change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from registry.gguf.cursor import GGUFError
from registry.gguf.header import GGUFHeader, TensorInfo, require_complete
from registry.gguf.raw import encode_header, read_entries
from registry.gguf.reader import read_header
from registry.gguf.types import ALIGNMENT, aligned

PIECE: Final = 4 << 20
_SPLIT: Final = "split."


def merged(paths: Sequence[Path]) -> Iterator[bytes]:
    """The bytes of the merged file, in pieces. Blocking. Raises GGUFError (also half-way) or OSError."""
    headers = [read_header(path) for path in paths]
    require_complete(headers)
    parts = sorted(zip(headers, paths, strict=True), key=lambda part: int(part[0].metadata["split.no"]))
    alignment = int(parts[0][0].metadata.get("general.alignment", ALIGNMENT))
    yield _header(parts, alignment)
    for header, path in parts:
        yield from _data(path, header.data_offset, alignment)


def _header(parts: Sequence[tuple[GGUFHeader, Path]], alignment: int) -> bytes:
    tensors: list[TensorInfo] = []
    base = 0
    for header, path in parts:
        if header.metadata.get("general.alignment", ALIGNMENT) != alignment:
            raise GGUFError("the parts of a split model are aligned differently")
        tensors += (tensor._replace(offset=base + tensor.offset) for tensor in header.tensors)
        base += aligned(path.stat().st_size - header.data_offset, alignment)
    header, path = parts[0]
    entries = {key: value for key, value in read_entries(path, header) if not key.startswith(_SPLIT)}
    return encode_header(entries, tensors, alignment)


def _data(path: Path, start: int, alignment: int) -> Iterator[bytes]:
    """A file's tensor data, padded to the alignment."""
    size = 0
    with path.open("rb") as file:
        file.seek(start)
        while data := file.read(PIECE):
            size += len(data)
            yield data
    yield bytes(aligned(size, alignment) - size)
