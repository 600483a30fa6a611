"""Prompts in the formats of known families, by the names that Ollama accepts in a model's configuration."""

from engine.chat.renderers.family import NamedRenderer
from engine.chat.renderers.select import NAMES, renderer, resolved

__all__ = ["NAMES", "NamedRenderer", "renderer", "resolved"]
