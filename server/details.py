"""The `details` object that tags, show and ps have in common."""

from __future__ import annotations

from typing import Any

from engine.model import Model


def details(model: Model) -> dict[str, Any]:
    """What a model is; all keys are always there."""
    config = model.config
    return {
        "parent_model": model.parent_model,
        "format": config.model_format,
        "family": config.model_family,
        "families": list(config.model_families) if config.model_families else None,
        "parameter_size": config.model_type,
        "quantization_level": config.file_type,
    }


NO_DETAILS: dict[str, Any] = {
    "parent_model": "",
    "format": "",
    "family": "",
    "families": None,
    "parameter_size": "",
    "quantization_level": "",
}
"""For a model that is loaded but no longer stored."""
