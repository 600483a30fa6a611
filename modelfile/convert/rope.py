"""RoPE settings of config.json, in the older form and in that of transformers 5.

The older form has `rope_theta` beside `rope_scaling`; the newer one has `rope_parameters`, with one set each for full
and sliding attention if they differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelfile.convert.config import Config, number, whole
from modelfile.convert.errors import ConvertError
from modelfile.convert.writer import Metadata

_MOST_DIMENSIONS = 1 << 16
_ORIGINAL = "original_max_position_embeddings"
_THETA = ("global_rope_theta", "rope_theta", "rotary_emb_base")
_LOCAL_THETA = ("rope_local_base_freq", "local_rope_theta")
_YARN = {
    "extrapolation_factor": "yarn_ext_factor",
    "attention_factor": "yarn_attn_factor",
    "beta_fast": "yarn_beta_fast",
    "beta_slow": "yarn_beta_slow",
}


@dataclass(frozen=True, slots=True)
class Rope:
    """The settings of full attention, and the base frequency of sliding attention if it differs."""

    settings: Mapping[str, Any]
    local_theta: float | None

    @property
    def kind(self) -> str:
        """The scaling type; `default` is none."""
        return str(self.settings.get("rope_type") or "default").lower()

    @property
    def theta(self) -> float | None:
        """The base frequency. Raises ConvertError if it is invalid."""
        return self.positive("rope_theta")

    @property
    def original_context(self) -> int | None:
        """The context length before scaling. Raises ConvertError if it is invalid."""
        return whole(f"config.json: {_ORIGINAL}", self.settings.get(_ORIGINAL)) or None

    def number(self, name: str) -> float | None:
        """A numeric setting. Raises ConvertError for other types."""
        return number(f"config.json: {name}", self.settings.get(name))

    def positive(self, name: str) -> float | None:
        """A positive numeric setting. Raises ConvertError for other values."""
        value = self.number(name)
        if value is not None and value <= 0:
            raise ConvertError(f"config.json: {name} is {value:g}")
        return value

    def numbers(self, name: str) -> list[float]:
        """A list of numbers. Raises ConvertError for other values."""
        setting = self.settings.get(name)
        values = [number(f"config.json: {name}", value) for value in setting] if isinstance(setting, list) else [None]
        if None in values:
            raise ConvertError(f"config.json: {name} is no list of numbers")
        return [value for value in values if value is not None]

    def metadata(self, arch: str) -> Metadata:
        """The GGUF's RoPE metadata. Raises ConvertError for an unsupported scaling."""
        metadata = {f"{arch}.rope.scaling.{key}": value for key, value in self._scaling().items()}
        if self.theta is not None:
            metadata[f"{arch}.rope.freq_base"] = self.theta
        if self.local_theta is not None:
            metadata[f"{arch}.rope.freq_base_swa"] = self.local_theta
        return metadata

    def _scaling(self) -> Metadata:
        match self.kind:
            case "default" | "dynamic" | "llama3":
                return {}
            case "linear":
                return {"type": "linear", "factor": self._needed("factor")}
            case "yarn":
                return self._yarn()
            case "longrope" | "su":
                return {"type": "longrope"}
        raise ConvertError(f"config.json: rope type {self.kind!r} is not supported")

    def _yarn(self) -> Metadata:
        metadata: Metadata = {
            "type": "yarn",
            "factor": self._needed("factor"),
            "original_context_length": self._trained_context(),
        }
        optional = {key: self.number(name) for name, key in _YARN.items()}
        return metadata | {key: value for key, value in optional.items() if value is not None}

    def _trained_context(self) -> int:
        if self.original_context is None:
            raise ConvertError(f"config.json: {_ORIGINAL} is missing")
        return self.original_context

    def _needed(self, name: str) -> float:
        value = self.positive(name)
        if value is None:
            raise ConvertError(f"config.json: {name} of the rope settings is missing")
        return value

    def llama3_factors(self, dimensions: int) -> list[float] | None:
        """Llama 3's frequency divisors: 1 for short wavelengths, `factor` for long ones. None for other types."""
        if self.kind != "llama3":
            return None
        if dimensions > _MOST_DIMENSIONS:
            raise ConvertError(f"config.json: head_dim {dimensions} is too large")
        theta = self.theta or 10000.0
        return [self._llama3_factor(2 * math.pi * theta ** (i / dimensions)) for i in range(0, dimensions, 2)]

    def _llama3_factor(self, wavelength: float) -> float:
        factor, low, high = self._needed("factor"), self._needed("low_freq_factor"), self._needed("high_freq_factor")
        turns = self._trained_context() / wavelength
        if turns >= high:
            return 1.0
        if turns < low:
            return factor
        smooth = (turns - low) / (high - low)
        return 1 / ((1 - smooth) / factor + smooth)


def read_rope(config: Config) -> Rope:
    """Read either form. Raises ConvertError."""
    settings = config.get("rope_parameters", "rope_scaling") or {}
    if not isinstance(settings, dict):
        raise ConvertError("config.json: rope_parameters is not an object")
    if isinstance(settings.get("full_attention"), dict):
        local = settings.get("sliding_attention")
        theta = local.get("rope_theta") if isinstance(local, dict) else None
        return Rope(settings["full_attention"], number("config.json: rope_theta", theta))
    names = ("partial_rotary_factor", _ORIGINAL)
    outside = {"rope_type": settings.get("type"), "rope_theta": config.get(*_THETA)}
    outside |= {name: config.get(name) for name in names}
    return Rope({**outside, **settings}, config.number_if_there(*_LOCAL_THETA))
