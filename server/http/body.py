"""Request bodies in, JSON answers out."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from server import gojson
from server.gotypes import Kind, decode_as
from server.http.errors import BodyTooLarge, InvalidBody

T = TypeVar("T")

JSON = "application/json; charset=utf-8"
NDJSON = "application/x-ndjson"
_LONG = 1 << 20  # bytes; decoding more than this would hold up the event loop noticeably


async def read_body(request: Request, kind: Kind[T], limit: int, empty: str = "missing request body") -> T:
    """The JSON body as `kind`, whatever its Content-Type. Raises BodyTooLarge or InvalidBody."""
    data = await _receive(request, limit)
    try:
        if len(data) > _LONG:
            return await asyncio.to_thread(_decode, data, kind)
        return _decode(data, kind)
    except gojson.EmptyBody:
        raise InvalidBody(empty) from None
    except ValueError as error:
        raise InvalidBody(str(error)) from None


def _decode(data: bytes, kind: Kind[T]) -> T:
    return decode_as(kind, gojson.decode(data))


async def _receive(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise BodyTooLarge(limit)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise BodyTooLarge(limit)
        parts.append(part)
    return b"".join(parts)


def json_response(value: Any, status: int = 200, media_type: str = JSON) -> Response:
    """A whole JSON answer. `value` is made of dicts, lists, texts, numbers and `msgspec.Raw`."""
    return Response(gojson.encode(value), status, media_type=None, headers={"content-type": media_type})


def empty_response(status: int = 200) -> Response:
    """An answer without body or Content-Type."""
    return Response(status_code=status)
