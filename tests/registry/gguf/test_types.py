"""The tables of the format, against those of its reference implementation."""

import gguf
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


def test_file_types() -> None:
    for kind in gguf.LlamaFileType:
        if kind.value in FILE_TYPES:
            assert kind.name in (f"ALL_{FILE_TYPES[kind]}", f"MOSTLY_{FILE_TYPES[kind]}")
    assert len(set(FILE_TYPES.values())) == len(FILE_TYPES) == 35


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
