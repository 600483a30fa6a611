"""Times, durations and tables, formatted for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cli.text import one_line

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_WEEK = 7 * _DAY
_MONTH = 30 * _DAY
_YEAR = 365 * _DAY
_FOREVER = 20 * _YEAR
# (upper bound in seconds, text with `{}` for the number of units, seconds in one unit)
_SPANS = (
    (1, "Less than a second", 1),
    (2, "1 second", 1),
    (_MINUTE, "{} seconds", 1),
    (2 * _MINUTE, "About a minute", _MINUTE),
    (_HOUR, "{} minutes", _MINUTE),
    (2 * _HOUR, "About an hour", _HOUR),
    (2 * _DAY, "{} hours", _HOUR),
    (2 * _WEEK, "{} days", _DAY),
    (2 * _MONTH, "{} weeks", _WEEK),
    (2 * _YEAR, "{} months", _MONTH),
)


def span(seconds: float) -> str:
    """A length of time in words: `About a minute`, `3 weeks`."""
    for below, words, unit in _SPANS:
        if seconds < below:
            return words.format(int(seconds // unit))
    return f"{int(seconds // _YEAR)} years"


def moment(when: datetime, now: datetime) -> str:
    """A point in time relative to now: `3 hours ago`, `4 minutes from now`, `Forever`."""
    seconds = (when - now).total_seconds()
    if seconds > _FOREVER:
        return "Forever"
    return f"{span(seconds)} from now" if seconds > 0 else f"{span(-seconds)} ago"


def duration(nanoseconds: int) -> str:
    """A duration as Go prints it: `1.234567ms`, `2.5s`, `1m0.5s`."""
    for unit, name in ((1, "ns"), (10**3, "µs"), (10**6, "ms")):
        if nanoseconds < unit * 1000:
            return f"{_decimal(nanoseconds, unit)}{name}" if nanoseconds else "0s"
    minutes, rest = divmod(nanoseconds, _MINUTE * 10**9)
    hours, minutes = divmod(minutes, 60)
    prefix = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{prefix}{_decimal(rest, 10**9)}s"


def _decimal(value: int, unit: int) -> str:
    """`value / unit`, exact, without trailing zeros."""
    whole, rest = divmod(value, unit)
    digits = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


def rate(count: int, nanoseconds: int) -> str:
    """Tokens per second."""
    return f"{count * 1e9 / nanoseconds if nanoseconds else 0:.2f} tokens/s"


def cell_len(text: str) -> int:
    """The cells of a terminal that a text takes."""
    if text.isascii():  # which spares an import
        return len(text)
    from rich.cells import cell_len as measure

    return measure(text)


_COLUMN_GAP = 4  # blanks after each column; the layout is that of Ollama's command, which scripts parse

Row = Sequence[str]


def table(head: Row, rows: Sequence[Row]) -> str:
    """A table: the head, then one line per row."""
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = _widths([head, *rows])
    # Only the head's last column ends with a single blank.
    last = f"{_pad(head[-1], widths[-1])} "
    return _line(head[:-1], widths) + last + "\n" + "".join(f"{_line(row, widths)}\n" for row in rows)


def section(title: str, rows: Sequence[Row]) -> str:
    """A title, indented rows and an empty line; rows may differ in length."""
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = _widths(rows)
    return f"  {title}\n" + "".join(f"    {_line(row, widths)}\n" for row in rows) + "\n"


def _widths(rows: Sequence[Row]) -> list[int]:
    count = max(map(len, rows), default=0)
    return [max(cell_len(row[at]) for row in rows if at < len(row)) for at in range(count)]


def _line(row: Row, widths: Sequence[int]) -> str:
    return "".join(_pad(cell, width) + " " * _COLUMN_GAP for cell, width in zip(row, widths, strict=False))


def _pad(cell: str, width: int) -> str:
    return cell + " " * (width - cell_len(cell))
