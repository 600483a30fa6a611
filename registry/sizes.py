"""Sizes in bytes as text. Pure."""

from __future__ import annotations

from collections.abc import Sequence

_DECIMAL = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB"))
_BINARY = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"))


def decimal_size(count: int) -> str:
    """`4.7 GB`, `13.0 MB`, `512 B`."""
    value, unit = _scaled(count, _DECIMAL, "B")
    return f"{value:.1f} {unit}" if isinstance(value, float) else f"{value} {unit}"


def short_size(count: int) -> str:
    """As Ollama's command prints it: `4.7 GB`, `13 MB`, `512 B`."""
    value, unit = _scaled(count, _DECIMAL, "B")
    return f"{value:.1f} {unit}" if value < 10 and value != int(value) else f"{int(value)} {unit}"


def binary_size(count: int) -> str:
    """`4.4 GiB`, `512 bytes`; the smallest unit is MiB."""
    value, unit = _scaled(count, _BINARY, "bytes")
    return f"{value:.1f} {unit}" if isinstance(value, float) else f"{value} {unit}"


def _scaled(count: int, units: Sequence[tuple[int, str]], smallest: str) -> tuple[float, str]:
    """The count in the largest unit that it reaches, as a float; below all units the count itself."""
    return next(((count / unit, name) for unit, name in units if count >= unit), (count, smallest))
