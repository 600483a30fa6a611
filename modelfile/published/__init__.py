"""Repacks models published for Ollama's own engine, whose GGUF layouts llama.cpp cannot read.

Each layout is a declaration: how to recognise it, and how to rewrite it. Most differ in names of tensors and metadata,
and in a vision model inside the same file, so most bytes are copied.
"""

from __future__ import annotations

from modelfile.published.layout import OllamaLayout
from modelfile.published.layouts import Unloadable, layout_of
from modelfile.published.plan import RewritePlan, plan

__all__ = ["OllamaLayout", "RewritePlan", "Unloadable", "layout_of", "plan"]
