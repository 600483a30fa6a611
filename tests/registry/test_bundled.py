"""The model that comes with the program, and how it gets into a store."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry.bundled import MODELS
from registry.manifest import MODEL, ModelConfig
from registry.names import Digest
from registry.storage.store import ModelMissing, Store
from tests.registry.stores import add_model, blobs, check_whole, name, names

CONFIG_OF_OLLAMA = "3943d147577a526ad9c7fb2e2a615dec5e682e00bd022757f2141d13253639eb"
"""Of the same model, created by Ollama."""


def test_the_models() -> None:
    assert list(MODELS) == [name("tinychat"), name("sight")]
    assert len(MODELS) == 2
    for text in ("tinychat", "TinyChat:Latest", "registry.ollama.ai/library/tinychat"):
        assert name(text) in MODELS
        assert MODELS[name(text)].name == name("tinychat")
    for text in ("tinychat:v2", "other/tinychat", "host/library/tinychat", "tiny"):
        assert name(text) not in MODELS


def test_its_config() -> None:
    config = MODELS[name("tinychat")].config()
    assert config == ModelConfig(
        model_format="gguf", model_family="qwen3", model_families=("qwen3",), model_type="4.07M", file_type="Q8_0"
    )
    assert Digest.of(config.encode()).hex == CONFIG_OF_OLLAMA


def test_asking_for_it_stores_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.list() == []
    stored = store.find(name("TINYCHAT"))
    assert store.list() == [stored]
    assert stored.name == name("tinychat")
    (layer,) = stored.manifest.layers
    assert (layer.media_type, layer.from_, stored.manifest.config.digest.hex) == (MODEL, "", CONFIG_OF_OLLAMA)
    assert store.blob_path(layer.digest).read_bytes() == MODELS[stored.name].path.read_bytes()
    check_whole(tmp_path)


def test_copying_it_stores_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.copy(name("tinychat"), name("mine"))
    assert names(store) == ["mine:latest", "tinychat:latest"]


def test_a_model_of_that_name_comes_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    mine = add_model(store, "TinyChat", b"w")
    assert store.find(name("tinychat")) == mine
    assert len(blobs(tmp_path)) == 2


def test_deleting_does_not_store_it(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing):
        Store(tmp_path).delete(name("tinychat"))
    assert not blobs(tmp_path)


def test_many_ask_for_it_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    start = threading.Barrier(4)

    def ask() -> object:
        start.wait()
        return store.find(name("tinychat"))

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(ask) for _ in range(4)]
    assert {repr(answer.result()) for answer in answers} == {repr(store.find(name("tinychat")))}
    assert len(blobs(tmp_path)) == 2
