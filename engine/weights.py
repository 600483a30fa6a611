"""The file that llama.cpp is given for a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from registry.gguf import GGUFHeader
from registry.gguf.raw import Scalar


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's file: the stored one, or one that was made of it; `overrides` count in place of its metadata."""

    path: Path
    header: GGUFHeader
    overrides: Mapping[str, Scalar] = field(default_factory=dict)

    def stamp(self) -> tuple[int, int, int]:
        """What changes when the file is replaced by another; zeros where there is none."""
        try:
            found = self.path.stat()
        except OSError:
            return 0, 0, 0
        return found.st_ino, found.st_size, found.st_mtime_ns
