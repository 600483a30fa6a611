"""Mixtures of experts: one tensor for all experts of a layer, which checkpoints have in several forms."""

from __future__ import annotations

import re
from collections.abc import Mapping

from modelfile.convert.errors import ConvertError
from modelfile.convert.tensor import Array, Tensor, stack

_ONE = re.compile(r"(?P<experts>.+\.experts)\.(?P<index>[0-9]{1,6})\.(?P<part>.+)")
_FUSED = re.compile(r"(?P<experts>.+\.experts)\.(?P<part>gate_up_proj|down_proj)(?:\.weight)?")


def merge_experts(tensors: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Stack tensors of single experts, and take those apart that hold two matrices of each.

    `count` is how many experts there are. Raises ConvertError if one is missing or there are more.
    """
    found: dict[str, Tensor] = {}
    groups: dict[str, dict[int, Tensor]] = {}
    for name, tensor in tensors.items():
        if one := _ONE.fullmatch(name):
            groups.setdefault(f"{one['experts']}.{one['part']}", {})[int(one["index"])] = tensor
        elif fused := _FUSED.fullmatch(name):
            found |= _separate(fused["experts"], fused["part"], tensor)
        else:
            found[name] = tensor
    for name, experts in groups.items():
        if sorted(experts) != list(range(count)):
            raise ConvertError(f"tensor '{name}' is there for {len(experts)} experts of {count}")
        found[name] = stack([experts[index] for index in range(count)])
    return found


def _separate(experts: str, part: str, tensor: Tensor) -> dict[str, Tensor]:
    """Matrices of a tensor for all experts. The rows of the gate come before those of what it gates."""
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
