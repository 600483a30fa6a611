"""Text in columns, as Ollama's command lays them out; scripts cut them by blanks. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

_GAP = 4  # blanks after each column

Row = Sequence[str]


def table(head: Row, rows: Sequence[Row]) -> str:
    """A table with a head, a line for each row."""
    widths = _widths([head, *rows])
    # The head's last column ends closer, as it does there.
    last = f"{_pad(head[-1], widths[-1])} "
    return _line(head[:-1], widths) + last + "\n" + "".join(f"{_line(row, widths)}\n" for row in rows)


def section(title: str, rows: Sequence[Row]) -> str:
    """A title with indented rows below and an empty line after; rows may be of different lengths."""
    widths = _widths(rows)
    return f"  {title}\n" + "".join(f"    {_line(row, widths)}\n" for row in rows) + "\n"


def _widths(rows: Sequence[Row]) -> list[int]:
    count = max(map(len, rows), default=0)
    return [max(cell_len(row[at]) for row in rows if at < len(row)) for at in range(count)]


def _line(row: Row, widths: Sequence[int]) -> str:
    return "".join(_pad(cell, width) + " " * _GAP for cell, width in zip(row, widths, strict=False))


def _pad(cell: str, width: int) -> str:
    return cell + " " * (width - cell_len(cell))
