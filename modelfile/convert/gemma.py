"""Gemma, Gemma 2, and the text model of Gemma 3. Their norms multiply by 1 + weight."""

from __future__ import annotations

from typing import ClassVar

from gguf import MODEL_ARCH

from modelfile.convert.family import Family
from modelfile.convert.sentencepiece import NO_PREFIX
from modelfile.convert.tensor import Array, LazyTensor
from modelfile.convert.writer import Metadata

_END_OF_TURN = 107
_VISION = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")


class Gemma(Family):
    """GemmaForCausalLM. Output weights are always tied to the embeddings."""

    arch = MODEL_ARCH.GEMMA
    default_heads: ClassVar[int | None] = None
    default_heads_kv: ClassVar[int | None] = None

    def metadata(self) -> Metadata:
        """Sizes and heads, without RoPE settings: the defaults apply."""
        return self.sizes() | self.attention()

    def attention(self) -> Metadata:
        """Heads and norms; missing settings default to those of the first models."""
        head_dim = self.config.positive("head_dim", default=256)
        heads = self.config.positive("num_attention_heads", default=self.default_heads)
        return self.keys(
            {
                "attention.head_count": heads,
                "attention.head_count_kv": self.config.positive(
                    "num_key_value_heads", default=self.default_heads_kv or heads
                ),
                "attention.layer_norm_rms_epsilon": self.config.number("rms_norm_eps", default=1e-6),
                "attention.key_length": head_dim,
                "attention.value_length": head_dim,
            }
        )

    def vocabulary(self) -> Metadata:
        """No leading blank; the end-of-turn token is in no file."""
        return super().vocabulary() | NO_PREFIX | {"tokenizer.ggml.eot_token_id": _END_OF_TURN}

    def rename(self, name: str) -> str | None:
        """Drop the output weights."""
        return None if name == "lm_head.weight" else super().rename(name)

    def change(self, name: str, tensor: LazyTensor, tokens: int) -> LazyTensor:
        """Add 1 to norms."""
        return tensor.compute(_add_one) if name.endswith("norm.weight") else tensor


class Gemma2(Gemma):
    """Gemma2ForCausalLM: soft-capped logits, sliding-window attention in every other layer."""

    arch = MODEL_ARCH.GEMMA2

    def metadata(self) -> Metadata:
        """Adds soft caps and the sliding window."""
        return super().metadata() | self.keys(
            {
                "attn_logit_softcapping": self.config.number("attn_logit_softcapping", default=50.0),
                "final_logit_softcapping": self.config.number("final_logit_softcapping", default=30.0),
                "attention.sliding_window": self.config.integer("sliding_window", default=4096),
            }
        )

    def vocabulary(self) -> Metadata:
        """No leading blank."""
        return Family.vocabulary(self) | NO_PREFIX


class Gemma3(Gemma):
    """Gemma3ForCausalLM, and the text model of Gemma3ForConditionalGeneration."""

    arch = MODEL_ARCH.GEMMA3
    default_heads = 8
    default_heads_kv = 4

    def metadata(self) -> Metadata:
        """Adds RoPE settings of global and local layers, and the sliding window."""
        config = self.config
        config.expect("attn_logit_softcapping")
        own = self.keys(
            {
                "rope.freq_base": self.rope.theta or 1_000_000.0,
                "final_logit_softcapping": config.number_if_there("final_logit_softcapping") or None,
                "attention.sliding_window": self._window(),
            }
        )
        return super().metadata() | self.rope.metadata(self.name) | own

    @property
    def longest(self) -> int:
        """The context length, often missing in config.json."""
        return self.config.positive("max_position_embeddings", default=131072)

    def vocabulary(self) -> Metadata:
        """No leading blank."""
        return Family.vocabulary(self) | NO_PREFIX

    def rename(self, name: str) -> str | None:
        """Drop the vision model."""
        return None if name.startswith(_VISION) else Family.rename(self, name)

    def change(self, name: str, tensor: LazyTensor, tokens: int) -> LazyTensor:
        """Cut embeddings beyond the vocabulary."""
        if name.endswith("embed_tokens.weight") and tensor.shape[0] > tokens:
            return tensor.map(lambda values: values[:tokens], (tokens, *tensor.shape[1:]))
        return super().change(name, tensor, tokens)

    def _window(self) -> int | None:
        if self.config.get("sliding_window_pattern") == 1:
            return None
        return self.config.integer("sliding_window", default=4096)


def _add_one(values: Array) -> Array:
    return values + 1
