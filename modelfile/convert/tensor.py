"""Lazy tensors: read only when they are written, so that one at a time is in memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from modelfile.convert.errors import ConvertError

Array = NDArray[Any]
"""Values of a tensor; BF16, which numpy lacks, as uint16."""

DTYPES: dict[Type, np.dtype[Any]] = {Type.F32: np.dtype("<f4"), Type.F16: np.dtype("<f2"), Type.BF16: np.dtype("<u2")}


@dataclass(frozen=True, slots=True)
class LazyTensor:
    """A tensor read in parts along the first dimension. Shapes are numpy's (rows first)."""

    type: Type
    shape: tuple[int, ...]
    parts: tuple[Callable[[], Array], ...]

    @property
    def size(self) -> int:
        """Number of values."""
        return prod(self.shape)

    def read(self) -> Array:
        """All values."""
        if len(self.parts) == 1:
            return self.parts[0]()
        return np.concatenate([part().reshape(-1) for part in self.parts]).reshape(self.shape)

    def map(self, change: Callable[[Array], Array], shape: tuple[int, ...] | None = None) -> LazyTensor:
        """Apply a `change` that only moves values; `shape` is the new shape, if it changes."""
        return LazyTensor(self.type, shape or self.shape, (lambda: change(self.read()),))

    def compute(self, change: Callable[[Array], Array]) -> LazyTensor:
        """Apply a calculation in F32; the result is F32."""
        return LazyTensor(Type.F32, self.shape, (lambda: change(cast(self.read(), self.type, Type.F32)),))

    def stored_as(self, dtype: Type) -> LazyTensor:
        """The same values in another type."""
        parts = tuple(_cast_part(part, self.type, dtype) for part in self.parts)
        return LazyTensor(dtype, self.shape, parts) if dtype != self.type else self


def constant(values: Sequence[float]) -> LazyTensor:
    """An F32 tensor of these values."""
    array = np.array(values, np.float32)
    return LazyTensor(Type.F32, array.shape, (lambda: array,))


def stack(tensors: Sequence[LazyTensor]) -> LazyTensor:
    """Stack tensors along a new first dimension. Raises ConvertError if shapes or types differ."""
    first = tensors[0]
    if any((tensor.shape, tensor.type) != (first.shape, first.type) for tensor in tensors):
        raise ConvertError("tensors that belong together have different shapes or types")
    return LazyTensor(
        first.type, (len(tensors), *first.shape), tuple(part for tensor in tensors for part in tensor.parts)
    )


def join(tensors: Sequence[LazyTensor]) -> LazyTensor:
    """Concatenate the rows of tensors. Raises ConvertError if row shapes or types differ."""
    first = tensors[0]
    if any((tensor.shape[1:], tensor.type) != (first.shape[1:], first.type) for tensor in tensors):
        raise ConvertError("tensors that belong together have different shapes or types")
    rows = sum(tensor.shape[0] for tensor in tensors)
    return LazyTensor(first.type, (rows, *first.shape[1:]), tuple(part for tensor in tensors for part in tensor.parts))


def cast(values: Array, source: Type, dtype: Type) -> Array:
    """Convert values to another type, rounding to nearest. Raises ConvertError for overflow in F16."""
    if source == dtype:
        return values
    if dtype == Type.F32:
        return (values.astype(np.uint32) << 16).view(np.float32) if source == Type.BF16 else values.astype(np.float32)
    if dtype == Type.BF16:
        return _upper_halves(cast(values, source, Type.F32))
    with np.errstate(over="ignore"):
        half = cast(values, source, Type.F32).astype(np.float16)
    if np.isinf(half).any():
        raise ConvertError("a value is too large for F16")
    return half


def _upper_halves(values: Array) -> Array:
    """F32 to the bits of BF16, rounded half to even. NaN stays NaN."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    upper: Array = ((bits + (0x7FFF + (bits >> 16 & 1))) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), upper)


def _cast_part(part: Callable[[], Array], source: Type, dtype: Type) -> Callable[[], Array]:
    return lambda: cast(part(), source, dtype)


_ONE_EXPERT = re.compile(r"(?P<experts>.+\.experts)\.(?P<index>[0-9]{1,6})\.(?P<part>.+)")
_FUSED_EXPERTS = re.compile(r"(?P<experts>.+\.experts)\.(?P<part>gate_up_proj|down_proj)(?:\.weight)?")


def merge_experts(tensors: Mapping[str, LazyTensor], count: int) -> dict[str, LazyTensor]:
    """Stack the experts of each layer to one tensor, and split fused gate and up projections.

    `count` is the number of experts. Raises ConvertError if there are fewer or more.
    """
    merged: dict[str, LazyTensor] = {}
    groups: dict[str, dict[int, LazyTensor]] = {}
    for name, tensor in tensors.items():
        if one := _ONE_EXPERT.fullmatch(name):
            groups.setdefault(f"{one['experts']}.{one['part']}", {})[int(one["index"])] = tensor
        elif fused := _FUSED_EXPERTS.fullmatch(name):
            merged |= _split_fused(fused["experts"], fused["part"], tensor)
        else:
            merged[name] = tensor
    for name, experts in groups.items():
        if sorted(experts) != list(range(count)):
            raise ConvertError(f"tensor '{name}' is there for {len(experts)} experts of {count}")
        merged[name] = stack([experts[index] for index in range(count)])
    return merged


def _split_fused(experts: str, part: str, tensor: LazyTensor) -> dict[str, LazyTensor]:
    """Split a fused tensor: rows of the gate projection come before those of the up projection."""
    if part == "down_proj":
        return {f"{experts}.down_proj.weight": tensor}
    if len(tensor.shape) != 3 or tensor.shape[1] % 2:
        raise ConvertError(f"tensor '{experts}.{part}' has the shape {list(tensor.shape)}")
    half = tensor.shape[1] // 2
    shape = (tensor.shape[0], half, tensor.shape[2])

    def first(values: Array) -> Array:
        return values[:, :half]

    def second(values: Array) -> Array:
        return values[:, half:]

    return {
        f"{experts}.gate_proj.weight": tensor.map(first, shape),
        f"{experts}.up_proj.weight": tensor.map(second, shape),
    }
