"""What a model made of one GGUF file is, as its config blob says it."""

from __future__ import annotations

from registry.gguf import GGUFHeader
from registry.manifest import ModelConfig


def config_of(header: GGUFHeader) -> ModelConfig:
    """The config of a model with these weights."""
    return ModelConfig(
        model_format="gguf",
        model_family=header.architecture,
        model_families=(header.architecture,),
        model_type=header.parameter_size,
        file_type=header.file_type,
    )
