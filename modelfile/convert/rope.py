"""Rotary position embeddings: what config.json says, in the older form and in that of transformers 5.

The older form has `rope_theta` beside `rope_scaling`; the newer one has all in `rope_parameters`, and for models whose
layers differ one set for full and one for sliding attention.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelfile.convert.config import Config, number, whole
from modelfile.convert.errors import ConvertError
from modelfile.convert.metadata import Metadata

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
    """The settings of full attention, and the base of sliding attention if that has one of its own."""

    settings: Mapping[str, Any]
    local_theta: float | None

    @property
    def kind(self) -> str:
        """How positions are scaled; `default` is not at all."""
        return str(self.settings.get("rope_type") or "default").lower()

    @property
    def theta(self) -> float | None:
        """The base of the frequencies. Raises ConvertError for what cannot be one."""
        return self.positive("rope_theta")

    @property
    def original_context(self) -> int | None:
        """The longest context before scaling. Raises ConvertError for what is no number."""
        return whole(f"config.json: {_ORIGINAL}", self.settings.get(_ORIGINAL)) or None

    def number(self, name: str) -> float | None:
        """A number among the settings. Raises ConvertError if it is something else."""
        return number(f"config.json: {name}", self.settings.get(name))

    def positive(self, name: str) -> float | None:
        """A number above 0 among the settings. Raises ConvertError if it is something else."""
        value = self.number(name)
        if value is not None and value <= 0:
            raise ConvertError(f"config.json: {name} is {value:g}")
        return value

    def numbers(self, name: str) -> list[float]:
        """A list of numbers among the settings. Raises ConvertError if it is something else."""
        given = self.settings.get(name)
        found = [number(f"config.json: {name}", value) for value in given] if isinstance(given, list) else [None]
        if None in found:
            raise ConvertError(f"config.json: {name} is no list of numbers")
        return [value for value in found if value is not None]

    def metadata(self, arch: str) -> Metadata:
        """What a GGUF says about all this. Raises ConvertError for a scaling that the runner does not know."""
        found = {f"{arch}.rope.scaling.{key}": value for key, value in self._scaling().items()}
        if self.theta is not None:
            found[f"{arch}.rope.freq_base"] = self.theta
        if self.local_theta is not None:
            found[f"{arch}.rope.freq_base_swa"] = self.local_theta
        return found

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
        found: Metadata = {
            "type": "yarn",
            "factor": self._needed("factor"),
            "original_context_length": self._trained_context(),
        }
        given = {key: self.number(name) for name, key in _YARN.items()}
        return found | {key: value for key, value in given.items() if value is not None}

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
        """By what Llama 3 divides the frequencies: 1 for short waves, `factor` for long ones. None for other models."""
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
    """The settings of either form. Raises ConvertError."""
    given = config.get("rope_parameters", "rope_scaling") or {}
    if not isinstance(given, dict):
        raise ConvertError("config.json: rope_parameters is not an object")
    if isinstance(given.get("full_attention"), dict):
        local = given.get("sliding_attention")
        theta = local.get("rope_theta") if isinstance(local, dict) else None
        return Rope(given["full_attention"], number("config.json: rope_theta", theta))
    names = ("partial_rotary_factor", _ORIGINAL)
    outside = {"rope_type": given.get("type"), "rope_theta": config.get(*_THETA)}
    outside |= {name: config.get(name) for name in names}
    return Rope({**outside, **given}, config.number_if_there(*_LOCAL_THETA))
