"""What the server says about itself and its models: `/`, version, status, tags, ps."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from engine.api import RunningModel
from engine.model import Model, Models
from registry.names import ModelName
from server.context import engine_of, models_of, settings_of
from server.http.body import JSON, json_response
from server.http.errors import KNOWN, message_of
from server.ollama import clock
from server.ollama.details import NO_DETAILS, details
from server.ollama.listing import listing_of
from server.ollama.schemas import ERRORS, PsAnswer, StatusAnswer, TagsAnswer, VersionAnswer

log = logging.getLogger("pronk.server")
router = APIRouter(responses=ERRORS)


@router.head("/", include_in_schema=False)
@router.get("/", response_class=PlainTextResponse)
async def root() -> Response:
    """A sign of life; clients compare the text."""
    return PlainTextResponse("Ollama is running")


@router.head("/api/version", include_in_schema=False)
@router.get("/api/version", response_model=VersionAnswer)
async def version(request: Request) -> Response:
    """The version that clients check features against."""
    return json_response({"version": settings_of(request).version})


@router.get("/api/status", response_model=StatusAnswer)
async def status() -> Response:
    """Whether models of a cloud can be used: never."""
    return json_response({"cloud": {"disabled": True, "source": "env"}})


@router.head("/api/tags", include_in_schema=False)
@router.get("/api/tags", response_model=TagsAnswer)
async def tags(request: Request) -> Response:
    """The stored models, newest first."""
    return Response(await listing_of(request).json(), headers={"content-type": JSON})


@router.get("/api/ps", response_model=PsAnswer)
async def ps(request: Request) -> Response:
    """The loaded models, the one that stays longest first."""
    running = sorted(engine_of(request).running(), key=lambda model: model.expires_at, reverse=True)
    return json_response({"models": await asyncio.to_thread(_running, running, models_of(request))})


def _running(running: list[RunningModel], models: Models) -> list[dict[str, Any]]:
    """Blocking."""
    return [_process(entry, _resolve(models, entry.name)) for entry in running]


def _process(entry: RunningModel, model: Model | None) -> dict[str, Any]:
    name = ModelName.parse(entry.name).shortest
    return {
        "name": name,
        "model": name,
        "size": entry.size,
        "digest": entry.digest,
        "details": NO_DETAILS if model is None else details(model) | {"parent_model": ""},
        "expires_at": clock.local(entry.expires_at),
        "size_vram": entry.size_vram,
        "context_length": entry.context_length,
    }


def _resolve(models: Models, name: str) -> Model | None:
    try:
        return models.resolve(name)
    except KNOWN as error:
        log.warning("skipping model %s: %s", name, message_of(error))
        return None
