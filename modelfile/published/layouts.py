"""All layouts, and the one that a file has."""

from __future__ import annotations

from typing import Final

from modelfile.published import (
    bert,
    embedding_gemma,
    gemma3,
    gemma3n,
    gemma4,
    glm4moelite,
    gptoss,
    laguna,
    lfm2,
    llama3,
    llama4,
    mistral3,
    nemotron,
    olmo3,
    qwen3vl,
    qwen25vl,
    qwen35,
)
from modelfile.published.layout import Layout
from modelfile.published.unloadable import Unloadable, is_unloadable
from registry.gguf import GGUFHeader

LAYOUTS: Final = (
    bert.LAYOUT,
    embedding_gemma.LAYOUT,  # before Gemma 3, which it passes for
    gemma3.LAYOUT,
    gemma3n.LAYOUT,
    gemma4.LAYOUT,
    glm4moelite.LAYOUT,
    gptoss.LAYOUT,
    laguna.LAYOUT,
    lfm2.LAYOUT,
    llama3.LAYOUT,
    llama4.LAYOUT,
    mistral3.LAYOUT,
    nemotron.WITH_EXPERTS,
    nemotron.OMNI_WITH_EXPERTS,
    nemotron.OMNI,
    olmo3.LAYOUT,
    qwen3vl.DENSE,
    qwen3vl.WITH_EXPERTS,
    qwen35.NEXT,
    qwen35.DENSE,
    qwen35.WITH_EXPERTS,
    qwen25vl.LAYOUT,
)


def layout_of(header: GGUFHeader) -> Layout | Unloadable | None:
    """The layout of a published file, None for one that llama.cpp loads as it is. May read the vocabulary."""
    found = next((layout for layout in LAYOUTS if layout.marks(header)), None)
    return Unloadable(header.architecture) if found is None and is_unloadable(header) else found
