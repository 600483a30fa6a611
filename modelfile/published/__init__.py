"""Models that were published for Ollama's own engine, in layouts that llama.cpp does not read.

Each layout is a description: by what it is known, and how llama.cpp's file is made of it. Most differ by names of
tensors and of metadata, and by the vision model that is in the same file; so most bytes are only copied.
"""

from __future__ import annotations

from modelfile.published.layout import OllamaLayout
from modelfile.published.layouts import Unloadable, layout_of
from modelfile.published.plan import RewritePlan, plan

__all__ = ["OllamaLayout", "RewritePlan", "Unloadable", "layout_of", "plan"]
