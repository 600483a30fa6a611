"""What most families put around reasoning."""

from __future__ import annotations

THINK, END_THINK = "<think>", "</think>"
