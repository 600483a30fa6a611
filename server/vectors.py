"""Vectors as JSON. They are long, so each dialect's way of writing numbers is one pass over all of them."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import msgspec


def as_float32(vectors: Sequence[array[float]]) -> msgspec.Raw:
    """A list of lists whose numbers have the nine digits that tell one float32 from all others."""
    return msgspec.Raw(b"[" + b",".join(map(_row, vectors)) + b"]")


def as_float64(vector: array[float]) -> msgspec.Raw:
    """A list whose numbers are those of the vector exactly."""
    return msgspec.Raw(msgspec.json.encode(vector.tolist()))


def _row(vector: array[float]) -> bytes:
    return b"[" + b",".join([b"%.9g" % number for number in vector]) + b"]"
