"""The errors of this package."""

from __future__ import annotations


class ConvertError(ValueError):
    """A checkpoint or an adapter cannot be converted; the text is for the user."""


class UnsupportedType(ConvertError):
    """Values of a type that cannot be converted."""
