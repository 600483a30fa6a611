"""Nomic BERT: BERT with rotated positions and gates, in its authors' form and in that of transformers 5."""

from __future__ import annotations

import re

from gguf import MODEL_ARCH

from modelfile.convert.bert import Bert
from modelfile.convert.tensor import Tensor, join

_TRAINED = {8192: 2048, 2048: 512}
"""What the authors' `n_positions` says, and the length for which such a model was trained."""

_NAMES = {
    "embeddings.LayerNorm.": "emb_ln.",
    ".self_attn.o_proj.": ".attn.out_proj.",
    ".mlp.up_proj.": ".mlp.fc11.",
    ".mlp.gate_proj.": ".mlp.fc12.",
    ".mlp.down_proj.": ".mlp.fc2.",
    ".post_attention_layernorm.": ".norm1.",
    ".post_mlp_layernorm.": ".norm2.",
}
"""Names in transformers 5, and the authors'."""

_KNOWN = {
    "activation_function": "swiglu",
    "hidden_act": "silu",
    "causal": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "moe_every_n_layers": 0,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
}
"""The only settings for which the runner has code; `rotary_emb_scale_base` must be absent."""

_QUERY = re.compile(r"(.+)\.self_attn\.q_proj\.(weight|bias)")


class NomicBert(Bert):
    """NomicBertModel, without a mixture of experts."""

    arch = MODEL_ARCH.NOMIC_BERT

    def check(self) -> None:
        """Refuse a variant for which the runner has no code."""
        for name, value in _KNOWN.items():
            self.config.expect(name, value)
        self.config.expect("rotary_emb_scale_base")

    @property
    def longest(self) -> int:
        """The authors' files name a length that the model was not trained for."""
        if (length := self.config.integer_if_there("max_position_embeddings", "n_ctx")) is not None:
            return length
        positions = self.config.positive("n_positions")
        return _TRAINED.get(positions, positions)

    def rename(self, name: str) -> str | None:
        """The authors' names."""
        known = super().rename(name)
        if known is None or known.startswith("encoder."):
            return known
        for newer, older in _NAMES.items():
            known = known.replace(newer, older)
        return f"encoder.{known}" if known.startswith("layers.") else known

    def merge(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Queries, keys and values are one matrix."""
        found = dict(tensors)
        for name in tensors:
            if query := _QUERY.fullmatch(name):
                names = [f"{query[1]}.self_attn.{part}_proj.{query[2]}" for part in "qkv"]
                found[f"{query[1]}.attn.Wqkv.{query[2]}"] = join([found.pop(part) for part in names if part in found])
        return found
