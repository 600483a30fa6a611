"""Blobs: written, checked, read, tidied up."""

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import BlobMissing, BlobTooLarge, DigestMismatch, StoreError
from registry.names import Digest
from registry.storage.blobs import Blob, Blobs, BlobWriter, digest_of
from tests.registry.storage.test_files import largest_file

HELLO = Digest.of(b"hello")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models" / "blobs"


@pytest.fixture
def blobs(folder: Path) -> Blobs:
    return Blobs(folder)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Blobs:
    return Blobs(tmp_path_factory.mktemp("blobs"))


def put(blobs: Blobs, data: bytes) -> Blob:
    with blobs.put(Digest.of(data)) as writer:
        writer.write(data)
        return writer.commit()


def age(path: Path, seconds: float) -> None:
    """Make a file as old as if it had been written at this time."""
    os.utime(path, (seconds, seconds))


def test_a_blob(blobs: Blobs, folder: Path) -> None:
    assert not blobs.has(HELLO)
    with blobs.put(HELLO) as writer:
        writer.write(b"hel")
        writer.write(b"lo")
        assert not blobs.has(HELLO)
        assert writer.commit() == (HELLO, 5)
        assert blobs.has(HELLO)
    assert os.listdir(folder) == [HELLO.filename]
    assert blobs.read(HELLO, 5) == blobs.path(HELLO).read_bytes() == b"hello"


def test_a_blob_that_nobody_announced(blobs: Blobs) -> None:
    with blobs.put() as writer:
        writer.write(b"hello")
        assert writer.commit() == (HELLO, 5)
    assert blobs.has(HELLO)


def test_an_empty_blob(blobs: Blobs) -> None:
    assert put(blobs, b"").size == 0
    assert blobs.read(Digest.of(b""), 0) == b""


def test_a_blob_that_is_another(blobs: Blobs, folder: Path) -> None:
    other = Digest.of(b"other")
    with blobs.put(HELLO) as writer:
        writer.write(b"other")
        with pytest.raises(DigestMismatch) as caught:
            writer.commit()
    assert str(caught.value) == f'digest mismatch, expected "{HELLO}", got "{other}"'
    assert os.listdir(folder) == []


def break_off(writer: BlobWriter) -> None:
    writer.write(b"hello")
    raise ConnectionError


def test_an_upload_that_breaks_off(blobs: Blobs, folder: Path) -> None:
    with pytest.raises(ConnectionError), blobs.put(HELLO) as writer:
        break_off(writer)
    assert os.listdir(folder) == []


def test_a_blob_that_nobody_commits(blobs: Blobs, folder: Path) -> None:
    with blobs.put(HELLO) as writer:
        writer.write(b"hello")
    assert os.listdir(folder) == []


@pytest.mark.parametrize("room", [0, 1, 4096, 70_000, 99_999])
def test_a_full_disk(blobs: Blobs, folder: Path, room: int) -> None:
    data = bytes(100_000)
    with largest_file(room), pytest.raises(StoreError) as caught:
        put(blobs, data)
    assert str(caught.value) == "cannot write a blob: File too large"
    assert os.listdir(folder) == []
    assert put(blobs, data).size == 100_000


@given(st.data())
def test_no_change_on_the_way_is_accepted(scratch: Blobs, data: st.DataObject) -> None:
    sent = data.draw(st.binary(min_size=1, max_size=200))
    received = bytearray(sent)
    received[data.draw(st.integers(0, len(sent) - 1))] ^= data.draw(st.integers(1, 255))
    del received[data.draw(st.integers(0, len(sent))) :]
    with scratch.put(Digest.of(sent)) as writer:
        writer.write(bytes(received))
        with pytest.raises(DigestMismatch):
            writer.commit()
    assert scratch.filenames() == []


def test_a_damaged_blob_heals_when_it_comes_again(blobs: Blobs) -> None:
    put(blobs, b"hello")
    blobs.path(HELLO).write_bytes(b"hellO")
    put(blobs, b"hello")
    assert blobs.read(HELLO, 5) == b"hello"


def test_many_write_the_same_blob(blobs: Blobs, folder: Path) -> None:
    data = os.urandom(300_000)
    start = threading.Barrier(4)
    written = []

    def write() -> None:
        with blobs.put(Digest.of(data)) as writer:
            start.wait()
            for at in range(0, len(data), 10_000):
                writer.write(data[at : at + 10_000])
            written.append(writer.commit())

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert written == [(Digest.of(data), len(data))] * 4
    assert os.listdir(folder) == [Digest.of(data).filename]
    assert blobs.read(Digest.of(data), len(data)) == data


def test_what_cannot_be_read(blobs: Blobs) -> None:
    with pytest.raises(BlobMissing):
        blobs.read(HELLO, 10)
    put(blobs, b"hello")
    with pytest.raises(BlobTooLarge):
        blobs.read(HELLO, 4)
    blobs.path(Digest.of(b"x")).mkdir()
    assert not blobs.has(Digest.of(b"x"))
    with pytest.raises(StoreError, match="cannot read a blob: Is a directory"):
        blobs.read(Digest.of(b"x"), 10)


def test_files(blobs: Blobs, folder: Path) -> None:
    assert blobs.filenames() == []
    put(blobs, b"hello")
    (folder / "upload").write_bytes(b"x")
    (folder / "link").symlink_to("nowhere")
    (folder / "folder").mkdir()
    assert sorted(blobs.filenames()) == ["link", HELLO.filename, "upload"]


def test_a_file_is_removed_only_if_it_is_still_old(blobs: Blobs, folder: Path) -> None:
    put(blobs, b"hello")
    age(folder / HELLO.filename, 1000)
    assert not blobs.remove_older(HELLO.filename, 1000)
    blobs.touch(HELLO)
    assert not blobs.remove_older(HELLO.filename, 1001)
    age(folder / HELLO.filename, 1000)
    assert blobs.remove_older(HELLO.filename, 1001)
    assert not blobs.remove_older(HELLO.filename, 1001)
    assert not blobs.has(HELLO)


def test_what_is_missing_may_be_touched_and_removed(blobs: Blobs) -> None:
    blobs.touch(HELLO)
    blobs.remove(HELLO)


def test_names_of_the_past(blobs: Blobs, folder: Path) -> None:
    blobs.rename_legacy()
    put(blobs, b"new")
    (folder / str(HELLO)).write_bytes(b"hello")
    (folder / "sha256:123").write_bytes(b"")
    blobs.rename_legacy()
    assert blobs.read(HELLO, 5) == b"hello"
    assert set(os.listdir(folder)) == {HELLO.filename, Digest.of(b"new").filename, "sha256:123"}


def test_which_names_are_digests() -> None:
    assert digest_of(HELLO.filename) == digest_of(str(HELLO)) == HELLO
    for name in (f"{HELLO.filename}-partial", "incoming-x", "", f"{HELLO.filename}.tmp"):
        assert digest_of(name) is None


def test_no_error_tells_a_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    blobs = Blobs(tmp_path / "file" / "blobs")
    with pytest.raises(StoreError) as caught:
        put(blobs, b"hello")
    assert str(caught.value) == "cannot write a blob: Not a directory"
