"""The names that are stored."""

import os
import time
from pathlib import Path

import pytest

from registry.errors import ModelMissing, StoreError
from registry.names import ModelName
from registry.storage.catalog import Catalog
from registry.storage.files import PendingFile
from tests.registry.storage.test_files import largest_file
from tests.registry.stores import files, name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models" / "manifests"


@pytest.fixture
def catalog(folder: Path) -> Catalog:
    return Catalog(folder)


def names(catalog: Catalog) -> list[str]:
    return [name.shortest for name in catalog.names()]


def test_an_empty_catalog(catalog: Catalog, folder: Path) -> None:
    assert names(catalog) == []
    assert catalog.spelling(name("x")) is None
    catalog.tidy(0)
    assert not folder.exists()


def test_a_manifest(catalog: Catalog, folder: Path) -> None:
    catalog.write(name("host:80/ns/Model:v1"), b"first")
    catalog.write(name("host:80/ns/Model:v1"), b"data")
    assert files(folder) == {"host:80/ns/Model/v1"}
    entry = catalog.read(name("host:80/ns/Model:v1"))
    assert (entry.data, entry.modified_at) == (b"data", (folder / "host:80/ns/Model/v1").stat().st_mtime_ns)


def test_what_is_missing(catalog: Catalog, folder: Path) -> None:
    catalog.write(name("h/n/m:t"), b"")
    (folder / "h" / "n" / "file").touch()
    (folder / "h" / "n" / "m" / "folder").mkdir()
    for text in ("h/n/m:u", "h/n/x:t", "h/n/file:t", "x"):
        for act in (catalog.read, catalog.remove):
            with pytest.raises(ModelMissing, match="not found"):
                act(name(text))
        assert catalog.spelling(name(text)) is None
    assert catalog.spelling(name("h/n/M:folder")) == name("h/n/m:folder")  # in the way, and to be removed


def test_only_files_four_levels_down_count(catalog: Catalog, folder: Path) -> None:
    catalog.write(name("h/n/m:t"), b"")
    catalog.write(name("m"), b"")
    for path in (
        "top",
        "h/level",
        "h/n/level",
        "h/n/m/.hidden",
        "h/n/m/bad name",
        "h/n/m/deep/er",
        ".h/n/m/t",
        "h/n.s/m/t",
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"")
    assert names(catalog) == ["h/n/m:t", "m:latest"]


def test_case_is_folded_for_the_whole_name_only(catalog: Catalog) -> None:
    catalog.write(name("Some/Foo:V1"), b"")
    catalog.write(name("library/A"), b"")
    assert catalog.spelling(name("sOME/fOO:v1")) == name("Some/Foo:V1")
    assert catalog.spelling(name("a")) == name("A")
    for stranger in ("Some/foo:v2", "Some/a:v1", "host/library/a", "Foo"):
        assert catalog.spelling(name(stranger)) is None


def test_the_exact_name_comes_first(catalog: Catalog) -> None:
    for text in ("foo", "FOO", "Foo"):
        catalog.write(name(text), b"")
    for text in ("foo", "FOO", "Foo"):
        assert catalog.spelling(name(text)) == name(text)


def test_removing_leaves_no_empty_folders(catalog: Catalog, folder: Path) -> None:
    for text in ("h/n/m:a", "h/n/m:b", "h/x/m:a"):
        catalog.write(name(text), b"")
    catalog.remove(name("h/n/m:a"))
    assert files(folder) == {"h/n/m/b", "h/x/m/a"}
    catalog.remove(name("h/n/m:b"))
    assert os.listdir(folder / "h") == ["x"]
    catalog.remove(name("h/x/m:a"))
    assert os.listdir(folder) == []


def test_a_full_disk_leaves_the_old_manifest(catalog: Catalog, folder: Path) -> None:
    catalog.write(name("m"), b"old")
    with largest_file(3), pytest.raises(StoreError, match="cannot write a model: File too large"):
        catalog.write(name("m"), b"newer")
    assert catalog.read(name("m")).data == b"old"
    assert files(folder) == {"registry.ollama.ai/library/m/latest"}


def test_a_name_that_a_file_is_in_the_way_of(catalog: Catalog, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "h").touch()
    with pytest.raises(StoreError) as caught:
        catalog.write(name("h/n/m"), b"")
    assert str(folder) not in str(caught.value)


def test_the_longest_names_can_be_stored(catalog: Catalog) -> None:
    longest = ModelName("h" * 255, "n" * 80, "m" * 80, "t" * 80)
    catalog.write(longest, b"x")
    assert list(catalog.names()) == [longest]


def test_tidying(catalog: Catalog, folder: Path) -> None:
    catalog.write(name("h/n/m:a"), b"")
    (folder / "e" / "m" / "pty").mkdir(parents=True)
    (folder / ".incoming-abandoned").touch()
    used = PendingFile(folder, ".incoming-")
    catalog.tidy(time.time() + 60)
    assert len(os.listdir(folder)) == 2
    used.publish(folder / "published")
    used.close()
    (folder / "published").unlink()
    assert sorted(os.listdir(folder)) == ["h"]
    assert names(catalog) == ["h/n/m:a"]
