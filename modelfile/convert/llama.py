"""Llama, Mistral and Mixtral."""

from __future__ import annotations

from gguf import MODEL_ARCH

from modelfile.convert.errors import ConvertError
from modelfile.convert.family import Family
from modelfile.convert.tensor import Array, LazyTensor, constant, merge_experts
from modelfile.convert.tokenizer_json import TOKENIZER_CONFIG
from modelfile.convert.writer import Metadata


class Llama(Family):
    """LlamaForCausalLM, MistralForCausalLM, MixtralForCausalLM."""

    arch = MODEL_ARCH.LLAMA

    def metadata(self) -> Metadata:
        """Adds the vocabulary size, RoPE dimensions and expert counts."""
        self.config.expect("hidden_act", "silu")
        own: Metadata = {"vocab_size": self.config.positive("vocab_size"), "rope.dimension_count": self._head_dim}
        return super().metadata() | self.expert_counts() | self.keys(own)

    def vocabulary(self) -> Metadata:
        """tokenizer_config.json's `add_prefix_space` wins."""
        prefix = self.files.object_if_there(TOKENIZER_CONFIG).get("add_prefix_space")
        own: Metadata = {"tokenizer.ggml.add_space_prefix": prefix} if isinstance(prefix, bool) else {}
        return super().vocabulary() | own

    def merge(self, tensors: dict[str, LazyTensor]) -> dict[str, LazyTensor]:
        """Stack the experts of a layer."""
        return merge_experts(tensors, self.config.integer("num_local_experts", default=0))

    def change(self, name: str, tensor: LazyTensor, tokens: int) -> LazyTensor:
        """Queries and keys in llama.cpp's RoPE order."""
        if name.endswith(("q_proj.weight", "q_proj.bias")):
            return interleave(name, tensor, self.heads)
        if name.endswith(("k_proj.weight", "k_proj.bias")):
            return interleave(name, tensor, self.config.positive("num_key_value_heads", default=self.heads))
        return tensor

    def extra(self) -> dict[str, LazyTensor]:
        """RoPE frequency factors of Llama 3."""
        factors = self.rope.llama3_factors(self._head_dim)
        return {"rope_freqs.weight": constant(factors)} if factors else {}

    @property
    def _head_dim(self) -> int:
        return self.config.positive("head_dim", default=self.width // self.heads)


def interleave(name: str, tensor: LazyTensor, heads: int) -> LazyTensor:
    """Interleave the two halves of each head's rows, so that rotated pairs are neighbours.

    Raises ConvertError if the rows cannot be divided into heads.
    """
    rows = tensor.shape[0]
    if rows % (2 * heads):
        raise ConvertError(f"tensor '{name}' has {rows} rows, which are not those of {heads} heads")

    def change(values: Array) -> Array:
        return values.reshape(heads, 2, rows // heads // 2, -1).swapaxes(1, 2).reshape(tensor.shape)

    return tensor.map(change)
