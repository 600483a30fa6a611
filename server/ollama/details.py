"""The `details` object that tags, show and ps have in common."""

from __future__ import annotations

from typing import Any

from engine.model import Model
from registry.gguf.types import UNKNOWN


def details(model: Model) -> dict[str, Any]:
    """What a model is; all keys are always there."""
    config = model.config
    return {
        "parent_model": model.parent_model,
        "format": config.model_format,
        "family": config.model_family,
        "families": list(config.model_families) if config.model_families else None,
        "parameter_size": config.model_type,
        "quantization_level": _quantization(model),
    }


def _quantization(model: Model) -> str:
    """What most of the weights are; where the model does not say so, its file may."""
    stated, found = model.config.file_type, model.header.file_type
    return found if stated in ("", UNKNOWN) and found != UNKNOWN else stated


NO_DETAILS: dict[str, Any] = {
    "parent_model": "",
    "format": "",
    "family": "",
    "families": None,
    "parameter_size": "",
    "quantization_level": "",
}
"""For a model that is loaded but no longer stored."""
