"""`GET /api/ps`: the loaded models."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from fastapi import APIRouter, Request, Response

from engine.api import DeviceShare, LoadingModel, RunningModel
from engine.model import Model, Models
from registry.names import ModelName
from server.context import engine_of, models_of
from server.http.body import json_response
from server.http.errors import KNOWN, message_of
from server.ollama import clock
from server.ollama.details import NO_DETAILS, details
from server.ollama.schemas import ERRORS, PsAnswer

log = logging.getLogger("pronk.server")
router = APIRouter(responses=ERRORS)


@router.get("/api/ps", response_model=PsAnswer)
async def ps(request: Request) -> Response:
    """The loaded models, the last to expire first."""
    engine = engine_of(request)
    running = sorted(engine.running(), key=lambda model: model.expires_at, reverse=True)
    loading = [_loading(model) for model in engine.loading()]
    models = await asyncio.to_thread(_entries, running, models_of(request))
    return json_response({"models": models} | ({"loading": loading} if loading else {}))


def _entries(running: list[RunningModel], models: Models) -> list[dict[str, Any]]:
    """Blocks: reads the stored models."""
    return [_entry(model, _resolve(models, model.name)) for model in running]


def _entry(running: RunningModel, model: Model | None) -> dict[str, Any]:
    name = ModelName.parse(running.name).shortest
    others = [ModelName.parse(other).shortest for other, _ in running.others]
    devices = [device_fields(share) for share in running.devices]
    return {
        "name": name,
        "model": name,
        "size": running.size,
        "digest": running.digest,
        "details": NO_DETAILS if model is None else details(model) | {"parent_model": ""},
        "expires_at": clock.local(running.expires_at),
        "size_vram": running.size_vram,
        "context_length": running.context_length,
        **({"prompt_cache": running.prompt_cache} if running.prompt_cache else {}),
        **({"prompt_cache_disk": running.prompt_cache_disk} if running.prompt_cache_disk else {}),
        **({"other_names": others} if others else {}),
        **({"devices": devices} if devices else {}),
    }


def _loading(model: LoadingModel) -> dict[str, Any]:
    size = {} if model.size is None else {"size": model.size}
    return {"name": model.name, **size, "context_length": model.context_length}


def device_fields(share: DeviceShare) -> dict[str, Any]:
    """A `PsDevice`."""
    return {"name": share.name, "id": share.handle, "kind": share.kind, "size": share.size, "layers": share.layers}


def _resolve(models: Models, name: str) -> Model | None:
    """The stored model; None if it has been deleted or cannot be read."""
    try:
        return models.resolve(name)
    except KNOWN as error:
        log.warning("model %s is shown without details: %s", name, message_of(error))
        return None
