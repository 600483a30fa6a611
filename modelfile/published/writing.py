"""Writes a planned file, one tensor after the other, in pieces."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import BinaryIO, Final

import numpy as np

from modelfile.published.layout import AsF32, PairedRows
from modelfile.published.plan import PlannedTensor, RewritePlan
from registry.gguf import GGUFError, GGUFHeader, TensorInfo
from registry.gguf.types import ALIGNMENT, aligned

PIECE: Final = 4 << 20  # bytes


def contents(plan: RewritePlan) -> Iterator[bytes]:
    """The bytes of the file, in pieces. Blocking. Raises GGUFError (also half-way) or OSError."""
    yield plan.header
    with plan.source.open("rb") as file:
        for part in plan.parts:
            yield from _data(file, part, plan.published)
            yield bytes(aligned(part.tensor.size, ALIGNMENT) - part.tensor.size)


def _data(file: BinaryIO, part: PlannedTensor, published: GGUFHeader) -> Iterator[bytes]:
    if part.source is None:
        yield from (bytes(count) for count in _pieces(part.tensor.size))
        return
    file.seek(published.data_offset + part.source.offset)
    pieces = (_read(file, count) for count in _pieces(part.source.size))
    match part.change:
        case None:
            yield from pieces
        case AsF32():
            yield from (_in_32_bits(piece, part.source.type) for piece in pieces)
        case PairedRows(heads):
            yield _paired(b"".join(pieces), part.source, published.metadata.get(heads))


def _pieces(size: int) -> Iterator[int]:
    """Piece lengths for `size` bytes."""
    for start in range(0, size, PIECE):
        yield min(PIECE, size - start)


def _read(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise GGUFError("unexpected EOF")
    return data


def _in_32_bits(data: bytes, kind: str) -> bytes:
    if kind == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).tobytes()
    return np.frombuffer(data, "<f2").astype("<f4").tobytes()


def _paired(data: bytes, tensor: TensorInfo, heads: object) -> bytes:
    """Interleave the two halves of each head's rows."""
    count = math.prod(tensor.shape[-1:])
    if not isinstance(heads, int) or heads < 1 or count % (2 * heads):
        raise GGUFError(f'tensor "{tensor.name}" cannot be divided into heads')
    rows = np.frombuffer(data, np.uint8).reshape(heads, 2, count // heads // 2, -1)
    return rows.swapaxes(1, 2).tobytes()
