"""Tiny models with random weights whose layers see a sliding window that is shorter than their context."""

from __future__ import annotations

from pathlib import Path

from tests.modelfile.published.pairs import PAIRS

WINDOW, CONTEXT = 128, 4096
MODELS = ("olmo3", "gemma3", "gptoss")


def windowed(path: Path, name: str = "olmo3", window: int = WINDOW) -> Path:
    """Write such a model."""
    model = PAIRS[name]().expected
    model.metadata[f"{model.architecture}.attention.sliding_window"] = window
    model.metadata[f"{model.architecture}.context_length"] = CONTEXT
    return model.write(path)
