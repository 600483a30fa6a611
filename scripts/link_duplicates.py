"""Replaces equal files of a folder by hard links, and prints how much space that saves.

A wheel of llama-cpp-python has each library six times: in two folders, under three names that were symbolic links.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SMALLEST = 64 << 10  # bytes; smaller files are ignored


def link_duplicates(folder: Path) -> int:
    """Link equal files of equal mode and owner below a folder; returns the bytes saved."""
    groups: defaultdict[tuple[object, ...], list[Path]] = defaultdict(list)
    for path in _files(folder):
        status = path.stat()
        groups[status.st_size, status.st_mode, status.st_uid, status.st_gid, status.st_dev].append(path)
    return sum(_link(paths) for paths in groups.values() if len(paths) > 1)


def _link(paths: list[Path]) -> int:
    """Link the equal ones among files of the same size."""
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
