"""Why a job cannot be done."""

from __future__ import annotations


class WorkError(Exception):
    """llama.cpp refuses; the text is for the user."""
