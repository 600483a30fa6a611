"""Floats as JSON. Vectors are long, so they are written without the general encoder."""

from __future__ import annotations

import math
import struct
from array import array

import msgspec

from registry import blob_json


def as_float32(vector: array[float]) -> msgspec.Raw:
    """A list whose numbers have the nine digits that tell one float32 from all others."""
    return msgspec.Raw(b"[" + b",".join([b"%.9g" % number for number in vector]) + b"]")


def as_float64(vector: array[float]) -> msgspec.Raw:
    """A list whose numbers are those of the vector exactly."""
    return msgspec.Raw(msgspec.json.encode(vector.tolist()))


def json_float32(value: float) -> str:
    """A float32 as the JSON encoder prints it: the fewest digits that give the same float32 again.

    A value that is no float32 keeps all its digits; one that is no number is null, for JSON has none.
    """
    if not math.isfinite(value):
        return "null"
    if _to_float32(value) == value:
        digits = (float(f"{value:.{precision}g}") for precision in range(1, 10))
        value = next((short for short in digits if _to_float32(short) == value), value)
    return blob_json.number(float(value))


def _to_float32(value: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.inf
