"""float64 as Go writes it: `%v` and the other verbs of `printf`."""

from __future__ import annotations

import math


def format_float(number: float, verb: str, precision: int | None) -> str:
    """The digits and sign of a number under one of `beEfgGxX`; None is the fewest digits that give it again.

    `+Inf`, `-Inf` and `NaN` are what they are under any verb.
    """
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else ("+Inf" if number > 0 else "-Inf")
    match verb:
        case "b":
            return _binary(number)
        case "x" | "X":
            text = _hexadecimal(number, precision)
            return text.upper() if verb == "X" else text
        case "g" | "G" if precision is None:
            text = _shortest(number)
            return text.upper() if verb == "G" else text
    return f"{number:.{6 if precision is None else precision}{verb}}"


def _shortest(number: float) -> str:
    if number == 0 or 1e-4 <= abs(number) < 1e6:
        return repr(number).removesuffix(".0")
    return ("-" if number < 0 else "") + _scientific(*_digits(number))


def _digits(number: float) -> tuple[str, int]:
    """The significant digits, and where the decimal point stands among them."""
    mantissa, _, exponent = repr(abs(number)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    leading = len(whole + fraction) - len(digits)
    return digits.rstrip("0"), len(whole) - leading + int(exponent or 0)


def _scientific(digits: str, point: int) -> str:
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{point - 1:+03d}"


def _binary(number: float) -> str:
    """An integer times a power of two."""
    exponent = max(math.frexp(number)[1] - 53, -1074) if number else -1074
    return f"{'-' if math.copysign(1, number) < 0 else ''}{int(abs(math.ldexp(number, -exponent)))}p{exponent:+d}"


def _hexadecimal(number: float, precision: int | None) -> str:
    """Hexadecimal digits, the first of which is 1, times a power of two."""
    fraction, exponent = math.frexp(abs(number))
    bits = int(math.ldexp(fraction, 53))  # 1 digit before the point, 13 behind it
    places = 13
    if precision is not None and precision < places:
        places = precision
        bits = _rounded(bits, 4 * (13 - places))
    if bits >> (4 * places) > 1:
        bits, exponent = bits >> 1, exponent + 1
    digits = f"{bits:0{places + 1}x}"
    tail = digits[1:].rstrip("0") if precision is None else digits[1:].ljust(precision, "0")
    sign = "-" if math.copysign(1, number) < 0 else ""
    return f"{sign}0x{digits[0]}{'.' if tail else ''}{tail}p{exponent - 1 if number else 0:+03d}"


def _rounded(bits: int, dropped: int) -> int:
    """`bits` without its last binary places, rounded half to even."""
    kept, rest = bits >> dropped, bits & ((1 << dropped) - 1)
    half = 1 << dropped >> 1
    return kept + (rest > half or (rest == half and kept & 1 == 1 and dropped > 0))
