"""Converts LoRA adapters of PEFT and MLX to GGUF.

An adapter has two thin matrices for each matrix that it changes; their scaled product is added to it. llama.cpp scales
all of them by one alpha over the rank. Where PEFT scales differently, the rest goes into the second matrix.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

from modelfile.convert.checkpoint import read_headers
from modelfile.convert.config import Config, number
from modelfile.convert.errors import ConvertError
from modelfile.convert.family import MOST_BLOCKS, decoder_name
from modelfile.convert.files import Files
from modelfile.convert.llama import interleave
from modelfile.convert.tensor import Array, LazyTensor, merge_experts
from modelfile.convert.writer import Metadata, Progress, write_gguf

CONFIG = "adapter_config.json"
_HALF = re.compile(
    r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?:embedding_)?(?P<half>[ABab])(?:\.default)?(?:\.weight)?"
)


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter: `alpha`, and by name of the changed matrix its `first` (rank, in) and `second` (out, rank) one."""

    alpha: float
    first: dict[str, LazyTensor]
    second: dict[str, LazyTensor]


def read_adapter(files: Files) -> Adapter:
    """Read settings and tensor headers, no values. Raises ConvertError for anything but plain LoRA."""
    settings = Config(files.object(CONFIG), CONFIG)
    settings.expect("peft_type", "LORA")
    settings.expect("fan_in_fan_out", False)
    first, second = _halves(files)
    if lost := sorted(first.keys() ^ second.keys()):
        raise ConvertError(f"the adapter has only one matrix for '{lost[0]}'")
    alpha = _alpha(settings, next(iter(first.values())).shape[0])
    scaled = {name: _rescaled(name, first[name], half, settings, alpha) for name, half in second.items()}
    return Adapter(alpha, first, scaled)


def _halves(files: Files) -> tuple[dict[str, LazyTensor], dict[str, LazyTensor]]:
    first: dict[str, LazyTensor] = {}
    second: dict[str, LazyTensor] = {}
    for name, source in read_headers(files, files.names(".safetensors")).items():
        if ".base_layer." in name:
            continue  # the base model's weights, not part of the adapter
        half = _HALF.fullmatch(name)
        if half is None:
            raise ConvertError(f"tensor '{name}' is no part of a LoRA adapter")
        tensor = source.tensor()
        if len(tensor.shape) != 2:
            raise ConvertError(f"tensor '{name}' has the shape {list(tensor.shape)}")
        if half["half"].islower():  # MLX stores transposed matrices
            tensor = transposed(tensor)
        (first if half["half"] in "Aa" else second)[decoder_name(f"{half['module']}.weight")] = tensor
    if not first:
        raise ConvertError("the adapter changes nothing")
    return first, second


def transposed(tensor: LazyTensor) -> LazyTensor:
    """The transposed matrix."""
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


def _rescaled(name: str, first: LazyTensor, second: LazyTensor, settings: Config, alpha: float) -> LazyTensor:
    """The second matrix times PEFT's scale relative to `alpha` over the rank."""
    rank = first.shape[0]
    if second.shape[1] != rank:
        raise ConvertError(f"the matrices for '{name}' have the ranks {rank} and {second.shape[1]}")
    own = _of_module(settings.get("alpha_pattern"), name, alpha)
    factor = own / alpha * (math.sqrt(rank) if settings.get("use_rslora") else 1.0)

    def scale(values: Array) -> Array:
        return values * factor

    return second if factor == 1 else second.compute(scale)


def _of_module(pattern: Any, name: str, default: float) -> float:
    """The alpha of one matrix, from the `alpha_pattern` for the end of its module's name."""
    module = name.removesuffix(".weight")
    entries = pattern.items() if isinstance(pattern, dict) else ()
    for key, value in entries:
        if module == key or module.endswith(f".{key}"):
            return number(f"{CONFIG}: alpha_pattern", value) or default
    return default


_SUPPORTED = ("llama", "qwen2", "qwen3", "qwen3moe", "gemma", "gemma2", "gemma3", "phi3")
_ARCHITECTURES = {name: arch for arch, name in MODEL_ARCH_NAMES.items() if name in _SUPPORTED}


class _BaseModel:
    """The base model, by its GGUF's metadata."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._metadata = metadata
        self.architecture = str(metadata.get("general.architecture"))
        if self.architecture not in _ARCHITECTURES:
            raise ConvertError(f'unsupported architecture "{self.architecture}"')
        self.arch: MODEL_ARCH = _ARCHITECTURES[self.architecture]

    def count(self, key: str, default: int | None = None) -> int:
        """An integer field of the architecture. Raises ConvertError if it is missing or out of range."""
        value = self._metadata.get(f"{self.architecture}.{key}", default)
        if not isinstance(value, int) or not 0 <= value <= MOST_BLOCKS:
            raise ConvertError(f"the base model has no {key}")
        return value


def convert_adapter(files: Mapping[str, Path], base: Mapping[str, Any], target: Path, progress: Progress) -> None:
    """Convert the adapter in `files` to `target`, for the model whose GGUF has the metadata `base`.

    Values keep their types. Raises ConvertError and whatever `progress` raises, and then leaves no file.
    """
    model = _BaseModel(base)
    adapter = read_adapter(Files(files))
    first = _named(adapter.first, model)
    second = _named(_interleaved(adapter.second, model), model)
    tensors: dict[str, LazyTensor] = {}
    for name in first:
        # llama.cpp looks up rows of the embeddings, so their first matrix has a row per token.
        tensors[f"{name}.lora_a"] = transposed(first[name]) if name == "token_embd.weight" else first[name]
        tensors[f"{name}.lora_b"] = second[name]
    metadata: Metadata = {
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": adapter.alpha,
    }
    write_gguf(target, model.architecture, metadata, tensors, progress)


def _interleaved(second: Mapping[str, LazyTensor], model: _BaseModel) -> dict[str, LazyTensor]:
    """The second matrices with the rows of queries and keys in Llama's order."""
    if model.arch is not MODEL_ARCH.LLAMA:
        return dict(second)
    heads = model.count("attention.head_count")
    by_name = {"q_proj.weight": heads, "k_proj.weight": model.count("attention.head_count_kv", heads)}
    interleaved = {}
    for name, tensor in second.items():
        count = next((count for end, count in by_name.items() if name.endswith(end)), 0)
        interleaved[name] = interleave(name, tensor, count) if count else tensor
    return interleaved


def _named(halves: Mapping[str, LazyTensor], model: _BaseModel) -> dict[str, LazyTensor]:
    """Matrices under llama.cpp's names, with the experts of a layer stacked."""
    names = get_tensor_name_map(model.arch, model.count("block_count"))
    tensors: dict[str, LazyTensor] = {}
    for name, tensor in merge_experts(halves, model.count("expert_count", 0)).items():
        known = names.get_name(name, try_suffixes=(".weight",))
        if known is None or known in tensors:
            raise ConvertError(f"the base model has no '{name}'")
        tensors[known] = tensor
    return tensors
