"""Files by name, whatever they are called on disk."""

from pathlib import Path

import pytest

from modelfile.convert import ConvertError
from modelfile.convert.files import MOST_BYTES, Files


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A few files as blobs have them: names of their own."""
    contents = {"config.json": b'{"a": NaN, "b": 1}', "modules.json": b"[]", "bad.json": b"{", "x/in.json": b"{}"}
    paths = {}
    for number, (name, content) in enumerate(contents.items()):
        paths[name] = tmp_path / f"sha256-{number}"
        paths[name].write_bytes(content)
    return Files(paths | {"gone.json": tmp_path / "nowhere", "latin.txt": paths["config.json"]})


def test_reading(files: Files) -> None:
    assert files.object("config.json") == {"a": 0.0, "b": 1}
    assert files.array("modules.json") == []
    assert files.object_if_there("other.json") == {}
    assert files.names(".json") == ["bad.json", "config.json", "gone.json", "modules.json"]
    assert "x/in.json" in files


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other.json", "open other.json: no such file or directory"),
        ("../config.json", "open ../config.json: no such file or directory"),
        ("gone.json", "open gone.json: No such file or directory"),
        ("modules.json", "parse modules.json: not an object"),
        ("bad.json", "parse bad.json: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
    ],
)
def test_what_is_not_there_or_no_json(name: str, message: str, files: Files) -> None:
    with pytest.raises(ConvertError) as error:
        files.object(name)
    assert str(error.value) == message


def test_texts_are_utf8(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"\xff")
    with pytest.raises(ConvertError, match=r"a\.txt is not UTF-8"):
        Files({"a.txt": tmp_path / "blob"}).text("a.txt")


def test_large_and_deep_files(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    (tmp_path / "deep").write_text("[" * 200_000)
    with pytest.raises(ConvertError, match=r"large\.json is too large"):
        Files({"large.json": tmp_path / "large"}).object("large.json")
    with pytest.raises(ConvertError, match=r"parse deep\.json: "):
        Files({"deep.json": tmp_path / "deep"}).object("deep.json")
