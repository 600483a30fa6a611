"""All layouts, and the one that a file has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelfile.published import gemma, llama, nemotron, others, qwen
from modelfile.published.layout import OllamaLayout
from registry.gguf import GGUFHeader

# Layouts that are known only so far as that llama.cpp cannot load them.

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


LAYOUTS: Final = (
    others.BERT,
    gemma.EMBEDDING_GEMMA,  # before Gemma 3, which it passes for
    gemma.GEMMA3,
    gemma.GEMMA3N,
    gemma.GEMMA4,
    others.GLM4_MOE_LITE,
    others.GPT_OSS,
    others.LAGUNA,
    others.LFM2,
    llama.LLAMA3,
    llama.LLAMA4,
    llama.MISTRAL3,
    nemotron.WITH_EXPERTS,
    nemotron.OMNI_WITH_EXPERTS,
    nemotron.OMNI,
    others.OLMO3,
    qwen.QWEN3VL,
    qwen.QWEN3VL_MOE,
    qwen.QWEN3_NEXT,
    qwen.QWEN35,
    qwen.QWEN35_MOE,
    qwen.QWEN25VL,
)


def layout_of(header: GGUFHeader) -> OllamaLayout | Unloadable | None:
    """The layout of a published file, None for one that llama.cpp loads as it is. May read the vocabulary."""
    found = next((layout for layout in LAYOUTS if layout.matches(header)), None)
    return Unloadable(header.architecture) if found is None and is_unloadable(header) else found
