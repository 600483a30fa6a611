"""Qwen2 and 2.5, Qwen3 and Qwen3-MoE."""

from __future__ import annotations

from gguf import MODEL_ARCH

from modelfile.convert.family import Family, pooling
from modelfile.convert.tensor import LazyTensor, merge_experts
from modelfile.convert.writer import Metadata


class Qwen2(Family):
    """Qwen2ForCausalLM and Qwen2Model."""

    arch = MODEL_ARCH.QWEN2

    def metadata(self) -> Metadata:
        """Adds the pooling of embedding models."""
        self.config.expect("hidden_act", "silu")
        return super().metadata() | self.keys(pooling(self.files))


class Qwen3(Qwen2):
    """Qwen3ForCausalLM and Qwen3Model."""

    arch = MODEL_ARCH.QWEN3


class Qwen3Moe(Family):
    """Qwen3MoeForCausalLM: every layer has experts, with normalized weights."""

    arch = MODEL_ARCH.QWEN3MOE

    def metadata(self) -> Metadata:
        """Adds expert counts and width."""
        self.config.expect("hidden_act", "silu")
        self.config.expect("norm_topk_prob", True)
        self.config.expect("decoder_sparse_step", 1)
        self.config.expect("mlp_only_layers", [])
        width: Metadata = {"expert_feed_forward_length": self.config.positive("moe_intermediate_size")}
        return super().metadata() | self.expert_counts() | self.keys(width)

    def merge(self, tensors: dict[str, LazyTensor]) -> dict[str, LazyTensor]:
        """Stack the experts of a layer."""
        return merge_experts(tensors, self.config.positive("num_local_experts", "num_experts"))
