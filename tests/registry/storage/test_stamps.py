"""When an equal stamp proves that a file has not changed."""

import os
import time
from pathlib import Path

from registry.storage.files import Stamp

SECOND = 1_000_000_000


def test_every_change_gives_another_stamp(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    before = path.stat()
    stamps = {Stamp.of(before)}
    for change in (
        lambda: path.write_bytes(b"two"),
        lambda: os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns)),
        lambda: (tmp_path / "other").write_bytes(b"two"),
        lambda: (tmp_path / "other").replace(path),
    ):
        time.sleep(0.02)  # more than a tick of the clock
        change()
        stamps.add(Stamp.of(path.stat()))
    assert len(stamps) == 4


def test_a_young_stamp_does_not_tell() -> None:
    stamp = Stamp(1, 2, 3, modified_at=100 * SECOND + 1, changed_at=50)
    assert not stamp.tells(100 * SECOND + 2)
    assert not stamp.tells(100 * SECOND)
    assert stamp.tells(101 * SECOND)
    coarse = stamp._replace(modified_at=100 * SECOND)
    assert not coarse.tells(101 * SECOND)
    assert coarse.tells(103 * SECOND)
    assert not stamp._replace(changed_at=200 * SECOND).tells(101 * SECOND)
