"""`/openapi.json`, and `/docs` with Swagger UI, whose files come from an installed package."""

from __future__ import annotations

import asyncio
from importlib.resources import files

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html

from server.http.errors import NotFound
from server.http.json_output import encode
from server.http.openapi import hoisted

router = APIRouter(include_in_schema=False)

_PACKAGE = "fastapi_offline"  # ships the files of Swagger UI
_ASSETS = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "favicon.png": "image/png"}
_A_DAY = "public, max-age=86400"


@router.get("/openapi.json")
async def document(request: Request) -> Response:
    """The OpenAPI document."""
    schema = await asyncio.to_thread(request.app.openapi)  # slow the first time
    return Response(encode(hoisted(schema)), headers={"content-type": "application/json; charset=utf-8"})


@router.get("/docs")
async def page() -> Response:
    """The OpenAPI document in Swagger UI."""
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title="Pronk",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="docs/favicon.png",
    )


@router.get("/docs/{asset}")
async def asset(asset: str) -> Response:
    """A file of Swagger UI."""
    if asset not in _ASSETS:
        raise NotFound(f"file '{asset}' not found")
    data = await asyncio.to_thread((files(_PACKAGE) / "static" / asset).read_bytes)
    return Response(data, headers={"content-type": _ASSETS[asset], "cache-control": _A_DAY})
