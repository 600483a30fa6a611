"""Phi-3 and Phi-4: queries, keys and values in one matrix, a gate and what it gates in another."""

from __future__ import annotations

import math

from gguf import MODEL_ARCH

from modelfile.convert.errors import ConvertError
from modelfile.convert.family import Family
from modelfile.convert.metadata import Metadata
from modelfile.convert.tensor import Tensor, constant


class Phi3(Family):
    """Phi3ForCausalLM. Models for long contexts scale positions by one set of factors there and another elsewhere."""

    arch = MODEL_ARCH.PHI3

    def metadata(self) -> Metadata:
        """A window of 0 says that there is none."""
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

    def extra(self) -> dict[str, Tensor]:
        """The factors, if the model has them."""
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
        """Numbers of a head that are rotated."""
        share = min(1.0, self.rope.positive("partial_rotary_factor") or 1.0)
        return int(share * self.width) // self.heads

    def _factors(self, name: str) -> list[float]:
        found = self.rope.numbers(name)
        if len(found) != self._dimensions // 2:
            raise ConvertError(f"config.json: {name} has {len(found)} numbers, not {self._dimensions // 2}")
        return found

    def _attention_factor(self) -> float:
        """How much attention is sharpened because the context is longer than that of training."""
        scale = self.config.positive("max_position_embeddings") / self._original_context
        if scale <= 1:
            return 1.0
        match self.rope.kind:
            case "su" | "longrope":
                return math.sqrt(1 + math.log(scale) / math.log(self._original_context))
            case "yarn":
                return 0.1 * math.log(scale) + 1
        raise ConvertError(f"config.json: rope type {self.rope.kind!r} is not supported")
