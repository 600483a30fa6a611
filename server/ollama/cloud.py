"""Endpoints of an account at a cloud: they answer as a server does whose cloud is switched off."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from server.context import settings_of
from server.gotypes import ANY
from server.http.body import json_response, read_body
from server.http.errors import CLOUD_DISABLED, Forbidden, Unauthorized

router = APIRouter()


@router.post("/api/me")
async def me() -> Response:
    """Who is signed in: nobody."""
    raise Unauthorized("unauthorized")


@router.post("/api/signout")
@router.delete("/api/user/keys/{encodedKey}")
async def signout() -> Response:
    """Sign out; nobody is signed in."""
    raise Unauthorized("you are not currently signed in")


@router.post("/api/experimental/web_search")
async def web_search(request: Request) -> Response:
    """Search the web: always refused, for it needs a cloud."""
    await read_body(request, ANY, settings_of(request).max_body)
    raise Forbidden(f"{CLOUD_DISABLED}: web search is unavailable")


@router.post("/api/experimental/web_fetch")
async def web_fetch(request: Request) -> Response:
    """Fetch a page: always refused, for it needs a cloud."""
    await read_body(request, ANY, settings_of(request).max_body)
    raise Forbidden(f"{CLOUD_DISABLED}: web fetch is unavailable")


@router.get("/api/experimental/model-recommendations")
async def recommendations() -> Response:
    """Models that the cloud recommends."""
    return json_response({"recommendations": []})
