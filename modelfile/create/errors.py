"""Why a model cannot be made."""

from __future__ import annotations


class CreateError(ValueError):
    """What was asked for cannot be made; the text is for the user."""
