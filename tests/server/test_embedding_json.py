"""Numbers of vectors keep every bit on their way through JSON."""

from __future__ import annotations

from array import array

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from server.embedding_json import as_float32, as_float64

VECTOR = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)).map(lambda numbers: array("f", numbers))


@given(VECTOR)
def test_float32(vector: array[float]) -> None:
    assert array("f", msgspec.json.decode(as_float32(vector))) == vector


@given(VECTOR)
def test_float64(vector: array[float]) -> None:
    assert msgspec.json.decode(as_float64(vector)) == vector.tolist()


def test_numbers_are_no_longer_than_they_must_be() -> None:
    assert bytes(as_float32(array("f", [0.5, -1, 0.1]))) == b"[0.5,-1,0.100000001]"
