"""What watches the server: `/metrics`."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from server.context import engine_of, metrics_of

router = APIRouter()


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """The metrics, for Prometheus."""
    others = await engine_of(request).metrics()
    accept = request.headers.get("accept", "")
    page, media_type = await asyncio.to_thread(metrics_of(request).page, others, accept)
    return Response(page, headers={"content-type": media_type, "cache-control": "no-store"})
