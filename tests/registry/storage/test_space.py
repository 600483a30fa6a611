"""Where models can be written, and how much."""

from pathlib import Path

from registry.storage.files import disk_space
from tests.disks import small_disk

SIZE = 1 << 20


def test_a_folder(tmp_path: Path) -> None:
    space = disk_space(tmp_path)
    assert space.exists
    assert space.free > 0
    assert space.unwritable == ""
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_still_to_be_made(tmp_path: Path) -> None:
    space = disk_space(tmp_path / "a" / "b")
    assert not space.exists
    assert space.unwritable == ""
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert disk_space(tmp_path / "a").unwritable == disk_space(tmp_path / "a" / "b").unwritable == "Not a directory"


def test_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", SIZE) as folder:
        assert SIZE // 2 < disk_space(folder).free <= SIZE
        with (folder / "file").open("wb", buffering=0) as file:
            try:
                while file.write(b"\1" * 4096):
                    pass
            except OSError:
                pass
        space = disk_space(folder)
        assert space.free == 0
        assert space.unwritable == "No space left on device"
