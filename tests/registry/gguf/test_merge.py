"""Several GGUF files as one: the same metadata, the same tensors, and a model that can be loaded."""

from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import pytest

from registry.bundled import MODELS
from registry.gguf import GGUFError, read_header
from registry.gguf.merge import merged
from registry.names import ModelName
from tests.registry.gguf import files

WHOLE = MODELS[ModelName.parse("tinychat")].path


def split(source: Path, folder: Path, most: int) -> list[Path]:
    """The parts of a model, with at most so many tensors each."""
    reader = gguf.GGUFReader(source)
    architecture = str(reader.fields["general.architecture"].contents())
    writer = gguf.GGUFWriter(folder / "part.gguf", architecture, split_max_tensors=most)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            kind, inner = field.types[0], field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(field.name, field.contents(), kind, inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.asarray(tensor.data), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob("part-*.gguf"))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return split(WHOLE, tmp_path_factory.mktemp("parts"), 20)


def write(parts: list[Path], path: Path) -> Path:
    path.write_bytes(b"".join(merged(parts)))
    return path


def test_the_same_model(parts: list[Path], tmp_path: Path) -> None:
    assert len(parts) > 2
    whole, one = gguf.GGUFReader(WHOLE), gguf.GGUFReader(write(parts[::-1], tmp_path / "one.gguf"))
    assert [tensor.name for tensor in one.tensors] == [tensor.name for tensor in whole.tensors]
    for mine, theirs in zip(one.tensors, whole.tensors, strict=True):
        assert (mine.tensor_type, list(mine.shape)) == (theirs.tensor_type, list(theirs.shape))
        assert np.array_equal(mine.data, theirs.data)
    entries, expected = (
        {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
        for reader in (one, whole)
    )
    assert entries == expected


def test_it_can_be_loaded(parts: list[Path], tmp_path: Path) -> None:
    model = llama_cpp.Llama(str(write(parts, tmp_path / "one.gguf")), n_ctx=64, verbose=False)
    whole = llama_cpp.Llama(str(WHOLE), n_ctx=64, verbose=False)
    texts = [
        llama("Hello", max_tokens=8, temperature=0)["choices"][0]["text"]  # type: ignore[index]
        for llama in (model, whole)
    ]
    assert texts[0] == texts[1]


def part(number: int, count: int, name: str, data: bytes, alignment: int = 32) -> bytes:
    entries = [
        files.entry("general.architecture", files.STRING, files.text("test")),
        files.entry("split.no", files.UINT16, number.to_bytes(2, "little")),
        files.entry("split.count", files.UINT16, count.to_bytes(2, "little")),
        files.entry("words", files.ARRAY, files.array(files.STRING, 2, files.text("a") + files.text("bc"))),
        files.entry("numbers", files.ARRAY, files.array(files.UINT32, 1, files.uint32(7))),
        files.entry("general.alignment", files.UINT32, files.uint32(alignment)),
    ]
    return files.File(entries, [files.tensor(name, [len(data)], files.I8)], data, alignment=alignment).build()


def saved(folder: Path, *contents: bytes) -> list[Path]:
    paths = [folder / f"{number}.gguf" for number in range(len(contents))]
    for path, data in zip(paths, contents, strict=True):
        path.write_bytes(data)
    return paths


def test_tensors_of_odd_sizes(tmp_path: Path) -> None:
    paths = saved(tmp_path, part(0, 2, "a", b"x" * 33), part(1, 2, "b", b"y" * 7))
    path = write(paths, tmp_path / "one")
    header = read_header(path)
    assert set(header.metadata) == {"general.architecture", "words", "numbers", "general.alignment"}
    assert header.metadata["words"].values() == ["a", "bc"]
    places = [(tensor.name, tensor.offset, tensor.size) for tensor in header.tensors]
    assert places == [("a", 0, 33), ("b", 64, 7)]
    assert path.read_bytes()[header.data_offset :] == b"x" * 33 + bytes(31) + b"y" * 7 + bytes(25)


@pytest.mark.parametrize(
    ("contents", "problem"),
    [
        ((part(0, 2, "a", b"x"),), "do not belong together"),
        ((part(0, 2, "a", b"x"), part(0, 2, "b", b"x")), "do not belong together"),
        ((part(0, 2, "a", b"x"), part(1, 3, "b", b"x")), "do not belong together"),
        ((part(0, 2, "a", b"x"), part(1, 2, "b", b"x", 64)), "aligned differently"),
        ((part(0, 2, "a", b"x"), b"GGUF"), "unexpected EOF"),
    ],
)
def test_what_is_not_one_model(tmp_path: Path, contents: tuple[bytes, ...], problem: str) -> None:
    with pytest.raises(GGUFError, match=problem):
        b"".join(merged(saved(tmp_path, *contents)))
