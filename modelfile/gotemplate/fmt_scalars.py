"""Formats basic values under verbs of `printf`. Functions return None for a verb that does not fit the type."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from modelfile.gotemplate.strings import backquoted, to_bytes
from modelfile.gotemplate.values import BOOL, COMPLEX128, FLOAT64, INT, STRING, UINT8, GoType
from modelfile.text import quote, shortest_float


def format_float(number: float, verb: str, precision: int | None) -> str:
    """A number under one of the verbs `beEfgGxX`; `precision` None is the fewest digits that give it again.

    Infinities and NaN are `+Inf`, `-Inf` and `NaN` under any verb.
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
            text = shortest_float(number)
            return text.upper() if verb == "G" else text
    return f"{number:.{6 if precision is None else precision}{verb}}"


def _binary(number: float) -> str:
    """An integer times a power of two."""
    exponent = max(math.frexp(number)[1] - 53, -1074) if number else -1074
    return f"{'-' if math.copysign(1, number) < 0 else ''}{int(abs(math.ldexp(number, -exponent)))}p{exponent:+d}"


def _hexadecimal(number: float, precision: int | None) -> str:
    """A normalized hexadecimal mantissa times a power of two."""
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
    """`bits` without its last `dropped` binary digits, rounded half to even."""
    kept, rest = bits >> dropped, bits & ((1 << dropped) - 1)
    half = 1 << dropped >> 1
    return kept + (rest > half or (rest == half and kept & 1 == 1 and dropped > 0))


@dataclass(slots=True)
class Directive:
    """One formatting directive: verb, flags, width and precision."""

    verb: str = "v"
    plus: bool = False
    minus: bool = False
    sharp: bool = False
    space: bool = False
    zero: bool = False
    width: int | None = None
    precision: int | None = None
    names: bool = False
    """`%+v`: structs with field names."""
    syntax: bool = False
    """`%#v`: as Go source."""

    def padded(self, text: str, *, zero: bool = True) -> str:
        """Pad to the width, with zeros on the left only if `zero` allows it."""
        width = self.width or 0
        if self.minus:
            return text.ljust(width)
        return text.rjust(width, "0" if zero and self.zero else " ")

    def cut(self, text: str) -> str:
        """Truncate to the precision."""
        return text if self.precision is None else text[: self.precision]

    def sign(self, *, negative: bool) -> str:
        """The sign of a number."""
        return "-" if negative else "+" if self.plus else " " if self.space else ""


_BASES = {"d": "d", "v": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}
_PREFIXES = {"b": "0b", "x": "0x", "X": "0X"}
_FLOATS: dict[str, tuple[str, int | None]] = {
    "v": ("g", None),
    **{verb: (verb, None) for verb in "gGbxX"},
    **{verb: (verb, 6) for verb in "feE"},
    "F": ("f", 6),
}
"""By verb, the float format and its default precision."""
_LARGEST_RUNE = 0x10FFFF


def format_bool(truth: bool, verb: str, directive: Directive) -> str | None:
    """A bool."""
    return directive.padded("true" if truth else "false") if verb in "tv" else None


def format_string(text: str, verb: str, directive: Directive) -> str | None:
    """A string, or the result of a `String` method."""
    if verb in "xX":
        return directive.padded(_hex_bytes(to_bytes(text), verb, directive))
    if verb == "q" or (verb == "v" and directive.syntax):
        text = directive.cut(text)
        raw = backquoted(text) if directive.sharp else None
        return directive.padded(raw or quote(text, ascii_only=directive.plus))
    return directive.padded(directive.cut(text)) if verb in "vs" else None


def _hex_bytes(data: bytes, verb: str, directive: Directive) -> str:
    data = data if directive.precision is None else data[: directive.precision]
    prefix = f"0{verb}" if directive.sharp and data else ""
    digits = data.hex(" ") if directive.space else data.hex()
    digits = digits.upper() if verb == "X" else digits
    return prefix + (digits.replace(" ", f" {prefix}") if directive.space else digits)


