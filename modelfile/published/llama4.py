"""Llama 4, with its vision model in the same file. Only the language model is made of it so far."""

from __future__ import annotations

from modelfile.published.layout import Layout, Rewrite
from modelfile.published.reading import VISION, has_tensor
from registry.gguf import GGUFHeader


def _marks(header: GGUFHeader) -> bool:
    return header.architecture == "llama4" and has_tensor(header, VISION)


LAYOUT = Layout(name="llama4", version=1, marks=_marks, text=Rewrite(architecture="llama4", without_tensors=VISION))
