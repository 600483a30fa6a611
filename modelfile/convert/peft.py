"""LoRA adapters as PEFT writes them, and as MLX does.

An adapter has two thin matrices for each matrix that it changes; their product, scaled, is what it adds. llama.cpp
scales all of them by one alpha over the rank. Where PEFT scales otherwise, the rest goes into the second matrix.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from modelfile.convert.checkpoint import read_headers
from modelfile.convert.config import Config, number
from modelfile.convert.errors import ConvertError
from modelfile.convert.family import decoder_name
from modelfile.convert.files import Files
from modelfile.convert.tensor import Array, Tensor

CONFIG = "adapter_config.json"
_HALF = re.compile(
    r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?:embedding_)?(?P<half>[ABab])(?:\.default)?(?:\.weight)?"
)


@dataclass(frozen=True, slots=True)
class Adapter:
    """`alpha`, and for each matrix that it changes, by name, the first (rank, in) and the second (out, rank) one."""

    alpha: float
    first: dict[str, Tensor]
    second: dict[str, Tensor]


def read_adapter(files: Files) -> Adapter:
    """Read settings and headers, no values. Raises ConvertError for anything but plain LoRA."""
    settings = Config(files.object(CONFIG), CONFIG)
    settings.expect("peft_type", "LORA")
    settings.expect("fan_in_fan_out", False)
    first, second = _halves(files)
    if lost := sorted(first.keys() ^ second.keys()):
        raise ConvertError(f"the adapter has only one matrix for '{lost[0]}'")
    alpha = _alpha(settings, next(iter(first.values())).shape[0])
    scaled = {name: _scaled(name, first[name], half, settings, alpha) for name, half in second.items()}
    return Adapter(alpha, first, scaled)


def _halves(files: Files) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    first: dict[str, Tensor] = {}
    second: dict[str, Tensor] = {}
    for name, source in read_headers(files, files.names(".safetensors")).items():
        if ".base_layer." in name:
            continue  # what the adapter was trained on, not a part of it
        found = _HALF.fullmatch(name)
        if found is None:
            raise ConvertError(f"tensor '{name}' is no part of a LoRA adapter")
        tensor = source.tensor()
        if len(tensor.shape) != 2:
            raise ConvertError(f"tensor '{name}' has the shape {list(tensor.shape)}")
        if found["half"].islower():  # MLX multiplies from the other side
            tensor = transposed(tensor)
        (first if found["half"] in "Aa" else second)[decoder_name(f"{found['module']}.weight")] = tensor
    if not first:
        raise ConvertError("the adapter changes nothing")
    return first, second


def transposed(tensor: Tensor) -> Tensor:
    """A matrix with rows for columns."""
    return tensor.map(lambda values: values.T, (tensor.shape[1], tensor.shape[0]))


def _alpha(settings: Config, rank: int) -> float:
    inner = settings.get("lora_parameters")
    if isinstance(inner, dict):
        mlx = Config(inner, CONFIG)
        scale = mlx.number_if_there("scale")
        alpha = mlx.number_if_there("alpha") or (None if scale is None else scale * rank)
    else:
        alpha = settings.number("lora_alpha")
    if not alpha or alpha < 0:
        raise ConvertError(f"{CONFIG}: lora_alpha is no sensible number")
    return alpha


def _scaled(name: str, first: Tensor, second: Tensor, settings: Config, alpha: float) -> Tensor:
    """The second matrix with what PEFT's scale is beyond `alpha` over the rank."""
    rank = first.shape[0]
    if second.shape[1] != rank:
        raise ConvertError(f"the matrices for '{name}' have the ranks {rank} and {second.shape[1]}")
    own = _of_module(settings.get("alpha_pattern"), name, alpha)
    factor = own / alpha * (math.sqrt(rank) if settings.get("use_rslora") else 1.0)

    def scale(values: Array) -> Array:
        return values * factor

    return second if factor == 1 else second.compute(scale)


def _of_module(pattern: Any, name: str, default: float) -> float:
    """The alpha of one matrix, which a pattern names by the end of its module's name."""
    module = name.removesuffix(".weight")
    entries = pattern.items() if isinstance(pattern, dict) else ()
    for key, value in entries:
        if module == key or module.endswith(f".{key}"):
            return number(f"{CONFIG}: alpha_pattern", value) or default
    return default
