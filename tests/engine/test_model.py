"""A model's small parts: read once, and no more of its file than they are."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from engine.model import Models
from tests.engine.test_engine import make_engine, store_model
from tests.registry.gguf.test_reader import VOCABULARY

LITTLE = 1 << 20  # bytes; the texts of the vocabulary would take fifteen times as much


def test_a_long_vocabulary_is_not_taken_apart(tmp_path: Path) -> None:
    store = make_engine(tmp_path).store
    store_model(store, "big", VOCABULARY.read_bytes())
    model = Models(store).resolve("big")
    tracemalloc.start()
    try:
        assert model.capabilities == {"completion"}
        assert tracemalloc.get_traced_memory()[1] < LITTLE
    finally:
        tracemalloc.stop()
    assert model.special_tokens == {"eos": "<|endoftext|>", "bos": "<|endoftext|>"}
