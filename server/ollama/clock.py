"""Times in Go's RFC 3339 format: up to nanoseconds, without trailing zeros."""

from __future__ import annotations

import math
import time

_FOREVER = (2**63 - 1) / 1e9  # seconds: Go's longest duration
_UTC = (0, "1970-01-01T00:00:00")  # cache: the last second, and its text


def utc_now() -> str:
    """The current time in UTC."""
    global _UTC
    now = time.time_ns()
    second, nanoseconds = divmod(now, 1_000_000_000)
    known, text = _UTC
    if known != second:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _UTC = (second, text)
    return f"{text}{_fraction(nanoseconds)}Z"


def local(seconds: float) -> str:
    """A Unix time in seconds, with the local offset. inf means Go's longest duration from now."""
    if math.isinf(seconds):
        seconds = time.time() + _FOREVER
    return written(round(seconds * 1e9))


def written(nanoseconds: int) -> str:
    """A Unix time in nanoseconds, with the local offset."""
    second, nanoseconds = divmod(nanoseconds, 1_000_000_000)
    moment = time.localtime(second)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}{_fraction(nanoseconds)}{_offset(moment.tm_gmtoff)}"


def _fraction(nanoseconds: int) -> str:
    return f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""


def _offset(seconds: int) -> str:
    if not seconds:
        return "Z"
    hours, minutes = divmod(abs(seconds) // 60, 60)
    return f"{'-' if seconds < 0 else '+'}{hours:02d}:{minutes:02d}"
