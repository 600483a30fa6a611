"""Points in time as Go writes them: RFC 3339, up to nanoseconds, no zeros at the end of the fraction."""

from __future__ import annotations

import math
import time

_FOREVER = (2**63 - 1) / 1e9  # seconds from now; "forever" is shown as Go's longest duration
_UTC = (0, "1970-01-01T00:00:00")  # the last second asked for, and its text: streams ask often within one second


def utc_now() -> str:
    """This moment in UTC."""
    global _UTC
    now = time.time_ns()
    second, nanoseconds = divmod(now, 1_000_000_000)
    known, text = _UTC
    if known != second:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _UTC = (second, text)
    return f"{text}{_fraction(nanoseconds)}Z"


def local(seconds: float) -> str:
    """A Unix time with this machine's offset; inf is far in the future."""
    if math.isinf(seconds):
        seconds = time.time() + _FOREVER
    return written(round(seconds * 1e9))


def written(nanoseconds: int) -> str:
    """A Unix time in nanoseconds, such as a file's, with this machine's offset."""
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
