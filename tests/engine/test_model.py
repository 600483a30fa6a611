"""A model's small parts: read once, and no more of its file than they are."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from engine.model import CACHE_SIZE, NO_HEADER, Models
from registry.gguf import GGUFError, read_header
from registry.names import Digest
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


def test_what_was_read_is_kept_within_bounds(tmp_path: Path) -> None:
    """However long the texts are that strangers put into their files."""
    store = make_engine(tmp_path).store
    models = Models(store)
    system = "x" * (LITTLE * 12)
    tracemalloc.start()
    try:
        for number in range(6):
            store_model(store, f"m{number}", VOCABULARY.read_bytes(), system=f"{number}{system}")
            assert models.resolve(f"m{number}").system[0] == str(number)
        assert tracemalloc.get_traced_memory()[0] < 1.5 * CACHE_SIZE
    finally:
        tracemalloc.stop()
    assert models.resolve("m5") is models.resolve("m5")


def test_the_memory_of_a_header_is_about_what_it_takes(tmp_path: Path) -> None:
    path = Path(tmp_path / "x.gguf")
    path.write_bytes(VOCABULARY.read_bytes())
    tracemalloc.start()
    try:
        header = read_header(path)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken / 3 < header.memory < taken * 3


def test_weights_that_were_mended_are_read_anew(tmp_path: Path) -> None:
    store = make_engine(tmp_path).store
    models = Models(store)
    data = VOCABULARY.read_bytes()
    store_model(store, "one", data)
    path = models.resolve("one").weights
    changed = data.replace(b"general.architecture", b"general.architectura", 1)
    path.write_bytes(changed)
    models = Models(store)
    assert "general.architectura" in models.resolve("one").header.metadata
    with store.repair_blob(Digest.parse(path.name)) as blob:
        blob.write(data)
        blob.commit()
    assert "general.architecture" in models.resolve("one").header.metadata


def test_an_error_of_a_damaged_file_names_its_model(tmp_path: Path) -> None:
    store = make_engine(tmp_path).store
    store_model(store, "cut", VOCABULARY.read_bytes())
    weights = Models(store).resolve("cut").weights
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(GGUFError, match=r"^cannot read the file of model 'cut:latest': unexpected EOF$"):
        Models(store).resolve("cut")
