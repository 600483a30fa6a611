"""Files in the making: they become blobs without being copied, or go."""

import threading
import time
from pathlib import Path

import pytest

from registry.errors import Stopped
from registry.names import Digest
from registry.storage.store import Blob, Store
from tests.registry.stores import HOUR, blobs, check_whole


def test_a_file_becomes_a_blob(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.scratch() as folder:
        made = folder / "made"
        made.write_bytes(b"weights")
        inode = made.stat().st_ino
        assert store.adopt(made) == (Blob(Digest.of(b"weights"), 7), False)
        assert not made.exists()
    [blob] = (tmp_path / "blobs").iterdir()
    assert (blob.stat().st_ino, blob.stat().st_mode & 0o777) == (inode, 0o644)
    check_whole(tmp_path)


def test_a_blob_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept = store.blob_path(store.add_blob(b"weights").digest).stat().st_ino
    with store.scratch() as folder:
        (folder / "made").write_bytes(b"weights")
        assert store.adopt(folder / "made") == (Blob(Digest.of(b"weights"), 7), True)
    assert store.blob_path(Digest.of(b"weights")).stat().st_ino == kept


def test_nothing_is_left(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.scratch() as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []
    assert blobs(tmp_path) == set()


def test_what_a_crash_left_goes_and_what_is_used_stays_however_old_it_is(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("making-x", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x")
    with store.scratch() as folder:
        Store(tmp_path).prune(time.time() + 2 * HOUR)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([folder.name, "other"])


def test_who_no_longer_waits_for_a_file(tmp_path: Path) -> None:
    store = Store(tmp_path / "models")
    outside = tmp_path / "file"
    outside.write_bytes(b"weights")
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(Stopped):
        store.add_file(outside, stopping=stopping)
    with store.scratch() as folder:
        (folder / "made").write_bytes(b"weights")
        with pytest.raises(Stopped):
            store.adopt(folder / "made", stopping=stopping)
    assert blobs(tmp_path / "models") == set()
