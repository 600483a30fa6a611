"""`GET /api/ps`: the loaded models."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from fastapi import APIRouter, Request, Response

from engine.api import RunningModel
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
    running = sorted(engine_of(request).running(), key=lambda model: model.expires_at, reverse=True)
    return json_response({"models": await asyncio.to_thread(_entries, running, models_of(request))})


def _entries(running: list[RunningModel], models: Models) -> list[dict[str, Any]]:
    """Blocks: reads the stored models."""
    return [_entry(model, _resolve(models, model.name)) for model in running]


def _entry(running: RunningModel, model: Model | None) -> dict[str, Any]:
    name = ModelName.parse(running.name).shortest
    return {
        "name": name,
        "model": name,
        "size": running.size,
        "digest": running.digest,
        "details": NO_DETAILS if model is None else details(model) | {"parent_model": ""},
        "expires_at": clock.local(running.expires_at),
        "size_vram": running.size_vram,
        "context_length": running.context_length,
    }


def _resolve(models: Models, name: str) -> Model | None:
    """The stored model; None if it has been deleted or cannot be read."""
    try:
        return models.resolve(name)
    except KNOWN as error:
        log.warning("model %s is shown without details: %s", name, message_of(error))
        return None
