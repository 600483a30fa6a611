"""Tensors that are read when they are written, so that one at a time is in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from modelfile.convert.errors import ConvertError

Array = NDArray[Any]
"""Values of a tensor; those of BF16, which numpy does not have, as their 16 bits."""

DTYPES: dict[Type, np.dtype[Any]] = {Type.F32: np.dtype("<f4"), Type.F16: np.dtype("<f2"), Type.BF16: np.dtype("<u2")}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor whose values come in parts, one after the other along the first dimension. Shapes are numpy's."""

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

    def map(self, change: Callable[[Array], Array], shape: tuple[int, ...] | None = None) -> Tensor:
        """The same tensor after `change`, which only moves values; `shape` if that is another one then."""
        return Tensor(self.type, shape or self.shape, (lambda: change(self.read()),))

    def compute(self, change: Callable[[Array], Array]) -> Tensor:
        """The values after a calculation in F32."""
        return Tensor(Type.F32, self.shape, (lambda: change(cast(self.read(), self.type, Type.F32)),))

    def stored_as(self, wanted: Type) -> Tensor:
        """The same values in another type."""
        parts = tuple(_cast_part(part, self.type, wanted) for part in self.parts)
        return Tensor(wanted, self.shape, parts) if wanted != self.type else self


def constant(values: Sequence[float]) -> Tensor:
    """A tensor of numbers in F32."""
    array = np.array(values, np.float32)
    return Tensor(Type.F32, array.shape, (lambda: array,))


def stack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of one shape along a new first dimension. Raises ConvertError when they differ."""
    first = tensors[0]
    if any((tensor.shape, tensor.type) != (first.shape, first.type) for tensor in tensors):
        raise ConvertError("tensors that belong together have different shapes or types")
    return Tensor(first.type, (len(tensors), *first.shape), tuple(part for tensor in tensors for part in tensor.parts))


def join(tensors: Sequence[Tensor]) -> Tensor:
    """The rows of several tensors, one after the other. Raises ConvertError when they have different lengths."""
    first = tensors[0]
    if any((tensor.shape[1:], tensor.type) != (first.shape[1:], first.type) for tensor in tensors):
        raise ConvertError("tensors that belong together have different shapes or types")
    rows = sum(tensor.shape[0] for tensor in tensors)
    return Tensor(first.type, (rows, *first.shape[1:]), tuple(part for tensor in tensors for part in tensor.parts))


def cast(values: Array, source: Type, wanted: Type) -> Array:
    """Values in another type: to F32 exactly, else to the nearest. Raises ConvertError if one is too large for F16."""
    if source == wanted:
        return values
    if wanted == Type.F32:
        return (values.astype(np.uint32) << 16).view(np.float32) if source == Type.BF16 else values.astype(np.float32)
    if wanted == Type.BF16:
        return _upper_halves(cast(values, source, Type.F32))
    with np.errstate(over="ignore"):
        half = cast(values, source, Type.F32).astype(np.float16)
    if np.isinf(half).any():
        raise ConvertError("a value is too large for F16")
    return half


def _upper_halves(values: Array) -> Array:
    """The bits of the nearest BF16, the even one of two. A NaN stays one."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    upper: Array = ((bits + (0x7FFF + (bits >> 16 & 1))) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), upper)


def _cast_part(part: Callable[[], Array], source: Type, wanted: Type) -> Callable[[], Array]:
    return lambda: cast(part(), source, wanted)
