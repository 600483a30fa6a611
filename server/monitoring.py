"""What watches the server: `/metrics`, `/healthz` and `/readyz`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from server.context import engine_of, metrics_of, settings_of
from server.preload import Preload
from server.startup import require_readable

router = APIRouter()
_FRESH = {"cache-control": "no-store"}


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """The metrics, for Prometheus."""
    others = await engine_of(request).metrics()
    accept = request.headers.get("accept", "")
    page, media_type = await asyncio.to_thread(metrics_of(request).page, others, accept)
    return Response(page, headers={"content-type": media_type} | _FRESH)


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", response_class=PlainTextResponse)
async def healthz() -> Response:
    """`ok`: the server's process answers."""
    return PlainTextResponse("ok", headers=_FRESH)


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", response_class=PlainTextResponse, responses={503: {"description": "The reason, in a line."}})
async def readyz(request: Request) -> Response:
    """`ok` if models can be served, else a 503 with the reason in a line."""
    stopping: asyncio.Event | None = getattr(request.state, "stopping", None)
    preload: Preload = request.app.state.preload
    reason = "the server is stopping" if stopping and stopping.is_set() else engine_of(request).unready()
    reason = reason or preload.unready or await asyncio.to_thread(unreadable, settings_of(request).models_folder)
    return PlainTextResponse(reason or "ok", 503 if reason else 200, headers=_FRESH)


def unreadable(folder: Path) -> str:
    """Why the models cannot be read, without the folder's name; "" if they can. A folder may still have to be made."""
    try:
        require_readable(folder)
    except FileNotFoundError:
        return "" if os.access(folder.parent, os.W_OK | os.X_OK) else "the models folder is not there"
    except OSError as error:
        return f"the models folder cannot be read: {error.strerror}"
    return ""
