"""Files that appear whole or not at all."""

import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from registry.storage.files import PendingFile, make_directory, sync_directory


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: what a full disk looks like to a program."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_appears_when_it_is_published(tmp_path: Path) -> None:
    file = PendingFile(tmp_path, ".x-")
    file.write(b"ab")
    file.write(b"c")
    target = tmp_path / "target"
    assert not target.exists()
    file.publish(target)
    assert target.read_bytes() == b"abc"
    file.close()
    assert os.listdir(tmp_path) == ["target"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


def test_it_replaces_what_is_there(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"old")
    file = PendingFile(tmp_path, ".x-")
    file.write(b"new")
    file.publish(target)
    file.close()
    assert target.read_bytes() == b"new"


def test_what_is_not_published_goes_away(tmp_path: Path) -> None:
    file = PendingFile(tmp_path, ".x-")
    file.write(b"abc")
    assert len(os.listdir(tmp_path)) == 1
    file.close()
    assert os.listdir(tmp_path) == []


def test_its_bytes_are_safe_before_its_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "target"
    steps = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        fsync(descriptor)
        steps.append("directory" if os.path.samestat(os.fstat(descriptor), tmp_path.stat()) else "file")

    def note_replace(old: Path, new: Path) -> None:
        replace(old, new)
        steps.append(Path(new).name)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    file = PendingFile(tmp_path, ".x-")
    file.write(b"abc")
    file.publish(target)
    file.close()
    assert steps == ["file", "target", "directory"]


def test_a_full_disk(tmp_path: Path) -> None:
    file = PendingFile(tmp_path, ".x-")
    with largest_file(1000), pytest.raises(OSError, match="large"):
        file.write(bytes(1001))
    file.close()
    assert os.listdir(tmp_path) == []


def test_directories(tmp_path: Path) -> None:
    for _ in range(2):
        make_directory(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    sync_directory(tmp_path / "a")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        make_directory(tmp_path / "file" / "x")
