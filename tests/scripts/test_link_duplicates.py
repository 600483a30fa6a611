"""Files that are the same become one."""

import os
from pathlib import Path

from scripts.link_duplicates import SMALLEST, link_duplicates


def test_equal_files_become_one(tmp_path: Path) -> None:
    one, other = b"x" * SMALLEST, b"y" * SMALLEST
    contents = {"lib/a.so": one, "lib/a.so.0": one, "b/a.so": one, "b/other.so": other, "small": b"z", "small2": b"z"}
    for name, data in contents.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "run").write_bytes(one)
    (tmp_path / "run").chmod(0o755)
    (tmp_path / "link").symlink_to("lib/a.so")
    for saved in (2 * SMALLEST, 0):
        assert link_duplicates(tmp_path) == saved
        assert len({(tmp_path / name).stat().st_ino for name in ("lib/a.so", "lib/a.so.0", "b/a.so")}) == 1
    assert {name: (tmp_path / name).read_bytes() for name in contents} == contents
    assert os.stat(tmp_path / "run").st_nlink == os.stat(tmp_path / "small").st_nlink == 1
    assert (tmp_path / "link").is_symlink()
    assert not list(tmp_path.rglob(".*"))
