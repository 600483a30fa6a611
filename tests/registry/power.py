"""A model of a disk that loses power: what is not synchronised may be lost, folder by folder.

`Recorder` notes what a program does to files. `Disk` plays the notes, and `left` writes down a state that a power cut
could have left: of each folder and of each file the changes up to some point since it was last synchronised. What is
written at the end of a file may be cut anywhere, what is written into it is small and there as a whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

Draw = Callable[[int], int]
"""Chooses a number from 0 to another one."""


@dataclass
class Data:
    """The bytes of a file: as they are safe, and the changes since, each with its place."""

    safe: bytes = b""
    changes: list[tuple[int, bytes]] = field(default_factory=list)

    def after(self, count: int, cut: int | None = None) -> bytes:
        """The bytes after so many of the changes, the last of them cut if it is at the end."""
        data = self.safe
        for number, (place, piece) in enumerate(self.changes[:count], 1):
            if number == count and place == len(data):
                piece = piece[:cut]
            data = data[:place].ljust(place, b"\0") + piece + data[place + len(piece) :]
        return data

    @property
    def now(self) -> bytes:
        return self.after(len(self.changes))

    def sync(self) -> None:
        self.safe, self.changes = self.now, []


@dataclass
class Folder:
    """The names in a folder: as they are safe, and the changes since. None removes a name."""

    safe: dict[str, Data | Folder] = field(default_factory=dict)
    changes: list[tuple[str, Data | Folder | None]] = field(default_factory=list)

    def after(self, count: int) -> dict[str, Data | Folder]:
        """The names after so many of the changes."""
        names = dict(self.safe)
        for name, node in self.changes[:count]:
            names.pop(name, None)
            if node is not None:
                names[name] = node
        return names

    @property
    def now(self) -> dict[str, Data | Folder]:
        return self.after(len(self.changes))

    def sync(self) -> None:
        self.safe, self.changes = self.now, []


class Recorder:
    """Notes what is done below a folder through the functions of `os`, as (function, paths and bytes)."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.notes: list[tuple[Any, ...]] = []
        self._root = root
        self._paths: dict[int, Path] = {}
        for name in ("open", "write", "pwrite", "ftruncate", "fsync", "replace", "unlink", "mkdir", "rmdir"):
            patch.setattr(os, name, self._noting(getattr(self, f"_{name}"), getattr(os, name)))

    def _noting(self, note: Callable[..., None], function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            result = function(*args, **options)
            note(result, *args)
            return result

        return call

    def _note(self, kind: str, path: Any, *more: Any) -> None:
        if Path(path).is_relative_to(self._root):
            self.notes.append((kind, Path(path).relative_to(self._root), *more))

    def _open(self, descriptor: int, path: Any, flags: int, *_: Any) -> None:
        self._paths[descriptor] = Path(path)
        if flags & os.O_CREAT:
            self._note("create", path)

    def _write(self, count: int, descriptor: int, data: bytes) -> None:
        self._note("write", self._paths[descriptor], bytes(data[:count]), None)

    def _pwrite(self, count: int, descriptor: int, data: bytes, place: int) -> None:
        self._note("write", self._paths[descriptor], bytes(data[:count]), place)

    def _ftruncate(self, _: None, descriptor: int, size: int) -> None:
        self._note("write", self._paths[descriptor], b"", size)

    def _fsync(self, _: None, descriptor: int) -> None:
        self._note("sync", self._paths[descriptor])

    def _replace(self, _: None, old: Any, new: Any) -> None:
        self._note("rename", old, Path(new).relative_to(self._root))

    def _unlink(self, _: None, path: Any) -> None:
        self._note("remove", path)

    _rmdir = _unlink

    def _mkdir(self, _: None, path: Any, *__: Any) -> None:
        self._note("mkdir", path)


class Disk:
    """The state after some notes."""

    def __init__(self, notes: list[tuple[Any, ...]]) -> None:
        self._root = Folder()
        for kind, path, *more in notes:
            getattr(self, f"_{kind}")(path, *more)

    def left(self, target: Path, draw: Draw) -> None:
        """Write down what is left after a power cut now."""
        self._leave(self._root, target, draw)

    def _leave(self, folder: Folder, target: Path, draw: Draw) -> None:
        target.mkdir()
        for name, node in folder.after(draw(len(folder.changes))).items():
            if isinstance(node, Folder):
                self._leave(node, target / name, draw)
            else:
                count = draw(len(node.changes))
                last = len(node.changes[count - 1][1]) if count else 0
                (target / name).write_bytes(node.after(count, draw(last)))

    def _at(self, path: Path) -> Any:
        node: Any = self._root
        for part in path.parts:
            node = node.now[part]
        return node

    def _change(self, path: Path, node: Data | Folder | None) -> None:
        self._at(path.parent).changes.append((path.name, node))

    def _create(self, path: Path) -> None:
        if path.name not in self._at(path.parent).now:
            self._change(path, Data())

    def _mkdir(self, path: Path) -> None:
        if path != Path():
            self._change(path, Folder())

    def _remove(self, path: Path) -> None:
        self._change(path, None)

    def _rename(self, old: Path, new: Path) -> None:
        self._change(new, self._at(old))
        self._change(old, None)

    def _write(self, path: Path, data: bytes, place: int | None) -> None:
        node = self._at(path)
        node.changes.append((len(node.now) if place is None else place, data))

    def _sync(self, path: Path) -> None:
        self._at(path).sync()
