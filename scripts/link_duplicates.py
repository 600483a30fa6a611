"""Makes files of a folder that have the same content one file with several names, and says how much room that saves.

A wheel of llama-cpp-python has each library six times: in two folders, under three names, which were symbolic links
until they were packed.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SMALLEST = 64 << 10  # bytes; what is smaller is not worth the trouble


def link_duplicates(folder: Path) -> int:
    """Link equal files of equal mode and owner below a folder; returns the bytes that this saves."""
    groups: defaultdict[tuple[object, ...], list[Path]] = defaultdict(list)
    for path in _files(folder):
        status = path.stat()
        groups[status.st_size, status.st_mode, status.st_uid, status.st_gid, status.st_dev].append(path)
    return sum(_link(paths) for paths in groups.values() if len(paths) > 1)


def _link(paths: list[Path]) -> int:
    """Link those of files of one size that are equal."""
    saved = 0
    first: dict[bytes, Path] = {}
    for path in paths:
        with path.open("rb") as file:
            kept = first.setdefault(hashlib.file_digest(file, "sha256").digest(), path)
        if kept.samefile(path):
            continue
        size = path.stat().st_size if path.stat().st_nlink == 1 else 0
        link = path.with_name(f".{path.name}.link")
        os.link(kept, link)
        link.replace(path)
        saved += size
    return saved


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_size >= SMALLEST:
            yield path


if __name__ == "__main__":
    print(f"Linked files that are the same: {link_duplicates(Path(sys.argv[1])) >> 20} MiB saved.")
