"""How a command fails."""

from __future__ import annotations


class CommandError(Exception):
    """Why a command failed; `str()` is what the user reads after `Error: `. The exit code is 1."""
