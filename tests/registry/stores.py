"""What the tests of the store have in common: small models, and a look at everything that is on the disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

from registry.manifest import CONFIG, MODEL, Layer, Manifest
from registry.names import Digest, ModelName
from registry.storage.store import Store, StoredModel

HOUR = 3600


def name(text: str) -> ModelName:
    return ModelName.parse(text)


def add_model(store: Store, text: str, *layers: bytes) -> StoredModel:
    """Store a model of these layers, with a config that all such models share."""
    config = store.add_blob(b"{}")
    blobs = [store.add_blob(layer) for layer in layers]
    return store.write_manifest(
        name(text), Manifest(Layer(CONFIG, *config), tuple(Layer(MODEL, *blob) for blob in blobs))
    )


def names(store: Store) -> list[str]:
    return sorted(model.name.shortest for model in store.list())


def files(root: Path) -> set[str]:
    """All files below a folder, as relative paths."""
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def blobs(root: Path) -> set[str]:
    return files(root / "blobs")


def blob_names(*contents: bytes) -> set[str]:
    return {Digest.of(content).filename for content in contents}


def check_whole(root: Path) -> None:
    """Everything that counts is complete: every blob is what it is named, every manifest has its blobs."""
    for path in (root / "blobs").glob(f"sha256-{'?' * 64}"):
        assert path.name == f"sha256-{hashlib.sha256(path.read_bytes()).hexdigest()}"
    for path in (root / "manifests").glob("*/*/*/*"):
        manifest = Manifest.decode(path.read_bytes())
        for layer in (manifest.config, *manifest.layers):
            assert (root / "blobs" / layer.digest.filename).stat().st_size == layer.size
