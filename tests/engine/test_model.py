"""A model's small parts: read once, and no more of its file than they are."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from engine.model import NO_HEADER, Models
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


def test_weights_in_common_are_read_once(tmp_path: Path) -> None:
    store = make_engine(tmp_path).store
    models = Models(store)
    for name in ("one", "two"):
        store_model(store, name, VOCABULARY.read_bytes(), system=name)
    one, two = models.resolve("one"), models.resolve("two")
    assert one.header is two.header
    assert (one.system, two.system) == ("one", "two")
    one.weights.unlink()
    assert (models.resolve("one").header, models.resolve("two").header) == (NO_HEADER, NO_HEADER)
    store_model(store, "one", VOCABULARY.read_bytes())
    assert models.resolve("two").header == two.header
