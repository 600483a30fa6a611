"""Base class for model families: how a checkpoint's settings, tokenizer and tensors become a GGUF."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

from modelfile.convert.checkpoint import Checkpoint
from modelfile.convert.errors import ConvertError
from modelfile.convert.files import Files
from modelfile.convert.rope import read_rope
from modelfile.convert.tensor import LazyTensor
from modelfile.convert.tokenizer import tokenizer_metadata
from modelfile.convert.writer import Metadata, Value

MOST_BLOCKS = 1024
_UNUSED = (".rotary_emb.inv_freq", ".attention.masked_bias", ".attention.bias")
_BARE = ("layers.", "embed_tokens.", "norm.")
_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")


class Family:
    """One architecture; subclasses override what differs. Every method raises ConvertError."""

    arch: ClassVar[MODEL_ARCH]

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.files = checkpoint.files
        self.config = checkpoint.config
        self.name = MODEL_ARCH_NAMES[self.arch]
        self.rope = read_rope(self.config)
        self.blocks = self.config.positive("num_hidden_layers", "n_layer")
        if self.blocks > MOST_BLOCKS:
            raise ConvertError(f"config.json: num_hidden_layers {self.blocks} is too large")

    # To override.

    def metadata(self) -> Metadata:
        """The keys that describe the network."""
        return self.sizes() | self.attention() | self.rope.metadata(self.name)

    def vocabulary(self) -> Metadata:
        """The keys that describe the tokenizer."""
        return tokenizer_metadata(self.files, self.config)

    def rename(self, name: str) -> str | None:
        """A tensor's name as gguf's name map knows it; None to drop the tensor."""
        return None if name.endswith(_UNUSED) else decoder_name(name)

    def merge(self, tensors: dict[str, LazyTensor]) -> dict[str, LazyTensor]:
        """Join or split tensors to match the GGUF's."""
        return tensors

    def change(self, name: str, tensor: LazyTensor, tokens: int) -> LazyTensor:
        """A tensor as llama.cpp expects it; `tokens` is the size of the vocabulary."""
        return tensor

    def extra(self) -> dict[str, LazyTensor]:
        """Tensors made from settings, under llama.cpp's names."""
        return {}

    # Final.

    def tensors(self, tokens: int) -> dict[str, LazyTensor]:
        """All tensors under llama.cpp's names, not read yet; `tokens` is the size of the vocabulary."""
        names = get_tensor_name_map(self.arch, self.blocks)
        renamed = self.extra()
        for name, tensor in self.merge(self._sources()).items():
            known = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if known is None or known in renamed:
                raise ConvertError(f"tensor '{name}' does not belong to a model of the architecture {self.name}")
            renamed[known] = self.change(name, tensor, tokens)
        _check_embedding(renamed, tokens)
        _check_blocks(renamed, self.blocks)
        return renamed

    def _sources(self) -> dict[str, LazyTensor]:
        named = ((self.rename(name), source) for name, source in self.checkpoint.sources.items())
        return {name: source.tensor() for name, source in named if name is not None}

    # Helpers.

    def keys(self, values: Mapping[str, Value | None]) -> Metadata:
        """Metadata with this architecture's prefix, without None values."""
        return {f"{self.name}.{key}": value for key, value in values.items() if value is not None}

    def sizes(self) -> Metadata:
        """Layers, widths and context length."""
        return self.keys(
            {
                "block_count": self.blocks,
                "context_length": self.longest,
                "embedding_length": self.width,
                "feed_forward_length": self.config.positive("intermediate_size", "n_inner"),
            }
        )

    def attention(self) -> Metadata:
        """Heads and norms."""
        head_dim = self.config.integer_if_there("head_dim")
        return self.keys(
            {
                "attention.head_count": self.heads,
                "attention.head_count_kv": self.config.integer_if_there("num_key_value_heads"),
                "attention.layer_norm_rms_epsilon": self.config.number_if_there("rms_norm_eps"),
                "attention.layer_norm_epsilon": self.config.number_if_there("layer_norm_eps", "layer_norm_epsilon"),
                "attention.key_length": head_dim,
                "attention.value_length": head_dim,
            }
        )

    def expert_counts(self) -> Metadata:
        """Number of experts, in all and per token."""
        return self.keys(
            {
                "expert_count": self.config.integer_if_there("num_local_experts", "num_experts"),
                "expert_used_count": self.config.integer_if_there("num_experts_per_tok"),
            }
        )

    @property
    def longest(self) -> int:
        """The context length in tokens."""
        return self.config.positive("max_position_embeddings", "n_ctx", "n_positions")

    @property
    def width(self) -> int:
        """The embedding length."""
        return self.config.positive("hidden_size", "n_embd")

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self.config.positive("num_attention_heads", "n_head")


def decoder_name(name: str) -> str:
    """The usual name of a decoder's tensor, also inside a multimodal model or without the `model.` prefix."""
    name = name.replace("language_model.", "")
    return f"model.{name}" if name.startswith(_BARE) else name


def _check_embedding(tensors: Mapping[str, LazyTensor], tokens: int) -> None:
    embedding = tensors.get("token_embd.weight")
    if embedding is None:
        raise ConvertError("the embeddings of the tokens are missing")
    if embedding.shape[0] != tokens:
        raise ConvertError(f"there are {tokens} tokens, but embeddings for {embedding.shape[0]}")


def _check_blocks(tensors: Mapping[str, LazyTensor], count: int) -> None:
    """Raise ConvertError if a layer lacks a tensor that another one has."""
    blocks: dict[int, set[str]] = {index: set() for index in range(count)}
    for name in tensors:
        if (block_match := _BLOCK.fullmatch(name)) and int(block_match[1]) in blocks:
            blocks[int(block_match[1])].add(block_match[2])
    everything = set().union(*blocks.values())
    for index, block in blocks.items():
        if lost := sorted(everything - block):
            raise ConvertError(f"layer {index} has no {lost[0]}")


_POOLING_TYPES = {"mean": 1, "cls": 2, "lasttoken": 3}
_SWITCHES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_lasttoken": "lasttoken"}
_MODULES = "modules.json"


def pooling(files: Files) -> Metadata:
    """The pooling of an embedding model, from sentence-transformers' modules.json; empty without it.

    Raises ConvertError for a pooling that llama.cpp does not support.
    """
    folder = next((module.get("path") for module in _modules(files) if _is(module, "Pooling")), None)
    if folder is None:
        return {}
    settings = files.object(f"{folder}/config.json")
    mode = next((mode for switch, mode in _SWITCHES.items() if settings.get(switch)), settings.get("pooling_mode"))
    if not isinstance(mode, str) or mode not in _POOLING_TYPES:
        raise ConvertError(f"{folder}/config.json: the pooling is neither mean nor cls nor lasttoken")
    return {"pooling_type": _POOLING_TYPES[mode]}


def normalization(files: Files) -> Metadata:
    """Whether sentence-transformers normalizes vectors. Raises ConvertError."""
    return {"normalize_embeddings": any(_is(module, "Normalize") for module in _modules(files))}


def _modules(files: Files) -> list[dict[str, Any]]:
    modules = files.array(_MODULES) if _MODULES in files else []
    return [module for module in modules if isinstance(module, dict)]


def _is(module: dict[str, Any], kind: str) -> bool:
    return str(module.get("type")).endswith(kind)
