"""Where models can be written, and how much."""

from pathlib import Path

from registry.storage.files import room
from tests.disks import small_disk

SIZE = 1 << 20


def test_a_folder(tmp_path: Path) -> None:
    found = room(tmp_path)
    assert found.exists
    assert found.free > 0
    assert found.hindrance == ""
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_still_to_be_made(tmp_path: Path) -> None:
    found = room(tmp_path / "a" / "b")
    assert not found.exists
    assert found.hindrance == ""
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert room(tmp_path / "a").hindrance == room(tmp_path / "a" / "b").hindrance == "Not a directory"


def test_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", SIZE) as folder:
        assert SIZE // 2 < room(folder).free <= SIZE
        with (folder / "file").open("wb", buffering=0) as file:
            try:
                while file.write(b"\1" * 4096):
                    pass
            except OSError:
                pass
        found = room(folder)
        assert found.free == 0
        assert found.hindrance == "No space left on device"
