"""`POST /api/create`."""

from __future__ import annotations

import asyncio
from functools import partial

from fastapi import APIRouter, Request, Response

from engine.spawn import child_environment
from modelfile.create import CreateRequest, References, read_modelfile, with_modelfile
from modelfile.create import create as make
from modelfile.paths import expand, working_folder
from registry.storage.store import Store
from server.context import metrics_of, settings_of, shares_files, store_of, transfers_of
from server.http.body import BodyRoute
from server.http.errors import HTTPError
from server.http.openapi import lines
from server.http.streaming import StreamingAnswer
from server.ollama.create_schema import CreateBody
from server.ollama.schemas import ERRORS, ProgressAnswer
from server.ollama.writer import ProgressWriter
from server.transfers import logged

router = APIRouter(route_class=BodyRoute, responses=ERRORS)


@router.post("/api/create", response_model=ProgressAnswer, responses=lines(ProgressAnswer))
async def create(request: Request, body: CreateBody) -> Response:
    """Create a model from uploaded files or from another model."""
    settings, store = settings_of(request), store_of(request)
    create_request = await asyncio.to_thread(_create_request, store, body, trusted=shares_files(request))
    environ, pull = child_environment(settings.environ), partial(transfers_of(request).pull, insecure=False)
    prune, watchdog = not settings.no_prune, settings.watchdog
    steps = make(store, create_request, environ, pull=pull, prune=prune, watchdog=watchdog)
    steps = logged(store, create_request.name, "create", steps, metrics_of(request))
    return StreamingAnswer(steps, ProgressWriter(stream=body.stream))


def _create_request(store: Store, body: CreateBody, *, trusted: bool) -> CreateRequest:
    """The model to create. Only trusted clients may name local files, because they could read any of them."""
    request = body.request()
    if not body.is_old:
        return request
    if not trusted:
        return with_modelfile(request, _text(body), References(store, ()))
    here = working_folder()
    if not body.path:
        return with_modelfile(request, body.modelfile, References(store, (here,)))
    path = expand(body.path, here)
    text = body.modelfile or read_modelfile(path)
    return with_modelfile(request, text, References(store, (path.parent, here)))


def _text(body: CreateBody) -> str:
    """The Modelfile in the request. Raises HTTPError if it only has a path."""
    if not body.modelfile:
        raise HTTPError(f"invalid model reference: {body.path}")
    return body.modelfile
