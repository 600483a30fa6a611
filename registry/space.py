"""How much room a disk has."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from registry.errors import DiskFull


@dataclass(frozen=True, slots=True)
class Room:
    """What can be written to a folder, or where it is to be made: free bytes, and why nothing can (empty if it can)."""

    exists: bool
    free: int
    hindrance: str = ""


def room(folder: Path) -> Room:
    """Try to write to a folder, or to the first above it that is there. Nothing is left. Raises nothing."""
    exists = os.path.exists(folder)  # which is false, and raises nothing, where it may not be looked at
    place = next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))
    try:
        free = _free(place)
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        return Room(exists, 0, error.strerror or str(error))
    return Room(exists, free)


def hindrance(models: Path) -> tuple[Path, str] | None:
    """The folder of the models, or the first below it, that cannot be written, and why; None if all can."""
    below = [path for path in (models / "blobs", models / "manifests") if os.path.exists(path)]
    found = ((path, room(path).hindrance) for path in (models, *below))
    return next(((path, reason) for path, reason in found if reason), None)


def require_space(folder: Path, needed: int) -> None:
    """Raise DiskFull if so many bytes do not fit on the disk of a folder; OSError if that cannot be known."""
    free = _free(folder)
    if needed > free:
        raise DiskFull(needed, free)


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
