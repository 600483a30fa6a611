"""Files made of blobs: complete or not there, made by one at a time, and gone with their blob."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from registry.errors import DiskFull, StoreError
from registry.names import Digest
from registry.storage.store import Store
from tests.registry.stores import HOUR, add_model, check_whole, files, name, names

BLOB = b"weights"
DIGEST = Digest.of(BLOB)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    add_model(store, "m", BLOB)
    return store


def make(store: Store, form: str = "x-1-text", data: bytes = b"made") -> Path:
    """Make a file of the blob."""
    with store.derived.making(store.blob_path(DIGEST)), store.derived.put(DIGEST, form) as file:
        file.write(data)
    return store.derived.path(DIGEST, form)


def derived(root: Path) -> set[str]:
    return files(root / "derived")


def test_a_file_is_named_by_its_blob_and_its_form(store: Store, tmp_path: Path) -> None:
    assert make(store).read_bytes() == b"made"
    assert derived(tmp_path) == {f"{DIGEST.filename}.x-1-text.gguf"}


def test_it_appears_when_it_is_complete(store: Store, tmp_path: Path) -> None:
    path = store.derived.path(DIGEST, "x")
    with store.derived.making(store.blob_path(DIGEST)):
        with store.derived.put(DIGEST, "x") as file:
            file.write(b"half")
            assert not path.exists()
        assert path.read_bytes() == b"half"
    assert derived(tmp_path) == {path.name}


def test_what_is_not_finished_leaves_nothing(store: Store, tmp_path: Path) -> None:
    def fail() -> None:
        with store.derived.put(DIGEST, "x") as file:
            file.write(b"half")
            raise ZeroDivisionError

    with store.derived.making(store.blob_path(DIGEST)), pytest.raises(ZeroDivisionError):
        fail()
    assert derived(tmp_path) == set()


def test_one_makes_it_and_the_others_wait(store: Store) -> None:
    order: list[str] = []
    begun = threading.Event()

    def other() -> None:
        begun.set()
        with store.derived.making(store.blob_path(DIGEST)):
            order.append("other")

    with store.derived.making(store.blob_path(DIGEST)):
        thread = threading.Thread(target=other)
        thread.start()
        begun.wait()
        thread.join(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


def test_what_a_crash_left_goes_with_the_next_making(store: Store, tmp_path: Path) -> None:
    left = store.derived.folder / f"{DIGEST.filename}.incoming-x"
    others = store.derived.folder / f"{Digest.of(b'').filename}.incoming-x"
    make(store)
    for path in (left, others):
        path.write_bytes(b"half")
    make(store, "y")
    assert not left.exists()
    assert others.exists()


def test_other_versions_go(store: Store, tmp_path: Path) -> None:
    old, text, projector = (make(store, form) for form in ("x-1-text", "x-2-text", "x-2-projector"))
    with store.derived.making(store.blob_path(DIGEST)):
        store.derived.keep(DIGEST, ["x-2-text", "x-2-projector"])
    assert derived(tmp_path) == {text.name, projector.name}
    assert old not in (text, projector)


def test_it_goes_with_its_blob(store: Store, tmp_path: Path) -> None:
    store.copy(name("m"), name("same"))
    make(store)
    store.delete(name("m"))
    assert derived(tmp_path)
    store.delete(name("same"))
    assert derived(tmp_path) == set()


def test_whoever_has_it_open_keeps_it(store: Store) -> None:
    with make(store).open("rb") as file:
        store.delete(name("m"))
        assert file.read() == b"made"


def test_pruning(store: Store, tmp_path: Path) -> None:
    needed = make(store)
    crashed = store.derived.folder / f"{DIGEST.filename}.incoming-x"
    orphan = store.derived.folder / f"{Digest.of(b'gone').filename}.x-1-text.gguf"
    for path in (crashed, orphan):
        path.write_bytes(b"x")
    now = time.time()
    store.prune(now)
    assert derived(tmp_path) == {needed.name, orphan.name}
    for path in (needed, orphan):
        os.utime(path, (now - 2 * HOUR, now - 2 * HOUR))
    store.prune(now)
    assert derived(tmp_path) == {needed.name}


def test_it_stands_beside_what_others_look_through(store: Store, tmp_path: Path) -> None:
    """A real Ollama lists all of `manifests` and removes from `blobs` what it has no name for."""
    before = files(tmp_path / "blobs") | files(tmp_path / "manifests")
    listed = store.list()
    make(store)
    assert files(tmp_path / "blobs") | files(tmp_path / "manifests") == before
    assert store.list() == listed
    assert names(store) == ["m:latest"]
    check_whole(tmp_path)


def test_room_is_asked_for(store: Store) -> None:
    make(store)
    store.derived.require_space(1)
    with pytest.raises(DiskFull, match="no space left on device"):
        store.derived.require_space(1 << 60)


def test_a_blob_that_has_gone(store: Store) -> None:
    store.delete(name("m"))
    with pytest.raises(StoreError, match="No such file"), store.derived.making(store.blob_path(DIGEST)):
        pass
