"""Makes the config blob from the weights, the request and the base model. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from modelfile.create.request import CreateRequest, Info, read_info
from modelfile.create.stock_templates import known_stops
from modelfile.create.transaction import ModelPart, of_type
from registry import manifest as media_types
from registry.gguf import GGUFHeader
from registry.manifest import DraftConfig, ModelConfig

_FORMAT = "gguf"
_OWN_FORMATS = {
    "gemma4": "gemma4",
    "laguna": "laguna",
    "nemotron_h": "nemotron-3-nano",
    "nemotron_h_moe": "nemotron-3-nano",
    "nemotron_h_omni": "nemotron-3-nano",
}
"""Architectures whose chat format is code instead of a template, with the renderer's and parser's name."""
_OWN_STOPS = {"gemma4": ("<turn|>",)}


def make_config(request: CreateRequest, parts: Sequence[ModelPart], inherited: ModelConfig) -> ModelConfig:
    """The config of the new model; the first model layer decides."""
    info = read_info(request.info)
    headers = [part.header for part in of_type(parts, media_types.MODEL) if part.header is not None]
    own = _own_format(request, inherited, headers)
    return ModelConfig(
        model_format=inherited.model_format or (_FORMAT if headers else ""),
        model_family=info.model_family or (headers[0].architecture if headers else ""),
        model_families=_families(info, headers),
        model_type=info.parameter_size or (headers[0].parameter_size if headers else ""),
        file_type=info.quantization_level or (headers[0].file_type if headers else ""),
        renderer=request.renderer or inherited.renderer or own,
        parser=request.parser or inherited.parser or own,
        requires=request.requires or inherited.requires,
        capabilities=(*(inherited.capabilities or ()), *info.capabilities) or None,
        context_length=info.context_length,
        embedding_length=info.embedding_length,
        base_name=info.base_name,
        draft=_draft(parts),
    )


def own_stops(request: CreateRequest, parts: Sequence[ModelPart], inherited: ModelConfig) -> list[str]:
    """Stop texts of the model's chat format, if the request names none and the base had no such format."""
    headers = [part.header for part in of_type(parts, media_types.MODEL) if part.header is not None]
    if "stop" in request.parameters or not headers:
        return []
    own = _OWN_STOPS.get(headers[0].architecture, ()) if _own_format(request, inherited, headers) else ()
    return list(own or _stops_of_template(request, headers[0]))


def _stops_of_template(request: CreateRequest, header: GGUFHeader) -> tuple[str, ...]:
    """The stop texts of new weights' chat template, if it is a stock one."""
    template = header.metadata.get("tokenizer.chat_template")
    return known_stops(template) if request.base is None and isinstance(template, str) else ()


def _own_format(request: CreateRequest, inherited: ModelConfig, headers: Sequence[GGUFHeader]) -> str:
    """The renderer and parser of the architecture, if one of them is missing; else empty."""
    complete = (request.renderer or inherited.renderer) and (request.parser or inherited.parser)
    return "" if complete or not headers else _OWN_FORMATS.get(headers[0].architecture, "")


def _families(info: Info, headers: Sequence[GGUFHeader]) -> tuple[str, ...] | None:
    stated = (info.model_family,) if info.model_family else ()
    return (*stated, *(header.architecture for header in headers)) or None


def _draft(parts: Sequence[ModelPart]) -> DraftConfig | None:
    headers = [part.header for part in of_type(parts, media_types.DRAFT) if part.header is not None]
    return DraftConfig(model_format=_FORMAT, architecture=headers[-1].architecture) if headers else None
