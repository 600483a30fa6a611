"""The `details` object of `/api/tags`, `/api/show` and `/api/ps`."""

from __future__ import annotations

from typing import Any

from engine.model import Model
from registry.gguf.types import UNKNOWN


def details(model: Model) -> dict[str, Any]:
    """Format, family, size and quantization of a model; every key is present."""
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
    """The type of most weights: the config's, or the GGUF header's if that says nothing."""
    stated, actual = model.config.file_type, model.header.file_type
    return actual if stated in ("", UNKNOWN) and actual != UNKNOWN else stated


NO_DETAILS: dict[str, Any] = {
    "parent_model": "",
    "format": "",
    "family": "",
    "families": None,
    "parameter_size": "",
    "quantization_level": "",
}
"""The details of a model that is loaded but no longer stored."""
