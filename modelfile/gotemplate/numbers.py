"""Number literals, with Go's rules for what an untyped constant becomes."""

from __future__ import annotations

import re

from modelfile.gotemplate.quoting import quote
from modelfile.gotemplate.values import COMPLEX128, FLOAT64, INT, Value

_INTEGER = re.compile(
    r"(?P<sign>[+-]?)(?:0[xX](?P<hex>(?:_?[0-9a-fA-F])+)|0[bB](?P<binary>(?:_?[01])+)"
    r"|0[oO]?(?P<octal>(?:_?[0-7])+)|(?P<decimal>0|[1-9](?:_?[0-9])*))"
)
_BASES = {"hex": 16, "binary": 2, "octal": 8, "decimal": 10}
_DECIMAL = re.compile(
    r"[+-]?(?:[0-9](?:_?[0-9])*\.?(?:[0-9](?:_?[0-9])*)?|\.[0-9](?:_?[0-9])*)(?:[eE][+-]?[0-9](?:_?[0-9])*)?"
)
_HEXADECIMAL = re.compile(
    r"[+-]?0[xX](?:(?:_?[0-9a-fA-F])+\.?(?:[0-9a-fA-F](?:_?[0-9a-fA-F])*)?|\.[0-9a-fA-F](?:_?[0-9a-fA-F])*)"
    r"[pP][+-]?[0-9](?:_?[0-9])*"
)
_LONGEST = 1000  # characters; Python refuses to convert integers of more than some thousands
_INT64 = range(-(2**63), 2**63)
_UINT64 = range(2**64)


def parse_number(text: str) -> Value | None:
    """The constant of a number; None if it is an integer that fits an uint64 only. Raises ValueError, in Go's words."""
    if text.endswith("i") and (imaginary := _parse_float(text[:-1])) is not None:
        return Value(COMPLEX128, complex(0, imaginary))
    integer = _parse_integer(text)
    if integer is not None and integer in _INT64:
        # Of `-0x1e` Go takes the `e` for an exponent, which decides about the type, but not about the value.
        return Value(FLOAT64, float(integer)) if _looks_real(text) else Value(INT, integer)
    if integer is not None and integer in _UINT64 and text[0] != "+":
        return None
    real = _parse_float(text)
    if real is None:
        raise ValueError(f"illegal number syntax: {quote(text)}")
    if not _looks_real(text):
        raise ValueError(f"integer overflow: {quote(text)}")
    return Value(FLOAT64, real)


def parse_complex(text: str) -> Value:
    """The constant of `1+2i`. Raises ValueError."""
    split = max(text.rfind("+"), text.rfind("-"))
    real, imaginary = _parse_float(text[:split]), _parse_float(text[split:-1])
    if real is None or imaginary is None:
        raise ValueError("syntax error scanning complex number")
    return Value(COMPLEX128, complex(real, imaginary))


def _looks_real(text: str) -> bool:
    """Go decides between int and float64 by the characters alone."""
    if text[:2].lower() == "0x" and len(text) > 2 and "p" not in text.lower():
        return False
    return any(char in text for char in ".eEpP")


def _parse_integer(text: str) -> int | None:
    found = _INTEGER.fullmatch(text[:_LONGEST])
    if found is None or len(text) > _LONGEST:
        return None
    base = found.lastgroup
    assert base is not None  # exactly one of the alternatives matched
    size = int(found[base].replace("_", ""), _BASES[base])
    return -size if found["sign"] == "-" else size


def _parse_float(text: str) -> float | None:
    """The float64 of a literal, None if it is none or too large."""
    if len(text) > _LONGEST:
        return None
    try:
        if _DECIMAL.fullmatch(text):
            number = float(text)
        elif _HEXADECIMAL.fullmatch(text):
            number = float.fromhex(text.replace("_", ""))
        else:
            return None
    except OverflowError:
        return None
    return None if number in (float("inf"), float("-inf")) else number
