"""Layouts that are known only so far as that llama.cpp cannot load them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from registry.gguf import GGUFHeader

_NAMES: Final = frozenset(("deepseekocr", "glmocr"))
"""Architectures that llama.cpp has under other names, with other tensors."""


@dataclass(frozen=True, slots=True)
class Unloadable:
    """A file that llama.cpp cannot load, and of which it is not known what would have to change."""

    architecture: str

    @property
    def reason(self) -> str:
        """What a user is told."""
        return (
            f"failed to load model: the architecture '{self.architecture}' "
            "in the layout of Ollama's own engine is not supported yet"
        )


def is_unloadable(header: GGUFHeader) -> bool:
    """Whether llama.cpp is known to fail at this file."""
    return header.architecture in _NAMES
