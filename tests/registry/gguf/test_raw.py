"""Headers taken apart and put together again by their bytes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.gguf import GGUFArray, GGUFError, read_header
from registry.gguf.raw import Value, cut_array, decode_scalar, encode_header, encode_value, read_entries
from registry.gguf.types import ARRAY, FLOAT32, INT32, UINT8
from tests.registry.gguf import files

TEXTS = files.uint32(ARRAY) + files.array(files.STRING, 3, files.text("a") + files.text("") + files.text("你"))
NUMBERS = files.uint32(ARRAY) + files.array(files.UINT8, 3, b"\1\2\3")


def test_every_type_is_kept(tmp_path: Path) -> None:
    data = files.small_model()
    header = files.read(tmp_path / "m.gguf", data)
    entries = dict(read_entries(tmp_path / "m.gguf", header))
    assert list(entries) == list(header.metadata)
    assert encode_header(entries, header.tensors, 64) == data[: header.data_offset]


@pytest.mark.parametrize(
    ("value", "read"),
    [(True, True), (7, 7), (0.5, 0.5), ("grüße", "grüße"), ([-1, 2], [-1, 2]), ([0.5], [0.5]), (b"\0\xff", [0, 255])],
)
def test_values_are_read_as_they_were_written(tmp_path: Path, value: Value, read: Value) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(encode_header({"general.architecture": encode_value("x"), "key": encode_value(value)}, [], 32))
    found = read_header(path).metadata["key"]
    assert (found.values() if isinstance(found, GGUFArray) else found) == read
    if isinstance(found, GGUFArray):
        kinds = {bytes: UINT8, float: FLOAT32, int: INT32}
        assert found.kind == kinds[bytes if isinstance(value, bytes) else type(found.values()[0])]


@given(st.booleans() | st.integers(0, (1 << 32) - 1) | st.floats(width=32, allow_nan=False) | st.text())
def test_scalars(value: bool | int | float | str) -> None:
    assert decode_scalar(encode_value(value)) == value
    assert decode_scalar(NUMBERS) is None


@pytest.mark.parametrize("value", [-1, 1 << 32, [1 << 31], 1e39])
def test_a_number_that_has_no_place(value: Value) -> None:
    with pytest.raises(GGUFError, match="has no place in 32 bits"):
        encode_value(value)


def test_arrays_are_cut() -> None:
    assert cut_array(TEXTS, 2) == files.uint32(ARRAY) + files.array(files.STRING, 2, files.text("a") + files.text(""))
    assert cut_array(NUMBERS, 1) == files.uint32(ARRAY) + files.array(files.UINT8, 1, b"\1")


@pytest.mark.parametrize("value", [TEXTS, NUMBERS, encode_value("text"), encode_value(7)])
def test_what_is_not_too_long_stays(value: bytes) -> None:
    assert cut_array(value, 3) == value


def test_a_file_that_has_gone(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    header = files.read(path, files.small_model())
    path.unlink()
    with pytest.raises(FileNotFoundError):
        list(read_entries(path, header))
