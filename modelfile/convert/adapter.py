"""An adapter of safetensors to a GGUF that llama.cpp adds to a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

from modelfile.convert.errors import ConvertError
from modelfile.convert.experts import merge_experts
from modelfile.convert.family import MOST_BLOCKS
from modelfile.convert.files import Files
from modelfile.convert.llama import interleave
from modelfile.convert.metadata import Metadata
from modelfile.convert.peft import read_adapter, transposed
from modelfile.convert.tensor import Tensor
from modelfile.convert.writer import Progress, write_gguf

_SUPPORTED = ("llama", "qwen2", "qwen3", "qwen3moe", "gemma", "gemma2", "gemma3", "phi3")
_ARCHITECTURES = {name: arch for arch, name in MODEL_ARCH_NAMES.items() if name in _SUPPORTED}


class _Base:
    """The model that an adapter is for, as its GGUF describes it."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._metadata = metadata
        self.architecture = str(metadata.get("general.architecture"))
        if self.architecture not in _ARCHITECTURES:
            raise ConvertError(f'unsupported architecture "{self.architecture}"')
        self.arch: MODEL_ARCH = _ARCHITECTURES[self.architecture]

    def count(self, key: str, default: int | None = None) -> int:
        """A number of this architecture. Raises ConvertError if the model has none that makes sense."""
        value = self._metadata.get(f"{self.architecture}.{key}", default)
        if not isinstance(value, int) or not 0 <= value <= MOST_BLOCKS:
            raise ConvertError(f"the base model has no {key}")
        return value


def convert_adapter(files: Mapping[str, Path], base: Mapping[str, Any], target: Path, progress: Progress) -> None:
    """Write the adapter in `files` to `target`, for the model whose GGUF has the metadata `base`.

    Values keep their types. Raises ConvertError, and whatever `progress` raises; no file is left then.
    """
    model = _Base(base)
    adapter = read_adapter(Files(files))
    first = _named(adapter.first, model)
    second = _named(_interleaved(adapter.second, model), model)
    tensors: dict[str, Tensor] = {}
    for name in first:
        # The runner looks rows of the embeddings up, so their first matrix has a row for each token.
        tensors[f"{name}.lora_a"] = transposed(first[name]) if name == "token_embd.weight" else first[name]
        tensors[f"{name}.lora_b"] = second[name]
    metadata: Metadata = {
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": adapter.alpha,
    }
    write_gguf(target, model.architecture, metadata, tensors, progress)


def _interleaved(second: Mapping[str, Tensor], model: _Base) -> dict[str, Tensor]:
    """What comes out of queries and keys in the order that the model has."""
    if model.arch is not MODEL_ARCH.LLAMA:
        return dict(second)
    heads = model.count("attention.head_count")
    by_name = {"q_proj.weight": heads, "k_proj.weight": model.count("attention.head_count_kv", heads)}
    found = {}
    for name, tensor in second.items():
        count = next((count for end, count in by_name.items() if name.endswith(end)), 0)
        found[name] = interleave(name, tensor, count) if count else tensor
    return found


def _named(halves: Mapping[str, Tensor], model: _Base) -> dict[str, Tensor]:
    """Matrices by the runner's names, the experts of a layer as one."""
    names = get_tensor_name_map(model.arch, model.count("block_count"))
    found: dict[str, Tensor] = {}
    for name, tensor in merge_experts(halves, model.count("expert_count", 0)).items():
        known = names.get_name(name, try_suffixes=(".weight",))
        if known is None or known in found:
            raise ConvertError(f"the base model has no '{name}'")
        found[known] = tensor
    return found
