"""`/v1/models`.

A model's name may contain slashes, also escaped ones.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from engine.errors import CloudModel
from engine.names import local_name
from registry.names import ModelName
from registry.storage.store import ModelMissing, Store, StoredModel
from server.context import store_of
from server.http.body import json_response
from server.http.errors import CLOUD_DISABLED, Forbidden, HTTPError, NotFound
from server.ollama.clock import written
from server.openai.schemas import (
    ERRORS,
    ClaudeModel,
    ClaudeModelList,
    ModelList,
    ModelObject,
    Route,
)

router = APIRouter(route_class=Route, responses=ERRORS)
ANTHROPIC_VERSION = "anthropic-version"
"""The header by which clients of Anthropic's API are known, which has these paths too."""
_JSON = "application/json"


@router.get("/v1/models", response_model=ModelList | ClaudeModelList)
async def models(request: Request) -> Response:
    """The stored models, newest first. With the header `anthropic-version` in the format of Anthropic's API."""
    stored = await asyncio.to_thread(store_of(request).list)
    if not _asks_as_anthropic(request):
        data = [_model(model.name.shortest, model) for model in stored]
        return json_response({"object": "list", "data": data}, media_type=_JSON)
    data = [_claude_model(model.name.shortest, model) for model in stored]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return json_response({"data": data, "has_more": False, **ends}, media_type=_JSON)


@router.get("/v1/models/{model:path}", response_model=ModelObject | ClaudeModel)
async def model(request: Request, model: str) -> Response:
    """One stored model, under the requested name."""
    stored = await asyncio.to_thread(_find, store_of(request), model)
    write = _claude_model if _asks_as_anthropic(request) else _model
    return json_response(write(model, stored), media_type=_JSON)


def _find(store: Store, name: str) -> StoredModel:
    if not name.strip():
        raise HTTPError("model is required", "model")
    try:
        parsed = ModelName.parse(local_name(name))
    except CloudModel:
        raise Forbidden(f"{CLOUD_DISABLED}: remote model details are unavailable") from None
    try:
        return store.find(parsed)
    except ModelMissing:
        raise NotFound(f"model '{parsed.shortest}' not found") from None


def _model(name: str, stored: StoredModel) -> dict[str, Any]:
    owner = stored.name.namespace
    return {"id": name, "object": "model", "created": stored.second, "owned_by": owner}


def _asks_as_anthropic(request: Request) -> bool:
    return ANTHROPIC_VERSION in request.headers


def _claude_model(name: str, stored: StoredModel) -> dict[str, Any]:
    created = written(stored.modified_at)
    return {"type": "model", "id": name, "display_name": name, "created_at": created, "lifecycle": "active"}
