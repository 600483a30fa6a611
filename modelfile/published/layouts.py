"""The table of all layouts, and the look-up for a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelfile.published import gemma, llama, others, qwen
from modelfile.published.layout import OllamaLayout
from registry.gguf import GGUFHeader

_NAMES: Final = frozenset(("deepseekocr", "glmocr"))
"""Architectures that llama.cpp has under other names with other tensors; no rewrite is known."""


@dataclass(frozen=True, slots=True)
class Unloadable:
    """A file that llama.cpp cannot load and that has no known rewrite."""

    architecture: str

    @property
    def reason(self) -> str:
        """The error for the user."""
        return (
            f"failed to load model: the architecture '{self.architecture}' "
            "in the layout of Ollama's own engine is not supported yet"
        )


def is_unloadable(header: GGUFHeader) -> bool:
    """Whether llama.cpp is known to refuse this file."""
    return header.architecture in _NAMES


LAYOUTS: Final = (
    others.BERT,
    gemma.EMBEDDING_GEMMA,  # before Gemma 3, which it also matches
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
    others.NEMOTRON_MOE,
    others.NEMOTRON_OMNI_MOE,
    others.NEMOTRON_OMNI,
    others.OLMO3,
    qwen.QWEN3VL,
    qwen.QWEN3VL_MOE,
    qwen.QWEN3_NEXT,
    qwen.QWEN35,
    qwen.QWEN35_MOE,
    qwen.QWEN25VL,
)


def layout_of(header: GGUFHeader) -> OllamaLayout | Unloadable | None:
    """The layout of a published file; None if llama.cpp can load it unchanged. May read the vocabulary."""
    layout = next((layout for layout in LAYOUTS if layout.matches(header)), None)
    return Unloadable(header.architecture) if layout is None and is_unloadable(header) else layout
