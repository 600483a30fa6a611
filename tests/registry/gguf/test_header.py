"""What a header tells, and arrays that are read later."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from registry.gguf import GGUFError, GGUFHeader, require_complete
from tests.registry.gguf.files import ARRAY, STRING, UINT32, File, array, entry, read, small_model, text, uint32


@pytest.mark.parametrize(
    ("entries", "name"), [((), "unknown"), ((0,), "unknown"), ((15,), "Q4_K_M"), ((99,), "unknown")]
)
def test_file_types(tmp_path: Path, entries: tuple[int, ...], name: str) -> None:
    file = File([entry("general.file_type", UINT32, uint32(value)) for value in entries])
    assert read(tmp_path / "x", file.build()).file_type == name


def test_broken_texts_are_shown(tmp_path: Path) -> None:
    entries = [entry("t", STRING, text(b"a\xff")), entry("a", ARRAY, array(STRING, 1, text(b"\xc3")))]
    metadata = read(tmp_path / "x", File(entries).build()).metadata
    assert (metadata["t"], metadata["a"].values()) == ("a\ufffd", ["\ufffd"])


def test_a_file_that_changed(tmp_path: Path) -> None:
    path = tmp_path / "x"
    metadata = read(path, small_model()).metadata
    os.truncate(path, 100)
    for name in ("x.texts", "x.numbers"):
        with pytest.raises(GGUFError):
            metadata[name].values()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        metadata["x.texts"].values()


def split(count: object, number: object) -> GGUFHeader:
    return GGUFHeader(3, {"split.count": count, "split.no": number}, (), 0)


def test_the_parts_of_a_split_model() -> None:
    require_complete([split(2, 1), split(2, 0)])
    for parts in (
        [split(2, 0)],
        [split(2, 0), split(2, 0)],
        [split(2, 0), split(3, 1)],
        [split(2, 0), split(2, 2)],
        [split(2, 0), split(2, None)],
        [split(2, 0), split(2, "1")],
        [GGUFHeader(3, {}, (), 0)],
        [],
    ):
        with pytest.raises(GGUFError):
            require_complete(parts)
