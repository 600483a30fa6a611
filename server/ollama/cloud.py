"""Endpoints of Ollama's cloud, answered as by a server whose cloud is disabled."""

from __future__ import annotations

from fastapi import APIRouter, Response

from server.http.body import AnyBody, BodyRoute, json_response
from server.http.errors import CLOUD_DISABLED, Forbidden, Unauthorized
from server.ollama.schemas import ERRORS, ErrorAnswer, Recommendations

_KEY = {"name": "encodedKey", "in": "path", "required": True, "schema": {"type": "string"}}

router = APIRouter(route_class=BodyRoute, responses=ERRORS)


@router.post("/api/me", status_code=401, response_model=ErrorAnswer)
async def me() -> Response:
    """The account that is signed in: always 401."""
    raise Unauthorized("unauthorized")


@router.post("/api/signout", status_code=401, response_model=ErrorAnswer)
@router.delete(
    "/api/user/keys/{encodedKey}",
    status_code=401,
    response_model=ErrorAnswer,
    openapi_extra={"parameters": [_KEY]},
)
async def signout() -> Response:
    """Sign out: always 401."""
    raise Unauthorized("you are not currently signed in")


@router.post("/api/experimental/web_search", status_code=403, response_model=ErrorAnswer)
async def web_search(_: AnyBody) -> Response:
    """Search the web: always 403, because it needs a cloud."""
    raise Forbidden(f"{CLOUD_DISABLED}: web search is unavailable")


@router.post("/api/experimental/web_fetch", status_code=403, response_model=ErrorAnswer)
async def web_fetch(_: AnyBody) -> Response:
    """Fetch a web page: always 403, because it needs a cloud."""
    raise Forbidden(f"{CLOUD_DISABLED}: web fetch is unavailable")


@router.get("/api/experimental/model-recommendations", response_model=Recommendations)
async def recommendations() -> Response:
    """Models that the cloud recommends: always none."""
    return json_response({"recommendations": []})
