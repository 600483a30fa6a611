"""`POST /api/pull` and `POST /api/push`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from engine.errors import ModelNotFound
from engine.names import stored_name
from registry.names import ModelName
from registry.storage.store import ModelMissing
from server.context import transfers_of
from server.http.body import BodyRoute
from server.http.errors import HTTPError
from server.http.openapi import lines
from server.http.streaming import StreamingAnswer
from server.ollama.schemas import ERRORS, ProgressAnswer, PullBody, PushBody
from server.ollama.writer import ProgressWriter

router = APIRouter(route_class=BodyRoute, responses=ERRORS)


@router.post("/api/pull", response_model=ProgressAnswer, responses=lines(ProgressAnswer))
async def pull(request: Request, body: PullBody) -> Response:
    """Download a model. Bundled models need no network."""
    name = ModelName.parse(stored_name(body.model_name))
    steps = transfers_of(request).pull(name, insecure=body.insecure)
    return StreamingAnswer(steps, ProgressWriter(stream=body.stream))


@router.post("/api/push", response_model=ProgressAnswer, responses=lines(ProgressAnswer))
async def push(request: Request, body: PushBody) -> Response:
    """Upload a model to the registry in its name."""
    if not body.model_name.strip():
        raise HTTPError("model is required")
    name = ModelName.parse(body.model_name)
    transfers = transfers_of(request)
    try:
        await transfers.require(name)
    except ModelMissing:
        raise ModelNotFound(body.model_name) from None
    return StreamingAnswer(transfers.push(name, insecure=body.insecure), ProgressWriter(stream=body.stream))
