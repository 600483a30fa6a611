"""A models directory that a real Ollama wrote: served as it stands, and still Ollama's afterwards."""

import hashlib
import os
import shutil
import time
from pathlib import Path

import pytest

from registry.gguf import read_header
from registry.manifest import MODEL, PARAMS, SYSTEM, Manifest, ModelConfig
from registry.storage.store import Store
from tests.registry.stores import HOUR, check_whole, files, name, names

WRITTEN_BY_OLLAMA = Path(__file__).parents[1] / "data" / "ollama-store"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WRITTEN_BY_OLLAMA, tmp_path / "models"))


def snapshot(root: Path) -> dict[str, tuple[int, int, int]]:
    """Of everything, folders too: which file it is, when it was written, its size."""
    found = {path.relative_to(root).as_posix(): path.stat() for path in (root, *root.rglob("*"))}
    return {path: (status.st_ino, status.st_mtime_ns, status.st_size) for path, status in found.items()}


def test_it_is_read_without_a_trace(root: Path) -> None:
    before = snapshot(root)
    store = Store(root)
    assert names(store) == ["tinychat:latest", "tinygo:latest", "tinymsgs:v1"]
    for stored in store.list():
        assert store.find(name(stored.name.full.upper())) == stored
        assert all(store.has_blob(digest) for digest in stored.manifest.digests)
        config = ModelConfig.decode(store.read_blob(stored.manifest.config.digest, 1000))
        (weights,) = stored.manifest.of_type(MODEL)
        header = read_header(store.blob_path(weights.digest))
        assert (config.model_family, config.model_type) == (header.architecture, header.parameter_size)
    store.prune(time.time())
    assert snapshot(root) == before


def test_what_is_in_it(root: Path) -> None:
    store = Store(root)
    stored = store.find(name("tinygo"))
    (system,), (params,) = stored.manifest.of_type(SYSTEM), stored.manifest.of_type(PARAMS)
    assert store.read_blob(system.digest, 100) == b"You are Alice."
    assert store.read_blob(params.digest, 200).startswith(b'{"num_ctx":512,')
    assert stored.digest == hashlib.sha256(stored.manifest.encode()).hexdigest()
    assert stored.manifest.layers[0].from_ == "tinychat:latest"


def test_pruning_an_old_store_removes_nothing(root: Path) -> None:
    before = files(root)
    Store(root).prune(time.time() + 2 * HOUR)
    assert files(root) == before


def test_deleting_one_leaves_the_others_whole(root: Path) -> None:
    store = Store(root)
    store.delete(name("tinygo"))
    check_whole(root)
    assert names(store) == ["tinychat:latest", "tinymsgs:v1"]
    store.delete(name("tinymsgs:v1"))
    store.delete(name("tinychat"))
    assert files(root) == set()
    assert os.listdir(root / "manifests") == []


def test_what_we_write_is_as_ollama_writes_it(root: Path) -> None:
    """The same manifest from the same blobs is the same file, and nothing else appears beside it."""
    store = Store(root)
    path = root / "manifests" / "registry.ollama.ai" / "library" / "tinygo" / "latest"
    data = path.read_bytes()
    before = files(root)
    store.write_manifest(name("tinygo"), Manifest.decode(data))
    assert path.read_bytes() == data
    store.copy(name("tinygo"), name("copied"))
    assert files(root) - before == {"manifests/registry.ollama.ai/library/copied/latest"}
