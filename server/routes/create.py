"""`POST /api/create`: make a model."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from engine.process import child_environment
from modelfile.create import CreateRequest
from modelfile.create import create as make
from server.deps import engine_of, settings_of
from server.errors import InvalidBody
from server.gotypes import TypeMismatch
from server.progress import Progress
from server.schemas.create import CREATE, CreateBody
from server.wire import read_body

router = APIRouter()


@router.post("/api/create")
async def create(request: Request) -> Response:
    """Make a model of uploaded files, or of another model."""
    settings = settings_of(request)
    body = await read_body(request, CREATE, settings.max_body)
    environ = child_environment(settings.environ)
    steps = make(engine_of(request).store, _wanted(body), environ, prune=not settings.no_prune)
    return Progress(steps, stream=body.stream)


def _wanted(body: CreateBody) -> CreateRequest:
    try:
        return body.request()
    except TypeMismatch as error:
        raise InvalidBody(str(error)) from None
