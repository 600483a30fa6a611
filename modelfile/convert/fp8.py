"""Weights of 8 bits with scales, as DeepSeek, transformers, compressed-tensors and ModelOpt write them.

A weight is its 8-bit number times a scale. There is one scale for all of a matrix, for each of its rows, or for each
block of rows and columns. The scales are a tensor beside the weight, and are factors also where its name says `inv`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from modelfile.convert.config import Config, whole
from modelfile.convert.errors import ConvertError
from modelfile.convert.tensor import Array

Blocks = tuple[int, int]
"""Rows and columns that share a scale."""

_USUAL_BLOCKS: Blocks = (128, 128)
_SETTINGS = ("quantization_config", "compression_config", "quantization")
_UNUSED = (
    *(".input_scale", ".input_scale_ub", ".activation_scale", ".output_scale", ".qscale_act"),
    *(".q_scale", ".k_scale", ".v_scale", ".kv_scale", ".prob_scale"),
)


def is_unused(name: str) -> bool:
    """Whether a tensor is a scale for computations, or a cache, in 8 bits."""
    return name.endswith(_UNUSED)


def scale_name(weight: str, names: Collection[str]) -> str | None:
    """The name of a weight's scales, None if it has none. Raises ConvertError if there is a choice."""
    candidates = [f"{weight}{end}" for end in ("_scale", "_scale_inv", ".scale", ".scale_inv")]
    if weight.endswith(".weight"):
        module = weight.removesuffix("weight")
        candidates += [f"{module}{name}" for name in ("scale", "scale_inv", "qscale_weight")]
    found = [name for name in candidates if name in names]
    if len(found) > 1:
        raise ConvertError(f"tensor '{weight}' has two tensors of scales: '{found[0]}' and '{found[1]}'")
    return found[0] if found else None


def is_quantized(config: Config) -> bool:
    """Whether the settings tell of a quantisation, so that weights without scales are not whole."""
    return any(isinstance(config.get(name), dict) for name in _SETTINGS)


def read_blocks(config: Config) -> Blocks:
    """The blocks that the settings name, else the usual ones. Raises ConvertError if they make no sense."""
    named = [_blocks(config, value) for name in _SETTINGS for value in _block_settings(config.get(name))]
    if len(set(named)) > 1:
        raise ConvertError(f"{config.name}: the weights have blocks of different sizes")
    return named[0] if named else _USUAL_BLOCKS


def _block_settings(settings: Any) -> Iterator[Any]:
    if not isinstance(settings, dict):
        return
    groups = settings.get("config_groups")
    weights = [group.get("weights") for group in _dicts(groups.values() if isinstance(groups, dict) else ())]
    found = [settings.get("weight_block_size"), *(each.get("block_structure") for each in _dicts(weights))]
    yield from (value for value in found if value is not None)
    yield from ([1, each["group_size"]] for each in _dicts(weights) if each.get("strategy") == "group")


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
    """How many values share a scale along each dimension of a weight. Raises ConvertError if the shapes do not fit."""
    full = aligned(scales, len(weight))
    wanted = (*(1,) * (len(weight) - 2), *blocks)[-len(weight) :]
    if len(full) != len(weight):
        raise ConvertError(f"scales of the shape {list(scales)} do not fit a weight of the shape {list(weight)}")
    shared = []
    for size, count, block in zip(weight, full, wanted, strict=True):
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
    """The shape of scales in as many dimensions as their weight: those that are left out are the last ones."""
    return scales + (1,) * (dimensions - len(scales))


def decode(numbers: Array, kind: str, scales: Array, shared: tuple[int, ...], start: int) -> Array:
    """Rows of a weight from `start` on, in F32. `numbers` are their bytes, `scales` those of the whole weight."""
    spread = scales
    for axis, (size, count) in enumerate(zip(numbers.shape, shared, strict=True)):
        first = start if axis == 0 else 0
        if scales.shape[axis] > 1:
            spread = spread.take(np.arange(first, first + size) // count, axis)
    values: Array = TABLES[kind][numbers]
    values *= spread
    return values


def _e4m3() -> Array:
    """The 256 values of 4 bits of exponent and 3 of mantissa: no infinity, one NaN of each sign."""
    byte = np.arange(256)
    exponent, mantissa = byte >> 3 & 15, byte & 7
    values = np.where(exponent == 0, np.ldexp(mantissa, -9), np.ldexp(8.0 + mantissa, exponent - 10))
    values[byte & 127 == 127] = np.nan
    signed: Array = np.where(byte & 128, -values, values).astype(np.float32)
    return signed


def _e5m2() -> Array:
    """The 256 values of 5 bits of exponent and 2 of mantissa, which are the upper halves of F16."""
    values: Array = (np.arange(256, dtype=np.uint16) << 8).view(np.float16).astype(np.float32)
    return values


def _e8m0() -> Array:
    """The 255 powers of two that serve as scales, and NaN."""
    return np.append(np.ldexp(1.0, np.arange(255) - 127), np.nan).astype(np.float32)


TABLES = {"F8_E4M3": _e4m3(), "F8_E5M2": _e5m2()}
"""What each byte of a weight means, by the name that a file of safetensors has for the type."""
SCALES = {"F8_E8M0": _e8m0(), "U8": _e8m0()}
"""What each byte of a scale means; scales may be in an ordinary type too."""
