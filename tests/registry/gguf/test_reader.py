"""Reading GGUF headers: what is in them, and that nothing in them does harm."""

from __future__ import annotations

import os
import struct
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry import bundled
from registry.gguf import GGUFArray, GGUFError, TensorInfo, read_header
from registry.gguf.cursor import MAX_HEADER, WINDOW
from registry.gguf.reader import (
    MAX_ELEMENTS,
    MAX_ENTRIES,
    MAX_KEY,
    MAX_TEXT,
)
from registry.names import Digest, ModelName
from tests.registry.gguf.files import (
    ARRAY,
    F16,
    F32,
    I8,
    I64,
    INT32,
    MOST,
    Q8_0,
    STRING,
    UINT8,
    UINT32,
    UINT64,
    File,
    array,
    entries_of_all_types,
    entry,
    read,
    read_everything,
    small_model,
    tensor,
    text,
    uint32,
    uint64,
)

TINYCHAT = bundled.MODELS[ModelName.parse("tinychat")].path
VOCABULARY = Path(__file__).parents[3] / "bench" / "data" / "qwen2-vocab.gguf"
TOKENS: GGUFArray = read_header(VOCABULARY).metadata["tokenizer.ggml.tokens"]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf") / "x.gguf"


def test_all_types(tmp_path: Path) -> None:
    header = read(tmp_path / "x", small_model())
    arrays = {key: value.values() for key, value in header.metadata.items() if isinstance(value, GGUFArray)}
    assert arrays == {"x.texts": ["a", "", "你"], "x.numbers": [-1, 2], "x.flags": [False, True], "x.none": []}
    assert len(header.metadata["x.texts"]) == 3
    scalars = [header.metadata[f"x.{form}"] for form in "BbHhIif?"]
    assert scalars == [1] * 8
    assert [type(value) for value in scalars] == [int] * 6 + [float, bool]
    assert [header.field(name) for name in ("Q", "q", "d", "text", "missing")] == [MOST, -1, 0.1, "grüße", None]
    assert header.tensors == (TensorInfo("a", "Q8_0", (32, 2), 0, 68), TensorInfo("b", "F32", (3,), 128, 12))
    assert (header.version, header.architecture, header.file_type) == (3, "x", "Q8_0")
    assert (header.parameter_count, header.parameter_size, header.data_offset % 64) == (67, "67", 0)


def test_version_2(tmp_path: Path) -> None:
    header = read(tmp_path / "x", File(entries_of_all_types(), version=2).build())
    assert (header.version, header.field("Q")) == (2, MOST)


def test_the_smallest_file(tmp_path: Path) -> None:
    data = File([entry("general.architecture", STRING, text("test"))], alignment=1).build()
    assert (len(data), Digest.of(data).hex[:8]) == (68, "89a2116c")
    header = read(tmp_path / "x", data)
    assert (header.architecture, header.parameter_size, header.file_type) == ("test", "0", "unknown")
    assert read(tmp_path / "y", File().build()).architecture == "unknown"


def test_the_bundled_model() -> None:
    header = read_header(TINYCHAT)
    assert (header.architecture, header.parameter_size, header.file_type) == ("qwen3", "4.07M", "Q8_0")
    assert len(header.tensors) == 68
    assert [header.field(name) for name in ("block_count", "context_length", "vocab_size")] == [6, 1024, 2048]
    last = max(header.tensors, key=lambda tensor: tensor.offset)
    assert header.data_offset + last.offset + last.size == TINYCHAT.stat().st_size
    tokens = header.metadata["tokenizer.ggml.tokens"].values()
    assert (len(tokens), tokens.count("<|im_end|>")) == (2048, 1)


def test_a_large_vocabulary() -> None:
    header = read_header(VOCABULARY)
    tokens, types = (header.metadata[f"tokenizer.ggml.{name}"] for name in ("tokens", "token_type"))
    assert len(tokens) == len(types) == len(tokens.values()) == 151936
    assert tokens.values()[:3] == ["!", '"', "#"]
    assert set(types.values()) <= set(range(1, 7))
    assert types.texts_at([0]) == {}


