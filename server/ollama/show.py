"""`POST /api/show`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from engine.errors import CloudModel, ModelNotFound
from engine.model import Model, Models
from registry.gguf import GGUFArray, GGUFHeader, TensorInfo, read_header
from registry.names import ModelName
from server.context import models_of, shares_files
from server.embedding_json import json_float32
from server.http.body import BodyRoute, json_response
from server.http.errors import CLOUD_DISABLED, Forbidden, HTTPError, NotFound
from server.ollama import clock
from server.ollama.details import details
from server.ollama.modelfile_text import NO_TEMPLATE, modelfile, parameter_lines
from server.ollama.schemas import ERRORS, ShowAnswer, ShowBody

_HIDDEN = ("general.name", "tokenizer.chat_template")
_BLOCK = re.compile(r"blk\.(\d+)\.(.*)")
_COPILOT = "GitHubCopilotChat/"

router = APIRouter(route_class=BodyRoute, responses=ERRORS)


@router.post("/api/show", response_model=ShowAnswer)
async def show(request: Request, body: ShowBody) -> Response:
    """Describe a model: Modelfile, template, metadata, tensors, capabilities."""
    if not body.model_name.strip():
        raise HTTPError("model is required")
    answer = await asyncio.to_thread(_describe, models_of(request), body, shares_files(request))
    if request.headers.get("user-agent", "").startswith(_COPILOT):
        answer["model_info"]["general.basename"] = body.model_name
    return await asyncio.to_thread(json_response, answer)  # megabytes with a vocabulary


def _describe(models: Models, body: ShowBody, paths: bool) -> dict[str, Any]:
    """The answer, without the `paths` of files or with them. Blocks: reads them. Raises NotFound or Forbidden."""
    try:
        model = models.resolve(body.model_name)
    except ModelNotFound:
        raise NotFound(f"model '{ModelName.parse(body.model_name.strip()).shortest}' not found") from None
    except CloudModel:
        raise Forbidden(f"{CLOUD_DISABLED}: remote model details are unavailable") from None
    if not model.weights.is_file():
        raise NotFound(f"model '{model.name.shortest}' not found")
    system = body.system or model.system
    answer = {
        "license": "\n".join(model.license),
        "modelfile": modelfile(model, system, {**model.parameters, **body.options}, paths=paths),
        "parameters": parameter_lines(model.parameters),
        "template": (model.chat_template if model.route.uses_embedded_template else model.template) or NO_TEMPLATE,
        "system": system,
        "details": details(model),
        "messages": [{"role": message.role, "content": message.content} for message in model.messages],
        "model_info": _model_info(model.header, verbose=body.verbose),
        "projector_info": _projector_info(model, verbose=body.verbose),
        "tensors": [_tensor(tensor) for tensor in sorted(model.header.tensors, key=_tensor_order)],
        "capabilities": sorted(model.capabilities),
        "modified_at": clock.written(model.modified_at),
        "requires": model.config.requires,
    }
    always = ("modelfile", "details", "model_info")
    return {key: value for key, value in answer.items() if value or key in always}


def _model_info(header: GGUFHeader, *, verbose: bool, hidden: Collection[str] = _HIDDEN) -> dict[str, Any]:
    """The metadata of a GGUF file, sorted by key. Without `verbose` arrays are null, because a vocabulary is long."""
    info = {key: _value(value, verbose) for key, value in header.metadata.items() if key not in hidden}
    info["general.parameter_count"] = header.parameter_count
    return dict(sorted(info.items()))


def _projector_info(model: Model, *, verbose: bool) -> dict[str, Any]:
    if not model.projectors:
        return {}
    return _model_info(read_header(model.projectors[0]), verbose=verbose, hidden=())


def _value(value: Any, verbose: bool) -> Any:
    if isinstance(value, GGUFArray):
        if not len(value):
            return []
        return [_value(item, verbose) for item in value.values()] if verbose else None
    # Nearly all floats in a GGUF file are float32; more digits would be noise.
    return msgspec.Raw(json_float32(value).encode()) if isinstance(value, float) else value


def _tensor(tensor: TensorInfo) -> dict[str, Any]:
    return {"name": tensor.name, "type": tensor.type, "shape": list(tensor.shape)}


def _tensor_order(tensor: TensorInfo) -> tuple[int, str]:
    """The sort key of a tensor: those outside of blocks first, then by block number."""
    block = _BLOCK.fullmatch(tensor.name)
    return (int(block[1]), block[2]) if block else (-1, tensor.name)
