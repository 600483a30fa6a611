"""`/`, `/api/version` and `/api/status`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from server.context import settings_of
from server.http.body import json_response
from server.ollama.schemas import ERRORS, StatusAnswer, VersionAnswer

router = APIRouter(responses=ERRORS)


@router.head("/", include_in_schema=False)
@router.get("/", response_class=PlainTextResponse)
async def root() -> Response:
    """Whether the server runs; clients compare the text."""
    return PlainTextResponse("Ollama is running")


@router.head("/api/version", include_in_schema=False)
@router.get("/api/version", response_model=VersionAnswer)
async def version(request: Request) -> Response:
    """The version that clients check features against."""
    return json_response({"version": settings_of(request).version})


@router.get("/api/status", response_model=StatusAnswer)
async def status() -> Response:
    """Whether cloud models can be used: never."""
    return json_response({"cloud": {"disabled": True, "source": "env"}})
