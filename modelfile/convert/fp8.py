"""FP8 weights with scales, as written by DeepSeek, transformers, compressed-tensors and ModelOpt.

A weight is its FP8 number times a scale. There is one scale per matrix, per row, or per block of rows and columns. The
scales are a tensor beside the weight, and are factors even if its name says `inv`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from modelfile.convert.config import Config, whole
from modelfile.convert.errors import ConvertError
from modelfile.convert.tensor import Array

Blocks = tuple[int, int]
"""(rows, columns) that share a scale."""

_USUAL_BLOCKS: Blocks = (128, 128)
_SETTINGS = ("quantization_config", "compression_config", "quantization")
_UNUSED = (
    *(".input_scale", ".input_scale_ub", ".activation_scale", ".output_scale", ".qscale_act"),
    *(".q_scale", ".k_scale", ".v_scale", ".kv_scale", ".prob_scale"),
)


def is_unused(name: str) -> bool:
    """Whether a tensor is a scale for FP8 activations or an FP8 KV cache."""
    return name.endswith(_UNUSED)


def scale_name(weight: str, names: Collection[str]) -> str | None:
    """The name of a weight's scale tensor, or None. Raises ConvertError if there are two."""
    candidates = [f"{weight}{end}" for end in ("_scale", "_scale_inv", ".scale", ".scale_inv")]
    if weight.endswith(".weight"):
        module = weight.removesuffix("weight")
        candidates += [f"{module}{name}" for name in ("scale", "scale_inv", "qscale_weight")]
    scales = [name for name in candidates if name in names]
    if len(scales) > 1:
        raise ConvertError(f"tensor '{weight}' has two tensors of scales: '{scales[0]}' and '{scales[1]}'")
    return scales[0] if scales else None


def is_quantized(config: Config) -> bool:
    """Whether the settings describe a quantization, so that every FP8 weight needs scales."""
    return any(isinstance(config.get(name), dict) for name in _SETTINGS)


def read_blocks(config: Config) -> Blocks:
    """The block size in the settings, else 128 by 128. Raises ConvertError if it is invalid or ambiguous."""
    named = [_blocks(config, value) for name in _SETTINGS for value in _block_settings(config.get(name))]
    if len(set(named)) > 1:
        raise ConvertError(f"{config.name}: the weights have blocks of different sizes")
    return named[0] if named else _USUAL_BLOCKS


def _block_settings(settings: Any) -> Iterator[Any]:
    if not isinstance(settings, dict):
        return
    groups = settings.get("config_groups")
    weights = [group.get("weights") for group in _dicts(groups.values() if isinstance(groups, dict) else ())]
    values = [settings.get("weight_block_size"), *(weight.get("block_structure") for weight in _dicts(weights))]
    yield from (value for value in values if value is not None)
    yield from ([1, weight["group_size"]] for weight in _dicts(weights) if weight.get("strategy") == "group")


def _dicts(values: Any) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)]


def _blocks(config: Config, value: Any) -> Blocks:
    what = f"{config.name}: the size of a block"
    sizes = [whole(what, size) for size in value] if isinstance(value, list) else []
    match sizes:
        case [int(rows), int(columns)] if rows and columns:
            return rows, columns
    raise ConvertError(f"{what} is no pair of numbers")


def shared_by(weight: tuple[int, ...], scales: tuple[int, ...], blocks: Blocks) -> tuple[int, ...]:
    """How many values share a scale, per dimension of the weight. Raises ConvertError if the shapes do not fit."""
    full = aligned(scales, len(weight))
    expected = (*(1,) * (len(weight) - 2), *blocks)[-len(weight) :]
    if len(full) != len(weight):
        raise ConvertError(f"scales of the shape {list(scales)} do not fit a weight of the shape {list(weight)}")
    shared = []
    for size, count, block in zip(weight, full, expected, strict=True):
        if count == 1:
            shared.append(size)
        elif count == size:
            shared.append(1)
        elif count == -(-size // block):
            shared.append(block)
        else:
            raise ConvertError(f"scales of the shape {list(scales)} do not fit a weight of the shape {list(weight)}")
    return tuple(shared)


def aligned(scales: tuple[int, ...], dimensions: int) -> tuple[int, ...]:
    """The shape of scales, extended to `dimensions` with trailing ones."""
    return scales + (1,) * (dimensions - len(scales))


def decode(numbers: Array, kind: str, scales: Array, shared: tuple[int, ...], start: int) -> Array:
    """Decode rows of a weight to F32. `numbers` are the bytes of rows from `start` on, `scales` the whole weight's."""
    spread = scales
    for axis, (size, count) in enumerate(zip(numbers.shape, shared, strict=True)):
        first = start if axis == 0 else 0
        if scales.shape[axis] > 1:
            spread = spread.take(np.arange(first, first + size) // count, axis)
    values: Array = TABLES[kind][numbers]
    values *= spread
    return values


def _e4m3() -> Array:
    """The 256 values of E4M3 (finite: no infinity, one NaN per sign)."""
    byte = np.arange(256)
    exponent, mantissa = byte >> 3 & 15, byte & 7
    values = np.where(exponent == 0, np.ldexp(mantissa, -9), np.ldexp(8.0 + mantissa, exponent - 10))
    values[byte & 127 == 127] = np.nan
    signed: Array = np.where(byte & 128, -values, values).astype(np.float32)
    return signed


def _e5m2() -> Array:
    """The 256 values of E5M2, the upper halves of F16."""
    values: Array = (np.arange(256, dtype=np.uint16) << 8).view(np.float16).astype(np.float32)
    return values


def _e8m0() -> Array:
    """The 256 values of E8M0: powers of two, and NaN."""
    return np.append(np.ldexp(1.0, np.arange(255) - 127), np.nan).astype(np.float32)


TABLES = {"F8_E4M3": _e4m3(), "F8_E5M2": _e5m2()}
"""The value of each byte of a weight, by safetensors' name of the type."""
SCALES = {"F8_E8M0": _e8m0(), "U8": _e8m0()}
"""The value of each byte of a scale; scales may also have an ordinary type."""
