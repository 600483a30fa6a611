"""Durations in Go's syntax: `1h30m`, `1.5h`, `-2s`."""

from __future__ import annotations

import re

from modelfile.text import cut

_UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_MAX_INT64 = 2**63 - 1
_NUMBER = re.compile(r"[0-9]*(\.[0-9]*)?")
_UNIT = re.compile(r"[^.0-9]+")


def parse_duration(text: str) -> float:
    """Parse `1h30m`, `1.5h` or `-2s` to seconds. Raises ValueError with Go's error text."""
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
    """Quote as Go's package time does: control and non-ASCII bytes as `\\xNN`."""
    out = []
    for byte in cut(text).encode("utf-8", "surrogatepass"):
        if byte >= 0x80 or byte < 0x20:
            out.append(f"\\x{byte:02x}")
        else:
            out.append("\\" + chr(byte) if chr(byte) in '"\\' else chr(byte))
    return '"' + "".join(out) + '"'
