"""Metadata of a GGUF as Python values; the type of a value says how it is stored."""

from __future__ import annotations

Value = str | bool | int | float | list[str] | list[int] | list[float]
Metadata = dict[str, Value]
"""Integers are stored in 32 bits, unsigned alone and signed in lists; floats in 32 bits."""
