"""JSON of float32 numbers and vectors, as `msgspec.Raw` for long ones."""

from __future__ import annotations

import math
from array import array

import msgspec

from modelfile.text import shortest_float32, to_float32
from registry import blob_json


def as_float32(vector: array[float]) -> msgspec.Raw:
    """A list of numbers with nine significant digits, enough to tell any two float32 apart."""
    return msgspec.Raw(b"[" + b",".join([b"%.9g" % number for number in vector]) + b"]")


def as_float64(vector: array[float]) -> msgspec.Raw:
    """A list of the vector's numbers as float64, every digit."""
    return msgspec.Raw(msgspec.json.encode(vector.tolist()))


def json_float32(value: float) -> str:
    """JSON of a number, a float32 with the fewest digits that read as the same float32; infinity and NaN are `null`."""
    if not math.isfinite(value):
        return "null"
    if to_float32(value) == value:
        value = shortest_float32(value)
    return blob_json.number(float(value))