@settings(max_examples=10)
@given(st.sets(st.integers(0, 151935), max_size=9))
def test_some_texts_of_a_large_vocabulary(places: set[int]) -> None:
    texts = TOKENS.values()
    assert TOKENS.texts_at(places) == {place: texts[place] for place in places}


def test_texts_at_the_marks() -> None:
    texts = TOKENS.values()
    places = [number + step for number, _ in TOKENS.marks for step in (-1, 0, 1)]
    assert len(TOKENS.marks) == -(-TOKENS.size // WINDOW)
    assert TOKENS.texts_at(places) == {place: texts[place] for place in places if place >= 0}


@given(st.sets(st.integers(-2, 3)))
def test_some_texts_of_many(places: set[int]) -> None:
    with TemporaryDirectory() as folder:
        texts = read(Path(folder) / "x", small_model()).metadata["x.texts"]
        assert texts.texts_at(places) == {place: text for place, text in enumerate(["a", "", "你"]) if place in places}


def test_the_texts_that_nobody_wants_are_not_made() -> None:
    tokens = read_header(VOCABULARY).metadata["tokenizer.ggml.tokens"]
    tracemalloc.start()
    try:
        assert tokens.texts_at([151643, 0, 151936]) == {0: "!", 151643: "<|endoftext|>"}
        assert tracemalloc.get_traced_memory()[1] < 2 * WINDOW
    finally:
        tracemalloc.stop()


def test_a_file_that_is_cut_after_it_was_read(tmp_path: Path) -> None:
    texts = read(tmp_path / "x", small_model()).metadata["x.texts"]
    os.truncate(tmp_path / "x", texts.offset + 10)
    for values in (texts.values, lambda: texts.texts_at([2])):
        with pytest.raises(GGUFError, match="unexpected EOF"):
            values()
    (tmp_path / "x").unlink()
    with pytest.raises(FileNotFoundError):
        texts.texts_at([0])


def test_what_another_writer_wrote(tmp_path: Path) -> None:
    path = tmp_path / "x"
    writer = gguf.GGUFWriter(path, "llama")
    written: dict[str, Any] = {"a": 7, "b": -7, "c": True, "d": "text", "e": [1, 2, 3], "f": ["x", "y"], "g": 0.5}
    kinds = ("uint32", "int64", "bool", "string", "array", "array", "float64")
    for (key, value), kind in zip(written.items(), kinds, strict=True):
        getattr(writer, f"add_{kind}")(f"llama.{key}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    header = read_header(path)
    read_back = {key: value.values() if isinstance(value := header.field(key), GGUFArray) else value for key in written}
    assert read_back == written


def one(*sizes: int, kind: int = F32, offset: int = 0, data: bytes = b"", dims: int | None = None) -> bytes:
    """A file with one tensor."""
    return File(tensors=[tensor("t", sizes, kind, offset, dims)], data=data).build()


def two(first: int, second: int, data: int) -> bytes:
    """A file with two tensors of eight numbers at these offsets."""
    return File(tensors=[tensor("a", (8,), F32, first), tensor("b", (8,), F32, second)], data=bytes(data)).build()


def single(value: bytes) -> bytes:
    """A file with one entry."""
    return File([value]).build()


ALIGNMENT = "general.alignment"
BAD = {
    "empty": (b"", "not in GGUF format"),
    "short magic": (b"GGU", "not in GGUF format"),
    "magic only": (b"GGUF", "unexpected EOF"),
    "bad magic": (File(magic=b"FUGG").build(), "not in GGUF format"),
    "version 0": (File(version=0).build(), "unsupported GGUF version 0"),
    "version 1": (File(version=1).build(), "unsupported GGUF version 1"),
    "version of the future": (File(version=4).build(), "unsupported GGUF version 4"),
    "big endian": (File(version=3 << 24).build(), "big-endian"),
    "number of tensors": (File(n_tensors=MOST).build(), "entries"),
    "number of entries": (File(n_entries=MOST).build(), "entries"),
    "missing tensors": (File(n_tensors=10).build(), "unexpected EOF"),
    "missing entries": (File([entry("k", UINT8, b"1")], n_entries=2, alignment=1).build(), "unexpected EOF"),
    "key size": (single(text("k", MOST)), "unexpected EOF"),
    "long key": (single(entry("k" * (MAX_KEY + 1), UINT8, b"1")), "key longer"),
    "empty key": (single(entry("", UINT8, b"1")), "empty key"),
    "key that is no text": (single(entry(b"\xff", UINT8, b"1")), "not UTF-8"),
    "entry type": (single(entry("k", 13, bytes(64))), "invalid type 13"),
    "element type": (single(entry("k", ARRAY, array(13, 1, bytes(64)))), "invalid type 13"),
    "nested array": (single(entry("k", ARRAY, array(ARRAY, 1, array(UINT8, 1, b"1")))), "nested array"),
    "value size": (single(entry("k", STRING, text("v", MOST))), "unexpected EOF"),
    "array size": (single(entry("k", ARRAY, array(UINT64, MAX_ELEMENTS, bytes(64)))), "unexpected EOF"),
    "array overflow": (single(entry("k", ARRAY, array(UINT64, 1 << 61, bytes(64)))), "array elements"),
    "array of texts": (single(entry("k", ARRAY, array(STRING, 9, text("a") + bytes(16)))), "unexpected EOF"),
    "text in array": (single(entry("k", ARRAY, array(STRING, 2, text("a", MOST) + bytes(64)))), "unexpected EOF"),
    "duplicate key": (File([entry("k", UINT8, b"1")] * 2).build(), "duplicate key"),
    "alignment 13": (single(entry(ALIGNMENT, UINT32, uint32(13))), "alignment: 13"),
    "alignment 0": (single(entry(ALIGNMENT, UINT32, uint32(0))), "alignment: 0"),
    "alignment 1": (single(entry(ALIGNMENT, UINT32, uint32(1))), "alignment: 1"),
    "huge alignment": (single(entry(ALIGNMENT, UINT32, uint32(1 << 31))), "alignment"),
    "alignment of another type": (single(entry(ALIGNMENT, INT32, uint32(32))), "alignment"),
    "alignment array": (single(entry(ALIGNMENT, ARRAY, array(UINT32, 1, uint32(32)))), "alignment"),
    "name size": (File(tensors=[text("t", MOST)]).build(), "unexpected EOF"),
    "long name": (File(tensors=[tensor("t" * 64, (1,))], data=bytes(4)).build(), "tensor name longer"),
    "dimensions": (one(1, 1, 1, 1, 1, data=bytes(4)), 'tensor "t" dimensions 5 exceeds maximum 4'),
    "many dimensions": (one(1, dims=(1 << 32) - 1), "exceeds maximum"),
    "part of a block": (one(33, kind=Q8_0, data=bytes(68)), "impossible shape"),
    "no dimensions in a block": (one(kind=Q8_0, data=bytes(34)), "impossible shape"),
    "zero dimension": (one(0, data=bytes(4)), "impossible shape"),
    "negative dimension": (one(MOST, kind=I8, data=bytes(4)), "impossible shape"),
    "too many numbers": (one(1 << 32, 1 << 32, kind=I8), "impossible shape"),
    "too many bytes": (one(1 << 60, 1 << 2, kind=I64), "exceeds file size"),
    "bytes that wrap": (one(4, (1 << 30) - 1, (1 << 30) + 1), "exceeds file size"),
    "memory overflow": (one(0x7FFFFFFFFFFFFFC0, kind=I8), "exceeds file size"),
    "tensor type": (one(32, kind=9999, data=bytes(128)), "unknown type"),
    "tensor type of the past": (one(32, kind=4, data=bytes(128)), "unknown type"),
    "offset": (one(1, offset=1 << 40, data=bytes(4)), "exceeds file size"),
    "offset that wraps": (one(1, offset=MOST - 31, data=bytes(64)), "exceeds file size"),
    "offset out of line": (one(1, offset=1, data=bytes(64)), "invalid offset"),
    "offsets for another alignment": (two(0, 32, 96).replace(uint64(32), uint64(40)), "invalid offset"),
    "one tensor on another": (two(0, 0, 64), "invalid offset"),
    "tensors that overlap": (
        File(tensors=[tensor("a", (9,)), tensor("b", (8,), F32, 32)], data=bytes(64)).build(),
        "offset",
    ),
    "duplicate name": (
        File(tensors=[tensor("a", (8,)), tensor("a", (8,), F32, 32)], data=bytes(64)).build(),
        "duplicate",
    ),
    "not enough data": (one(8, data=bytes(31)), r'tensor "t" offset\+size \(96\) exceeds file size \(95\)'),
    "no data": (one(8), "exceeds file size"),
}


@pytest.mark.parametrize(("data", "problem"), BAD.values(), ids=BAD)
def test_what_is_refused(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(GGUFError, match=problem):
        read(tmp_path / "x", data)


def test_what_is_allowed(tmp_path: Path) -> None:
    for data in (
        one(data=bytes(4)),
        one(8, data=bytes(32)),
        two(32, 0, 64),
        two(0, 64, 96),
        one(2, 3, kind=F16, data=bytes(12)),
    ):
        read(tmp_path / "x", data)


def test_every_cut(tmp_path: Path) -> None:
    data = small_model()
    for end in range(len(data)):
        with pytest.raises(GGUFError):
            read(tmp_path / "x", data[:end])


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (array(UINT8, MAX_ELEMENTS + 1, b""), "array elements"),
        (array(STRING, MAX_ELEMENTS + 1, b""), "array elements"),
        (array(STRING, 1, uint64(MAX_HEADER)), "header larger"),
    ],
)
def test_a_large_file_does_not_lift_the_bounds(tmp_path: Path, value: bytes, problem: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(single(entry("k", ARRAY, value)))
    os.truncate(path, 1 << 40)
    with pytest.raises(GGUFError, match=problem):
        read_header(path)


def test_too_many_entries(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(File(n_entries=MAX_ENTRIES + 1).build())
    os.truncate(path, 1 << 30)
    with pytest.raises(GGUFError, match="entries"):
        read_header(path)


def test_long_texts_are_left_out(tmp_path: Path) -> None:
    entries = [entry("long", STRING, text(bytes(MAX_TEXT + 1))), entry("kept", STRING, text(bytes(MAX_TEXT)))]
    assert list(read(tmp_path / "x", File(entries).build()).metadata) == ["kept"]


def test_much_text_is_refused(tmp_path: Path) -> None:
    entries = [entry(str(number), STRING, text(bytes(MAX_TEXT))) for number in range(17)]
    with pytest.raises(GGUFError, match="bytes of text"):
        read(tmp_path / "x", File(entries).build())


def test_a_key_counts_although_its_value_is_left_out(tmp_path: Path) -> None:
    with pytest.raises(GGUFError, match="duplicate"):
        read(tmp_path / "x", File([entry("long", STRING, text(bytes(MAX_TEXT + 1)))] * 2).build())


def test_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(GGUFError, match="not a regular file"):
            read_header(path)
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "missing")


NUMBERS = st.sampled_from([0, 1, 7, 13, 32, 255, 1 << 31, (1 << 32) - 1, 1 << 61, 1 << 63, MOST]).map(uint64)
PIECES = st.binary(max_size=9) | NUMBERS | NUMBERS.map(lambda data: data[:4])


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(small_model())), st.integers(0, 9), PIECES), min_size=1, max_size=4))
def test_mutations(scratch: Path, changes: list[tuple[int, int, bytes]]) -> None:
    data = small_model()
    for at, cut, piece in changes:
        data = data[:at] + piece + data[at + cut :]
    read_everything(scratch, data)


@given(st.binary(max_size=300))
def test_noise(scratch: Path, data: bytes) -> None:
    read_everything(scratch, b"GGUF" + struct.pack("<IQQ", 3, 1, 3) + data)
