"""`POST /v1/messages`, not supported yet: checks the request, then refuses it."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from server.anthropic.schemas import ERRORS, AnthropicError, MessagesBody, Route
from server.context import find_model
from server.http.errors import HTTPError, NotSupported

router = APIRouter(route_class=Route, responses=ERRORS)


@router.post("/v1/messages", status_code=501, response_model=AnthropicError)
async def messages(request: Request, body: MessagesBody) -> Response:
    """Chat in Anthropic's format; not supported yet."""
    if not body.model.strip():
        raise HTTPError("model is required")
    if body.max_tokens <= 0:
        raise HTTPError("max_tokens is required and must be positive")
    if not body.messages:
        raise HTTPError("messages is required")
    await find_model(request, body.model)
    raise NotSupported("/v1/messages")
