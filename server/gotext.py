"""How Go writes and reads small values: quoted text, numbers, durations, base64. Pure functions.

Clients compare error texts and file contents with those of a Go server, so these follow its standard library to the
letter where a client can see it.
"""

from __future__ import annotations

import binascii
import math
import re
import struct
from contextlib import suppress

from modelfile.gotemplate.floats import format_float
from modelfile.gotemplate.quoting import quote
from registry import gojson

__all__ = ["decode_base64", "format_number", "json_float32", "parse_duration", "quote", "quote_byte"]

_UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_MAX_INT64 = 2**63 - 1
_NUMBER = re.compile(r"[0-9]*(\.[0-9]*)?")
_UNIT = re.compile(r"[^.0-9]+")


def quote_byte(byte: int) -> str:
    """One byte as the JSON scanner's errors print it: in single quotes, taken as a Latin-1 character."""
    return quote(chr(byte), "'")


def format_number(value: float) -> str:
    """A number as `%v` prints a float64: `42`, `0.9`, `1e+06`, `1e-05`."""
    return format_float(float(value), "g", None)


def json_float32(value: float) -> str:
    """A float32 as the JSON encoder prints it: the fewest digits that give the same float32 again.

    A value that is no float32 keeps all its digits; one that is no number is null, for JSON has none.
    """
    if not math.isfinite(value):
        return "null"
    if _to_float32(value) == value:
        digits = (float(f"{value:.{precision}g}") for precision in range(1, 10))
        value = next((short for short in digits if _to_float32(short) == value), value)
    return gojson.number(float(value))


def _to_float32(value: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.inf


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `1h30m`, `1.5h` or `-2s`. Raises ValueError with Go's own words."""
    nanoseconds = _magnitude(text, text[1:] if text[:1] in ("-", "+") else text)
    if nanoseconds > _MAX_INT64:
        raise ValueError(f"time: invalid duration {_time_quote(text)}")
    return (-nanoseconds if text.startswith("-") else nanoseconds) / 1e9


def _magnitude(original: str, rest: str) -> float:
    if rest == "0":
        return 0
    total = 0.0
    while True:
        number = _NUMBER.match(rest)
        assert number is not None  # both of its parts may be empty
        if number[0] in ("", "."):
            raise ValueError(f"time: invalid duration {_time_quote(original)}")
        unit = _UNIT.match(rest, number.end())
        if unit is None:
            raise ValueError(f"time: missing unit in duration {_time_quote(original)}")
        if unit[0] not in _UNITS:
            raise ValueError(f"time: unknown unit {_time_quote(unit[0])} in duration {_time_quote(original)}")
        total += float(number[0]) * _UNITS[unit[0]]
        rest = rest[unit.end() :]
        if not rest:
            return total


def _time_quote(text: str) -> str:
    """The quoting of package time: bytes outside ASCII are written in hexadecimal."""
    out = []
    for byte in text.encode("utf-8", "surrogatepass"):
        if byte >= 0x80 or byte < 0x20:
            out.append(f"\\x{byte:02x}")
        else:
            out.append("\\" + chr(byte) if chr(byte) in '"\\' else chr(byte))
    return '"' + "".join(out) + '"'


def decode_base64(text: str) -> bytes:
    """The bytes of standard, padded base64; line breaks are skipped. Raises ValueError with Go's own words."""
    data = text.encode("utf-8", "surrogatepass")
    bare = data.translate(None, b"\r\n")
    with suppress(binascii.Error):
        found = binascii.a2b_base64(bare, strict_mode=True)
        if len(bare) == -(-len(found) // 3) * 4:  # strict as it is, it takes any padding behind whole groups
            return found
    raise ValueError(f"illegal base64 data at input byte {_first_bad_byte(data)}")


def _first_bad_byte(data: bytes) -> int:
    """Where Go's decoder stops: the first wrong character, or the start of an unfinished group of four."""
    group: list[int] = []
    for at, byte in enumerate(data):
        if byte in b"\r\n":
            continue
        if byte in _BASE64:
            group = [*group, at] if len(group) < 4 else [at]
            continue
        return at if byte != 0x3D else _bad_padding(data, at, len(group) % 4)
    return len(data) - len(group) % 4


def _bad_padding(data: bytes, at: int, filled: int) -> int:
    """What is wrong at or after the first `=`, which stands at `at` after `filled` characters of its group."""
    if filled < 2:
        return at
    after = at + 1
    if filled == 2:
        after = _skip_breaks(data, after)
        if after == len(data):
            return after
        if data[after] != 0x3D:
            return after - 1
        after += 1
    return _skip_breaks(data, after)


def _skip_breaks(data: bytes, at: int) -> int:
    while at < len(data) and data[at] in b"\r\n":
        at += 1
    return at