def format_integer(number: int, verb: str, directive: Directive) -> str | None:
    """An int."""
    if verb == "c":
        return directive.padded(_rune(number))
    if verb == "q":
        return directive.padded(quote(_rune(number), "'", ascii_only=directive.plus))
    if verb == "U":
        return directive.padded(_unicode(number, directive), zero=False)
    return directive.padded(_digits(number, verb, directive), zero=False) if verb in _BASES else None


def format_byte(number: int, verb: str, directive: Directive) -> str | None:
    """A uint8, which `%#v` prints in hexadecimal."""
    if verb == "v" and directive.syntax:
        return directive.padded(f"{number:#x}")
    return format_integer(number, verb, directive)


def _rune(code: int) -> str:
    valid = 0 <= code <= _LARGEST_RUNE and not 0xD800 <= code <= 0xDFFF
    return chr(code) if valid else "\ufffd"


def _unicode(number: int, directive: Directive) -> str:
    code = number % (1 << 64)
    digits = f"{code:X}".rjust(max(4, directive.precision or 0), "0")
    shows = directive.sharp and code <= _LARGEST_RUNE and chr(code).isprintable()
    return f"U+{digits} '{chr(code)}'" if shows else f"U+{digits}"


def _digits(number: int, verb: str, directive: Directive) -> str:
    if directive.precision == 0 and number == 0:
        return ""
    sign = directive.sign(negative=number < 0)
    digits = f"{abs(number):{_BASES[verb]}}"
    if directive.precision is not None:
        digits = digits.rjust(directive.precision, "0")
    elif directive.zero and not directive.minus:
        digits = digits.rjust((directive.width or 0) - len(sign), "0")
    if directive.sharp and verb in "oO" and not digits.startswith("0"):
        digits = "0" + digits
    prefix = "0o" if verb == "O" else _PREFIXES.get(verb, "") if directive.sharp else ""
    return sign + prefix + digits


def format_number(number: float, verb: str, directive: Directive) -> str | None:
    """A float64."""
    if verb not in _FLOATS:
        return None
    form, usual = _FLOATS[verb]
    precision = usual if directive.precision is None else directive.precision
    digits = format_float(number, form, precision).lstrip("+-")
    sign = directive.sign(negative=math.copysign(1, number) < 0)
    if math.isnan(number):
        return directive.padded(directive.sign(negative=False) + digits, zero=False)
    if math.isinf(number):
        return directive.padded((sign or "+") + digits, zero=False)
    if directive.sharp and form != "b":
        digits = _with_point(digits, form, precision)
    if directive.zero and not directive.minus:
        digits = digits.rjust((directive.width or 0) - len(sign), "0")
    return directive.padded(sign + digits)


def _with_point(digits: str, form: str, precision: int | None) -> str:
    """Apply the `#` flag: always a decimal point, and under %g trailing zeros."""
    exponent_mark = "pP" if form in "xX" else "eE"
    end = next((at for at, char in enumerate(digits) if char in exponent_mark), len(digits))
    number, exponent = digits[:end], digits[end:]
    missing = (6 if precision is None else precision) if form in "gGx" else 0
    missing -= len(number.lstrip("0.").replace(".", "")) or int(number == "0")
    return number + ("" if "." in number else ".") + "0" * missing + exponent


def format_complex(number: complex, verb: str, directive: Directive) -> str | None:
    """A complex128: both parts under the directive, the second one always signed."""
    real = format_number(number.real, verb, directive)
    imaginary = format_number(number.imag, verb, replace(directive, plus=True))
    return None if real is None else f"({real}{imaginary}i)"


FORMATS: dict[GoType, Callable[[Any, str, Directive], str | None]] = {
    BOOL: format_bool,
    INT: format_integer,
    UINT8: format_byte,
    FLOAT64: format_number,
    COMPLEX128: format_complex,
    STRING: format_string,
}
