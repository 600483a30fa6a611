"""The tables of the format, against those of its reference implementation."""

import ctypes
from pathlib import Path

import gguf
import llama_cpp
import llama_cpp.llama_cpp as C
import pytest
from gguf.constants import GGML_QUANT_SIZES

from registry.gguf.types import FILE_TYPES, TENSOR_TYPES, parameter_size

Q8_1_AS_PACKED = 36
"""Two halves and 32 bytes. The reference says 40, which is the older form; it is never in a file."""


def test_tensor_types() -> None:
    reference = {int(kind): (kind.name, *size) for kind, size in GGML_QUANT_SIZES.items()}
    reference[gguf.GGMLQuantizationType.Q8_1] = ("Q8_1", 32, Q8_1_AS_PACKED)
    assert {number: reference[number] for number in TENSOR_TYPES if number in reference} == {
        number: tuple(kind) for number, kind in TENSOR_TYPES.items() if number in reference
    }
    assert not set(reference) - set(TENSOR_TYPES)


def test_tensor_types_are_those_of_the_library() -> None:
    """Of the one that is installed: its sizes for every type that it has, and no type that it lacks."""
    library = ctypes.CDLL(str(next(Path(llama_cpp.__file__).parent.glob("lib/libggml-base.*"))))
    library.ggml_blck_size.restype, library.ggml_type_size.restype = ctypes.c_int64, ctypes.c_size_t
    numbers = [number for number in range(C.GGML_TYPE_COUNT) if library.ggml_blck_size(number)]
    sizes = {number: (library.ggml_blck_size(number), library.ggml_type_size(number)) for number in numbers}
    assert sizes == {number: (kind.block, kind.size) for number, kind in TENSOR_TYPES.items()}


def test_file_types() -> None:
    for kind in gguf.LlamaFileType:
        if kind.value in FILE_TYPES:
            assert kind.name in (f"ALL_{FILE_TYPES[kind]}", f"MOSTLY_{FILE_TYPES[kind]}")
    assert len(set(FILE_TYPES.values())) == len(FILE_TYPES) == 36


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1500, "2K"),
        (10500, "10K"),
        (999500, "1000K"),
        (1005000, "1.00M"),
        (22713216, "22.71M"),
        (494032768, "494.03M"),
        (999999999, "1000.00M"),
        (10**9, "1B"),
        (1049999999, "1.0B"),
        (7615616512, "7.6B"),
        (8030261312, "8.0B"),
        (70553706496, "70.6B"),
        (10**12, "1000B"),
    ],
)
def test_parameter_sizes(count: int, text: str) -> None:
    assert parameter_size(count) == text
