"""Vectors as JSON: they are long, so they are written without the general encoder."""

from __future__ import annotations

from array import array

import msgspec


def as_float32(vector: array[float]) -> msgspec.Raw:
    """A list whose numbers have the nine digits that tell one float32 from all others."""
    return msgspec.Raw(b"[" + b",".join([b"%.9g" % number for number in vector]) + b"]")


def as_float64(vector: array[float]) -> msgspec.Raw:
    """A list whose numbers are those of the vector exactly."""
    return msgspec.Raw(msgspec.json.encode(vector.tolist()))
