"""`POST /v1/messages`: for now its refusals."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from server.anthropic.schemas import MESSAGES
from server.context import find_model, settings_of
from server.http.body import read_body
from server.http.errors import HTTPError, NotSupported

router = APIRouter()


@router.post("/v1/messages")
async def messages(request: Request) -> Response:
    """A chat in Anthropic's dialect; not there yet."""
    body = await read_body(request, MESSAGES, settings_of(request).max_body, empty="EOF")
    if not body.model.strip():
        raise HTTPError("model is required")
    if body.max_tokens <= 0:
        raise HTTPError("max_tokens is required and must be positive")
    if not body.messages:
        raise HTTPError("messages is required")
    await find_model(request, body.model)
    raise NotSupported("/v1/messages")
