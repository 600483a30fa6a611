"""Number literals, their types, and what is refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfile.gotemplate.pipelines import parse_complex, parse_number
from modelfile.gotemplate.values import COMPLEX128, FLOAT64, INT, GoType, Value


@pytest.mark.parametrize(
    ("text", "type_", "data"),
    [
        ("0x1F", INT, 31),
        ("017", INT, 15),
        ("0b101", INT, 5),
        ("1_000", INT, 1000),
        ("-9223372036854775808", INT, -(2**63)),
        ("1e3", FLOAT64, 1000.0),
        (".5", FLOAT64, 0.5),
        ("0x1p4", FLOAT64, 16.0),
        ("-0x1e", FLOAT64, -30.0),
        ("0x1e3", INT, 0x1E3),
        ("2i", COMPLEX128, 2j),
    ],
)
def test_constants(text: str, type_: GoType, data: complex) -> None:
    assert parse_number(text) == Value(type_, data)


@given(st.integers(-(2**63), 2**63 - 1))
def test_integers(number: int) -> None:
    assert parse_number(str(number)) == Value(INT, number)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats(number: float) -> None:
    assert parse_number(f"{number:e}") == Value(FLOAT64, float(f"{number:e}"))


def test_what_fits_an_unsigned_integer_only() -> None:
    assert parse_number("18446744073709551615") is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1__0", "illegal number syntax"),
        ("089", "integer overflow"),
        ("18446744073709551616", "integer overflow"),
        ("+9223372036854775808", "integer overflow"),
        ("1e400", "illegal number syntax"),
        ("0x", "illegal number syntax"),
        ("1" * 5000, "illegal number syntax"),
        (".", "illegal number syntax"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f'^{why}: "{re.escape(text)}"$'):
        parse_number(text)


def test_complex_numbers() -> None:
    assert parse_complex("1.5-2i") == Value(COMPLEX128, 1.5 - 2j)
    with pytest.raises(ValueError, match="complex"):
        parse_complex("1+1e999i")
