"""Numbers of vectors keep every bit on their way through JSON."""

from __future__ import annotations

import math
import struct
from array import array

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.embedding_json import as_float32, as_float64, json_float32

VECTOR = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)).map(lambda numbers: array("f", numbers))


@given(VECTOR)
def test_float32(vector: array[float]) -> None:
    assert array("f", msgspec.json.decode(as_float32(vector))) == vector


@given(VECTOR)
def test_float64(vector: array[float]) -> None:
    assert msgspec.json.decode(as_float64(vector)) == vector.tolist()


def test_numbers_are_no_longer_than_they_must_be() -> None:
    assert bytes(as_float32(array("f", [0.5, -1, 0.1]))) == b"[0.5,-1,0.100000001]"


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_json_float32_gives_the_same_float32(value: float) -> None:
    shown = json_float32(value)
    assert struct.pack("<f", float(shown)) == struct.pack("<f", value)
    assert len(shown.lstrip("-").replace(".", "").strip("0").split("e")[0]) <= 9


@pytest.mark.parametrize(
    ("value", "shown"), [(1e300, "1e+300"), (0.1, "0.1"), (1 / 3, "0.3333333333333333"), (math.inf, "null")]
)
def test_json_float32_of_what_is_none(value: float, shown: str) -> None:
    assert json_float32(value) == shown


def test_json_float32_is_short() -> None:
    (stored,) = struct.unpack("<f", struct.pack("<f", 1e-6))
    assert json_float32(stored) == "0.000001"
