"""What the store remembers of the disk, and that it sees what other programs change there."""

import os
import time
from pathlib import Path

import pytest

from registry.storage.store import Store
from tests.registry.stores import add_model, name, names


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all that is read had been written long before."""
    monkeypatch.setattr("registry.storage.files._TICK", -(10**18))
    monkeypatch.setattr("registry.storage.files._COARSE_TICK", -(10**18))


def tick() -> None:
    """Let the clock of the file system go on."""
    time.sleep(0.02)


@pytest.mark.usefixtures("settled")
def test_what_has_not_changed_is_not_read_again(store: Store) -> None:
    add_model(store, "a", b"a")
    tick()
    [model], found = store.list(), store.blobs()
    assert store.list()[0] is model
    assert store.find(name("A")) is model
    assert store.blobs() is found


@pytest.mark.usefixtures("settled")
def test_what_other_programs_change_is_seen(store: Store, root: Path) -> None:
    add_model(store, "a", b"a")
    path = root / "manifests/registry.ollama.ai/library/a/latest"
    longer = path.read_bytes().replace(b"}", b"} ", 1)
    same_size = longer.replace(b"} ", b" }", 1)
    seen = []

    def look() -> None:
        tick()
        assert names(store) == ["a:latest"]
        seen.append(store.find(name("a")).digest)
        tick()

    look()
    path.write_bytes(longer)
    look()
    before = path.stat()
    path.write_bytes(same_size)  # in place, as Ollama writes them
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    look()
    (root / "new").write_bytes(longer)
    os.utime(root / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    (root / "new").replace(path)
    look()
    assert seen == [seen[0], seen[1], seen[2], seen[1]]
    assert len(set(seen)) == 3


@pytest.mark.usefixtures("settled")
def test_models_that_come_and_go_elsewhere_are_seen(store: Store, root: Path) -> None:
    other = Store(root)
    for store_ in (store, other):
        assert names(store_) == []
    for text in ("a", "a:b", "x/a", "host/x/a"):
        tick()
        add_model(other, text, b"a")
        tick()
        assert names(store) == names(other)
    assert len(names(store)) == 4
    for text in ("a", "host/x/a", "a:b", "x/a"):
        tick()
        other.delete(name(text))
        tick()
        assert names(store) == names(other)
    assert names(store) == []


@pytest.mark.usefixtures("settled")
def test_a_model_whose_config_is_gone_is_not_listed_until_it_is_back(store: Store, root: Path) -> None:
    config = add_model(store, "a", b"a").manifest.config.digest
    for _ in range(2):
        tick()
        assert names(store) == ["a:latest"]
        tick()
        store.blob_path(config).rename(root / "away")
        tick()
        assert names(store) == []
        tick()
        (root / "away").rename(store.blob_path(config))


@pytest.mark.usefixtures("settled")
def test_links_are_followed_each_time(store: Store, root: Path) -> None:
    model = add_model(store, "a", b"a")
    path = store.blob_path(model.manifest.config.digest)
    path.rename(root / "config")
    path.symlink_to(root / "config")
    tick()
    assert names(store) == ["a:latest"]
    (root / "config").rename(root / "away")
    assert names(store) == []
    (root / "away").rename(root / "config")
    assert names(store) == ["a:latest"]
