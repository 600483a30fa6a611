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
