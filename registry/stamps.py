"""Whether a file or a folder is still what it was when it was read."""

from __future__ import annotations

import os
from typing import NamedTuple

_TICK = 100_000_000  # nanoseconds; the clock of a file system goes on in steps of some milliseconds
_COARSE_TICK = 2_000_000_000  # where it has no fractions of seconds


class Stamp(NamedTuple):
    """What changes with every change: of a file's content, or of a folder's entries. Times are Unix nanoseconds."""

    device: int
    inode: int
    size: int
    modified_at: int
    changed_at: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """The stamp in a file's status."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def tells(self, now: int) -> bool:
        """Whether any change after `now`, when it was taken, gives another stamp: not so soon after the last one."""
        last = max(self.modified_at, self.changed_at)
        return last + (_TICK if last % 1_000_000_000 else _COARSE_TICK) < now
