"""float64 in all forms; the expected texts come from Go itself."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfile.gotemplate.fmt_scalars import format_float

finite = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (3.0, "3"),
        (-0.0, "-0"),
        (999999.0, "999999"),
        (1e6, "1e+06"),
        (123456789.0, "1.23456789e+08"),
        (123456.5, "123456.5"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (5e-324, "5e-324"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_shortest(number: float, shown: str) -> None:
    assert format_float(number, "g", None) == shown


@pytest.mark.parametrize(
    ("verb", "precision", "shown"),
    [
        ("f", 2, "1234.57"),
        ("e", 3, "1.235e+03"),
        ("g", 3, "1.23e+03"),
        ("G", None, "1234.5678"),
        ("x", None, "0x1.34a456d5cfaadp+10"),
        ("x", 2, "0x1.35p+10"),
        ("X", 0, "0X1P+10"),
        ("b", None, "5429686605511341p-42"),
    ],
)
def test_verbs(verb: str, precision: int | None, shown: str) -> None:
    assert format_float(1234.5678, verb, precision) == shown


@given(finite)
def test_no_digit_is_lost(number: float) -> None:
    assert float(format_float(number, "g", None)) == number
    assert float.fromhex(format_float(number, "x", None)) == number
    mantissa, exponent = format_float(number, "b", None).split("p")
    assert math.ldexp(int(mantissa), int(exponent)) == number
