"""`POST /api/embed` and `/api/embeddings`: for now their refusals."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from engine.errors import ModelNotFound
from engine.model import Models
from registry.names import ModelName
from server.deps import engine_of, settings_of
from server.errors import HTTPError, NotFound, NotSupported
from server.gotext import quote
from server.schemas.native import EMBED, EMBEDDINGS
from server.wire import read_body

router = APIRouter()


@router.post("/api/embed")
async def embed(request: Request) -> Response:
    """Vectors of texts; not there yet."""
    body = await read_body(request, EMBED, settings_of(request).max_body)
    if not body.model_name.strip():
        raise ModelNotFound(body.model_name)
    ModelName.parse(body.model_name.strip())
    if not _is_input(body.input):
        raise HTTPError("invalid input type")
    await asyncio.to_thread(_require, engine_of(request).models, body.model_name)
    raise NotSupported("/api/embed")


@router.post("/api/embeddings")
async def embeddings(request: Request) -> Response:
    """The vector of one text; not there yet."""
    body = await read_body(request, EMBEDDINGS, settings_of(request).max_body)
    if not body.model_name.strip():
        raise HTTPError("model is required")
    await asyncio.to_thread(_require, engine_of(request).models, body.model_name)
    raise NotSupported("/api/embeddings")


def _is_input(value: Any) -> bool:
    items = value if isinstance(value, list) else [] if value is None else [value]
    return all(isinstance(item, str) for item in items)


def _require(models: Models, name: str) -> None:
    try:
        models.resolve(name)
    except ModelNotFound:
        raise NotFound(f"model {quote(name)} not found, try pulling it first") from None
