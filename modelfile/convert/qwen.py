"""Qwen2 and 2.5, Qwen3, and Qwen3 with a mixture of experts."""

from __future__ import annotations

from gguf import MODEL_ARCH

from modelfile.convert.experts import merge_experts
from modelfile.convert.family import Family
from modelfile.convert.metadata import Metadata
from modelfile.convert.pooling import pooling
from modelfile.convert.tensor import Tensor


class Qwen2(Family):
    """Qwen2ForCausalLM and Qwen2Model."""

    arch = MODEL_ARCH.QWEN2

    def metadata(self) -> Metadata:
        """Embedding models of this family say how they pool."""
        self.config.expect("hidden_act", "silu")
        return super().metadata() | self.keys(pooling(self.files))


class Qwen3(Qwen2):
    """Qwen3ForCausalLM and Qwen3Model."""

    arch = MODEL_ARCH.QWEN3


class Qwen3Moe(Family):
    """Qwen3MoeForCausalLM: every layer is a mixture, and the weights of the chosen experts add up to 1."""

    arch = MODEL_ARCH.QWEN3MOE

    def metadata(self) -> Metadata:
        """Also the width of an expert."""
        self.config.expect("hidden_act", "silu")
        self.config.expect("norm_topk_prob", True)
        self.config.expect("decoder_sparse_step", 1)
        self.config.expect("mlp_only_layers", [])
        width: Metadata = {"expert_feed_forward_length": self.config.positive("moe_intermediate_size")}
        return super().metadata() | self.expert_counts() | self.keys(width)

    def merge(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The experts of a layer are one tensor."""
        return merge_experts(tensors, self.config.positive("num_local_experts", "num_experts"))
