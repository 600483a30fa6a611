"""Puts a GGUF into a models directory as a model of nothing but its weights."""

from __future__ import annotations

from pathlib import Path

from registry.manifest import CONFIG, MODEL, Layer, Manifest, ModelConfig
from registry.names import ModelName
from registry.store import Store


def publish(root: Path, name: str, gguf: Path) -> None:
    """Write blobs and manifest. Raises StoreError when the disk refuses."""
    store = Store(root)
    weights = store.add_file(gguf)
    config = store.add_blob(ModelConfig(model_format="gguf").encode())
    store.write_manifest(ModelName.parse(name), Manifest(Layer(CONFIG, *config), (Layer(MODEL, *weights),)))
