"""Errors of conversions.

ConvertError            the files cannot be converted
└── UnsupportedType     they are valid, but hold values of an unsupported type
"""

from __future__ import annotations


class ConvertError(ValueError):
    """A checkpoint or adapter cannot be converted; the text is for the user."""


class UnsupportedType(ConvertError):
    """Values of an unsupported type."""
