"""Phi-3 and Phi-4."""

from __future__ import annotations

import math

from gguf import MODEL_ARCH

from modelfile.convert.errors import ConvertError
from modelfile.convert.family import Family
from modelfile.convert.tensor import LazyTensor, constant
from modelfile.convert.writer import Metadata


class Phi3(Family):
    """Phi3ForCausalLM. Long-context models have two sets of RoPE factors, for short and for long contexts."""

    arch = MODEL_ARCH.PHI3

    def metadata(self) -> Metadata:
        """Adds RoPE settings and the sliding window (0: none)."""
        self.config.expect("hidden_act", "silu")
        own: Metadata = {
            "rope.scaling.original_context_length": self._original_context,
            "rope.dimension_count": self._dimensions,
            "rope.freq_base": self.rope.theta or 10000.0,
            "attention.sliding_window": self.config.integer("sliding_window", default=0),
        }
        if self._scaled:
            own["rope.scaling.attn_factor"] = self._attention_factor()
        return self.sizes() | self.attention() | self.keys(own)

    def extra(self) -> dict[str, LazyTensor]:
        """RoPE factors of long-context models."""
        if not self._scaled:
            return {}
        return {
            "rope_factors_long.weight": constant(self._factors("long_factor")),
            "rope_factors_short.weight": constant(self._factors("short_factor")),
        }

    @property
    def _scaled(self) -> bool:
        return bool(self.rope.settings.get("long_factor"))

    @property
    def _original_context(self) -> int:
        return max(2, self.rope.original_context or 4096)

    @property
    def _dimensions(self) -> int:
        """Rotated dimensions of a head."""
        share = min(1.0, self.rope.positive("partial_rotary_factor") or 1.0)
        return int(share * self.width) // self.heads

    def _factors(self, name: str) -> list[float]:
        factors = self.rope.numbers(name)
        if len(factors) != self._dimensions // 2:
            raise ConvertError(f"config.json: {name} has {len(factors)} numbers, not {self._dimensions // 2}")
        return factors

    def _attention_factor(self) -> float:
        """RoPE attention factor for contexts beyond the original one."""
        scale = self.config.positive("max_position_embeddings") / self._original_context
        if scale <= 1:
            return 1.0
        match self.rope.kind:
            case "su" | "longrope":
                return math.sqrt(1 + math.log(scale) / math.log(self._original_context))
            case "yarn":
                return 0.1 * math.log(scale) + 1
        raise ConvertError(f"config.json: rope type {self.rope.kind!r} is not supported")
