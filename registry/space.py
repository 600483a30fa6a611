"""How much room a disk has."""

from __future__ import annotations

import os
from pathlib import Path

from registry.errors import DiskFull


def require_space(folder: Path, needed: int) -> None:
    """Raise DiskFull if so many bytes do not fit on the disk of a folder; OSError if that cannot be known."""
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if needed > free:
        raise DiskFull(needed, free)
