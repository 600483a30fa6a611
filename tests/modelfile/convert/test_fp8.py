"""Checkpoints with weights of 8 bits: each value as a calculation of this test's own has it, number by number."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from numpy.typing import NDArray

from modelfile.convert import ConvertError, UnsupportedType, convert
from tests.modelfile.convert.checkpoints import (
    files_in,
    random_weights,
    with_header,
    write_byte_tokenizer,
    write_json,
)
from tests.modelfile.convert.shapes import decoder_shapes
from tests.modelfile.convert.test_checkpoint import change_header
from tests.modelfile.convert.test_families import CASES, SIZES
from tests.modelfile.convert.test_golden import metadata, quiet

Stored = tuple[str, NDArray[Any]]
"""A tensor in a file: its type there, and its values, those that numpy does not know as their bits."""
Spread = Callable[[int, int], tuple[int, int]]
"""Which scale belongs to the value in a row and a column."""

WEIGHT = "model.layers.1.mlp.down_proj.weight"
NAMES = {
    "blk.1.ffn_down.weight": WEIGHT,
    "blk.0.attn_v.weight": "model.layers.0.self_attn.v_proj.weight",
}


def e4m3(byte: int) -> float:
    exponent, mantissa = byte >> 3 & 15, byte & 7
    value = math.ldexp(mantissa, -9) if exponent == 0 else math.ldexp(8 + mantissa, exponent - 10)
    return -value if byte & 128 else value


def e5m2(byte: int) -> float:
    exponent, mantissa = byte >> 2 & 31, byte & 3
    value = math.ldexp(mantissa, -16) if exponent == 0 else math.ldexp(4 + mantissa, exponent - 17)
    return -value if byte & 128 else value


def nearest_bfloat16(value: float) -> float:
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(mantissa * 256), exponent - 8)


def expected(
    numbers: NDArray[Any], decode: Callable[[int], float], scales: NDArray[Any], spread: Spread
) -> list[float]:
    """The values of a matrix, row by row."""
    rows, columns = numbers.shape
    return [
        nearest_bfloat16(float(np.float32(decode(int(numbers[row, column]))) * scales[spread(row, column)]))
        for row in range(rows)
        for column in range(columns)
    ]


def write(folder: Path, tensors: dict[str, Stored], file: str = "model.safetensors") -> None:
    """One file of safetensors with tensors of any type."""
    header: dict[str, Any] = {}
    data = b""
    for name, (dtype, values) in tensors.items():
        start, data = len(data), data + values.tobytes()
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [start, len(data)]}
    (folder / file).write_bytes(with_header(header, data))


def checkpoint(folder: Path, case: str = "qwen3", dtype: str = "F8_E4M3", **config: Any) -> dict[str, Stored]:
    """A small checkpoint whose linear layers have 8 bits and no scales yet; settings and vocabulary are written."""
    settings = SIZES | CASES[case] | {"vocab_size": write_byte_tokenizer(folder)} | config
    write_json(folder / "config.json", settings)
    random = np.random.default_rng(5)
    tensors: dict[str, Stored] = {}
    for name, values in random_weights(decoder_shapes(settings)).items():
        if name.endswith("_proj.weight"):
            finite = [byte for byte in range(256) if byte & 127 < (0x7F if dtype == "F8_E4M3" else 0x7C)]
            tensors[name] = dtype, random.choice(finite, values.shape).astype(np.uint8)
        else:
            tensors[name] = "F32", values
    return tensors


def scaled(tensors: dict[str, Stored], suffix: str, shape: Callable[[tuple[int, ...]], tuple[int, ...]]) -> None:
    """Give all weights of 8 bits scales."""
    random = np.random.default_rng(6)
    for name in [name for name, (dtype, _) in tensors.items() if dtype.startswith("F8")]:
        scales = random.uniform(0.001, 0.02, shape(tensors[name][1].shape)).astype(np.float32)
        tensors[name.removesuffix(".weight") + suffix] = "F32", scales


def blocks(rows: int, columns: int) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
    return lambda shape: (-(-shape[0] // rows), -(-shape[1] // columns))


def group(**weights: Any) -> dict[str, Any]:
    """Settings of compressed-tensors."""
    weights = {"num_bits": 8, "type": "float"} | weights
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": weights}}}


FORMATS: dict[str, tuple[dict[str, Any] | None, str, Any, Spread]] = {
    "blocks": (
        {"quant_method": "fp8", "weight_block_size": [24, 40]},
        ".weight_scale_inv",
        blocks(24, 40),
        lambda row, column: (row // 24, column // 40),
    ),
    "compressed blocks": (
        group(strategy="block", block_structure=[16, 48]),
        ".weight_scale",
        blocks(16, 48),
        lambda row, column: (row // 16, column // 48),
    ),
    "compressed groups": (
        group(strategy="group", group_size=32),
        ".weight_scale",
        blocks(1, 32),
        lambda row, column: (row, column // 32),
    ),
    "rows": (group(strategy="channel"), ".weight_scale", lambda s: (s[0], 1), lambda row, column: (row, 0)),
    "flat rows": ({"quant_method": "fbgemm_fp8"}, ".weight_scale", lambda s: s[:1], lambda row, column: (row,)),
    "one": ({"quant_method": "modelopt"}, ".weight_scale", lambda s: (1,), lambda row, column: (0,)),
    "a number": ({"quant_method": "fp8"}, ".weight_scale_inv", lambda s: (), lambda row, column: ()),
    "unsaid": (None, ".scale", blocks(128, 128), lambda row, column: (row // 128, column // 128)),
    "qscale": (None, ".qscale_weight", lambda s: (), lambda row, column: ()),
}


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
@pytest.mark.parametrize("form", FORMATS)
def test_values(form: str, dtype: str, tmp_path: Path) -> None:
    settings, suffix, shape, spread = FORMATS[form]
    sizes = {"hidden_size": 192, "intermediate_size": 200}  # more than one block, and not whole ones
    config = sizes | ({} if settings is None else {"quantization_config": settings})
    tensors = checkpoint(tmp_path, dtype=dtype, **config)
    scaled(tensors, suffix, shape)
    tensors["model.layers.0.mlp.down_proj.input_scale"] = "F32", np.ones((), np.float32)
    tensors["model.layers.0.self_attn.k_scale"] = "F32", np.ones((1,), np.float32)
    write(tmp_path, tensors)
    info = convert(files_in(tmp_path), tmp_path / "out.gguf", quiet)
    assert info.file_type == 32
    assert metadata(tmp_path / "out.gguf")["source_quantization"] == "hf_fp8"
    found = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "out.gguf").tensors}
    decode = e4m3 if dtype == "F8_E4M3" else e5m2
    for name, source in NAMES.items():
        scales = tensors[source.removesuffix(".weight") + suffix][1]
        assert found[name].tensor_type.name == "BF16"
        bits = found[name].data.view(np.uint16).reshape(-1).astype(np.uint32) << 16
        assert bits.view(np.float32).tolist() == expected(tensors[source][1], decode, scales, spread)


def test_a_mixture_of_experts_in_several_files(tmp_path: Path) -> None:
    """The scales of a weight may be in another file; experts become one tensor."""
    tensors = checkpoint(tmp_path, "qwen3moe", quantization_config={"weight_block_size": [32, 32]})
    scaled(tensors, ".weight_scale_inv", blocks(32, 32))
    names = list(tensors)
    places = {name: f"model-{index % 2}.safetensors" for index, name in enumerate(names)}
    for file in set(places.values()):
        write(tmp_path, {name: tensors[name] for name in names if places[name] == file}, file)
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": places})
    convert(files_in(tmp_path), tmp_path / "out.gguf", quiet)
    found = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "out.gguf").tensors}
    bits = found["blk.2.ffn_up_exps.weight"].data.view(np.uint16).reshape(-1).astype(np.uint32) << 16
    values: list[float] = []
    for expert in range(4):
        source = f"model.layers.2.mlp.experts.{expert}.up_proj"
        scales = tensors[f"{source}.weight_scale_inv"][1]
        numbers = tensors[f"{source}.weight"][1]
        values += expected(numbers, e4m3, scales, lambda row, column: (row // 32, column // 32))
    assert bits.view(np.float32).tolist() == values


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [
        ("BF16", np.array([0x3C00], np.uint16)),
        ("F16", np.array([2**-7], np.float16)),
        ("F8_E8M0", np.array([120], np.uint8)),
        ("U8", np.array([120], np.uint8)),
    ],
)
def test_types_of_scales(dtype: str, bits: NDArray[Any], tmp_path: Path) -> None:
    tensors = checkpoint(tmp_path)
    scaled(tensors, ".weight_scale", lambda shape: (1,))
    tensors[WEIGHT.replace("weight", "weight_scale")] = dtype, bits
    write(tmp_path, tensors)
    convert(files_in(tmp_path), tmp_path / "out.gguf", quiet)
    found = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "out.gguf").tensors}
    values = found["blk.1.ffn_down.weight"].data.view(np.uint16).reshape(-1).astype(np.uint32) << 16
    one = np.full(1, 2**-7, np.float32)
    assert values.view(np.float32).tolist() == expected(tensors[WEIGHT][1], e4m3, one, lambda row, column: (0,))


def test_numbers_without_scales_are_the_values(tmp_path: Path) -> None:
    tensors = checkpoint(tmp_path)
    write(tmp_path, tensors)
    convert(files_in(tmp_path), tmp_path / "out.gguf", quiet)
    found = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "out.gguf").tensors}
    values = found["blk.1.ffn_down.weight"].data.view(np.uint16).reshape(-1).astype(np.uint32) << 16
    assert values.view(np.float32).tolist() == [e4m3(int(byte)) for byte in tensors[WEIGHT][1].reshape(-1)]


def fails(folder: Path, tensors: dict[str, Stored]) -> str:
    write(folder, tensors)
    with pytest.raises(ConvertError) as error:
        convert(files_in(folder), folder / "out.gguf", quiet)
    assert not (folder / "out.gguf").exists()
    return str(error.value)


def test_scales_that_are_missing_or_do_not_fit(tmp_path: Path) -> None:
    tensors = checkpoint(tmp_path, quantization_config={"quant_method": "fp8"})
    assert "has no scales" in fails(tmp_path, tensors)
    scaled(tensors, ".weight_scale", lambda shape: (1,))
    scale = WEIGHT.replace("weight", "weight_scale")
    assert f"tensor '{WEIGHT}' has no scales" in fails(tmp_path, {k: v for k, v in tensors.items() if k != scale})
    two = tensors | {f"{scale}_inv": tensors[scale]}
    assert f"tensor '{WEIGHT}' has two tensors of scales" in fails(tmp_path, two)
    for shape in ((7, 1), (2, 2, 2), (1, 3)):
        wrong = tensors | {scale: ("F32", np.ones(shape, np.float32))}
        assert f"tensor '{WEIGHT}': scales of the shape {list(shape)} do not fit" in fails(tmp_path, wrong)
    wrong = tensors | {scale: ("I32", np.ones((1,), np.int32))}
    assert f"the scales '{scale}' have the type I32" in fails(tmp_path, wrong)


@pytest.mark.parametrize("size", [[128], [0, 128], [-1, 1], "128", [1.5, 2], [1, 2, 3], [True, True]])
def test_blocks_that_make_no_sense(size: Any, tmp_path: Path) -> None:
    tensors = checkpoint(tmp_path, quantization_config={"weight_block_size": size})
    assert "config.json: the size of a block is no" in fails(tmp_path, tensors)


def test_blocks_of_several_sizes(tmp_path: Path) -> None:
    settings = group(block_structure=[128, 128]) | {"weight_block_size": [64, 64]}
    tensors = checkpoint(tmp_path, quantization_config=settings)
    assert "the weights have blocks of different sizes" in fails(tmp_path, tensors)


@pytest.mark.parametrize("dtype", ["I8", "U8", "I32", "F64", "BOOL", "F8_E4M3FNUZ", "F4", "MADE_UP"])
def test_a_type_that_is_not_supported_is_named(dtype: str, tmp_path: Path) -> None:
    """Also beside scales of 8 bits, as NVFP4 has them."""
    tensors = checkpoint(tmp_path, quantization_config={"quant_method": "modelopt"})
    scaled(tensors, ".weight_scale", lambda shape: (1,))
    name = "model.layers.0.mlp.down_proj.weight"
    rows, columns = tensors[name][1].shape
    tensors[name] = dtype, np.zeros((rows, columns), {"I32": np.int32, "F64": np.float64}.get(dtype, np.uint8))
    write(tmp_path, tensors)
    if dtype == "F4":  # two in a byte
        change_header(tmp_path / "model.safetensors", name, shape=[rows, 2 * columns])
    with pytest.raises(UnsupportedType) as error:
        convert(files_in(tmp_path), tmp_path / "out.gguf", quiet)
    assert f"the type {dtype}: only F32, F16, BF16, F8_E4M3 and F8_E5M2 can be converted" in str(error.value)
