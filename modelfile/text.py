"""Text as Ollama's answers and prompts show it: trimming, quoting and numbers, as Go's standard library does them."""

from __future__ import annotations

import math
import struct

SPACES = (
    " \t\n\v\f\r\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029"
    "\u202f\u205f\u3000"
)
"""What `strings.TrimSpace` trims, for `str.strip`; without an argument that also takes some control characters."""

ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
"""The letter behind a backslash, and its character."""
_ESCAPED = {char: f"\\{letter}" for letter, char in ESCAPES.items()}


def cut(text: str, most: int = 200) -> str:
    """The text for an error or a log line: its first `most` characters, and an ellipsis if there were more."""
    return text if len(text) <= most else f"{text[:most]}…"


def quote(text: str, mark: str = '"', *, ascii_only: bool = False) -> str:
    """The text as a quoted Go literal: printable characters verbatim (ASCII only, if asked for)."""
    return mark + "".join(_escape(char, mark, ascii_only) for char in text) + mark


def _escape(char: str, mark: str, ascii_only: bool) -> str:
    if char == mark:
        return "\\" + mark
    if char in _ESCAPED:
        return _ESCAPED[char]
    if char.isprintable() and (char.isascii() or not ascii_only):
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shortest_float(number: float) -> str:
    """The fewest digits that give the number again, with an exponent below 1e-4 and from 1e6 on (Go's `%g`)."""
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else ("+Inf" if number > 0 else "-Inf")
    if number == 0 or 1e-4 <= abs(number) < 1e6:
        return repr(number).removesuffix(".0")
    return ("-" if number < 0 else "") + _scientific(*_digits(number))


def _digits(number: float) -> tuple[str, int]:
    """The significant digits, and the position of the decimal point among them."""
    mantissa, _, exponent = repr(abs(number)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    leading = len(whole + fraction) - len(digits)
    return digits.rstrip("0"), len(whole) - leading + int(exponent or 0)


def _scientific(digits: str, point: int) -> str:
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{point - 1:+03d}"


def to_float32(number: float) -> float:
    """The nearest float32; infinity beyond the largest."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", number))[0])
    except OverflowError:
        return math.inf


def shortest_float32(number: float) -> float:
    """Of the numbers that round to the float32 `number`, the one with the fewest decimal digits."""
    digits = (float(f"{number:.{precision}g}") for precision in range(1, 10))
    return next((short for short in digits if to_float32(short) == number), number)
