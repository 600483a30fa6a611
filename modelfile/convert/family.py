"""How the checkpoints of one architecture become a GGUF: what most have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

from modelfile.convert.checkpoint import Checkpoint
from modelfile.convert.errors import ConvertError
from modelfile.convert.metadata import Metadata, Value
from modelfile.convert.rope import read_rope
from modelfile.convert.tensor import Tensor
from modelfile.convert.tokenizer import tokenizer_metadata

MOST_BLOCKS = 1024
_UNUSED = (".rotary_emb.inv_freq", ".attention.masked_bias", ".attention.bias")
_BARE = ("layers.", "embed_tokens.", "norm.")
_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")


class Family:
    """One architecture; a subclass overrides what is special about it. Every method raises ConvertError."""

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

    # What a subclass may say.

    def metadata(self) -> Metadata:
        """The keys that describe the network."""
        return self.sizes() | self.attention() | self.rope.metadata(self.name)

    def vocabulary(self) -> Metadata:
        """The keys that describe the tokenizer."""
        return tokenizer_metadata(self.files, self.config)

    def rename(self, name: str) -> str | None:
        """A tensor's name as the map of names knows it, None for one that nobody needs."""
        return None if name.endswith(_UNUSED) else decoder_name(name)

    def merge(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Make one tensor of what is one in a GGUF and several here, or the other way round."""
        return tensors

    def change(self, name: str, tensor: Tensor, tokens: int) -> Tensor:
        """A tensor as the runner wants it, for a vocabulary of so many tokens."""
        return tensor

    def extra(self) -> dict[str, Tensor]:
        """Tensors that are settings in the checkpoint, under the runner's names."""
        return {}

    # What follows from that.

    def tensors(self, tokens: int) -> dict[str, Tensor]:
        """All tensors under the runner's names, for a vocabulary of so many tokens. Nothing is read yet."""
        names = get_tensor_name_map(self.arch, self.blocks)
        found = self.extra()
        for name, tensor in self.merge(self._sources()).items():
            known = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if known is None or known in found:
                raise ConvertError(f"tensor '{name}' does not belong to a model of the architecture {self.name}")
            found[known] = self.change(name, tensor, tokens)
        _check_embedding(found, tokens)
        _check_blocks(found, self.blocks)
        return found

    def _sources(self) -> dict[str, Tensor]:
        named = ((self.rename(name), source) for name, source in self.checkpoint.sources.items())
        return {name: source.tensor() for name, source in named if name is not None}

    # Pieces to build from.

    def keys(self, values: Mapping[str, Value | None]) -> Metadata:
        """Keys of this architecture; those without a value are left out."""
        return {f"{self.name}.{key}": value for key, value in values.items() if value is not None}

    def sizes(self) -> Metadata:
        """Layers, widths and the longest context."""
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
        """How many networks a mixture has, and how many of them work on a token."""
        return self.keys(
            {
                "expert_count": self.config.integer_if_there("num_local_experts", "num_experts"),
                "expert_used_count": self.config.integer_if_there("num_experts_per_tok"),
            }
        )

    @property
    def longest(self) -> int:
        """Tokens of the longest context."""
        return self.config.positive("max_position_embeddings", "n_ctx", "n_positions")

    @property
    def width(self) -> int:
        """Numbers per token between layers."""
        return self.config.positive("hidden_size", "n_embd")

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self.config.positive("num_attention_heads", "n_head")


def decoder_name(name: str) -> str:
    """The usual name of a decoder's tensor, also if it is part of a larger model or stands alone."""
    name = name.replace("language_model.", "")
    return f"model.{name}" if name.startswith(_BARE) else name


def _check_embedding(tensors: Mapping[str, Tensor], tokens: int) -> None:
    embedding = tensors.get("token_embd.weight")
    if embedding is None:
        raise ConvertError("the embeddings of the tokens are missing")
    if embedding.shape[0] != tokens:
        raise ConvertError(f"there are {tokens} tokens, but embeddings for {embedding.shape[0]}")


def _check_blocks(tensors: Mapping[str, Tensor], count: int) -> None:
    """Layers are alike, so what one has and another lacks is missing."""
    blocks: dict[int, set[str]] = {index: set() for index in range(count)}
    for name in tensors:
        if (found := _BLOCK.fullmatch(name)) and int(found[1]) in blocks:
            blocks[int(found[1])].add(found[2])
    everything = set().union(*blocks.values())
    for index, block in blocks.items():
        if lost := sorted(everything - block):
            raise ConvertError(f"layer {index} has no {lost[0]}")
