"""The ASGI application: the guard, the routes, the error handlers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from engine.model import Models
from registry.progress import Traffic
from registry.storage.store import Store
from server.context import EngineSurface
from server.http.access import Access
from server.http.capture import Capture, Capturing
from server.http.cors import Origins
from server.http.errors import KNOWN, error_response, message_of
from server.http.guard import Guard
from server.http.hosts import Hosts
from server.http.keys import KeyRing
from server.http.paths import PathTable
from server.http.streaming import no_answer
from server.metrics import ServerMetrics
from server.ollama.tags import Listing
from server.preload import Preload
from server.routers import ROUTERS, error_object_of, request_id_headers, scope_of
from server.settings import Settings
from server.transfers import Transfers

log = logging.getLogger("pronk.server")


def create_app(settings: Settings, engine: EngineSurface, models: Models) -> FastAPI:
    """The server's ASGI application; its lifespan starts and stops the engine. Raises InvalidOrigin and KeysError.

    `models` are the stored models. An engine in this process must share the object: it unloads deleted models, and
    what was read once is cached for both.
    """

    traffic = Traffic()
    metrics = ServerMetrics(traffic)
    capture = Capture() if settings.log_requests else None
    preload = Preload(engine, settings.preload)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        async with nullcontext() if capture is None else capture.opened():
            await engine.start()
            pruning = asyncio.create_task(_prune(models.store, enabled=not settings.no_prune))
            preloading = asyncio.create_task(preload.run())
            try:
                # For what is no request, and an event that the server sets when it begins to stop.
                count_refused, stopping = metrics.refused, asyncio.Event()
                yield {"error_object_of": error_object_of, "count_refused": count_refused, "stopping": stopping}
            finally:
                preloading.cancel()
                await engine.stop()
                await asyncio.wait((preloading,))
                await pruning

    ring = KeyRing(settings.keys_file, settings.api_keys, required=settings.require_api_keys)
    # The pages of `server.http.docs` replace FastAPI's, which load files from a CDN.
    app = FastAPI(
        title="Pronk", version=settings.version, openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.router.redirect_slashes = False
    for router in ROUTERS:
        app.include_router(router)
    app.state.settings = settings
    app.state.engine = engine
    app.state.models = models
    app.state.error_object_of = error_object_of
    app.state.keys = ring
    app.state.listing = Listing(models)
    app.state.metrics = metrics
    app.state.preload = preload
    app.state.transfers = Transfers(models.store, settings, traffic, metrics)
    for kind in (*KNOWN, Exception):
        app.add_exception_handler(kind, error_response)
    app.add_exception_handler(ClientDisconnect, no_answer)
    if capture is not None:
        app.add_middleware(Capturing, capture=capture)
    app.add_middleware(
        Guard,
        paths=path_table(),
        origins=Origins(settings.origins),
        hosts=Hosts(settings.address.host, settings.allowed_hosts, settings.origins),
        access=Access(ring),
        scope_of=scope_of,
        id_headers=request_id_headers,
        error_object_of=error_object_of,
        metrics=metrics,
    )
    return app


async def _prune(store: Store, *, enabled: bool) -> None:
    """Remove unused files in a thread. A store that cannot be pruned can still be served."""
    try:
        if enabled:
            await asyncio.to_thread(store.prune, time.time())
    except KNOWN as error:
        log.warning("unused files are not removed: %s", message_of(error))


def path_table() -> PathTable:
    """The paths and methods of all routes."""
    routes = (route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute))
    return PathTable.of((route.path, route.methods or ()) for route in routes)
