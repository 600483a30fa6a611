"""Routes that change the store: copy, delete, blobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager

from fastapi import APIRouter, Request, Response

from engine.errors import ModelNotFound
from engine.names import stored_name
from modelfile.text import cut, quote
from registry.names import Digest, InvalidName, ModelName
from registry.storage.leases import held
from registry.storage.store import BlobRepair, BlobWriter, DigestMismatch, ModelMissing
from server.context import settings_of, store_of
from server.http.body import BodyRoute, empty_response
from server.http.errors import HTTPError, NotFound
from server.http.openapi import BINARY, takes
from server.ollama.schemas import ERRORS, CopyBody, DeleteBody

_PIECE = 1 << 20  # bytes

router = APIRouter(route_class=BodyRoute, responses=ERRORS)


@router.post("/api/copy", response_class=Response)
async def copy(request: Request, body: CopyBody) -> Response:
    """Give a model another name."""
    source = _parse(body.source, "source", body.source)
    destination = _parse(body.destination, "destination", body.destination)
    if source != destination:
        try:
            prune = not settings_of(request).no_prune
            await asyncio.to_thread(store_of(request).copy, source, destination, prune=prune)
        except ModelMissing:
            raise NotFound(f"model {quote(cut(body.source))} not found") from None
    return empty_response()


@router.delete("/api/delete", response_class=Response)
async def delete(request: Request, body: DeleteBody) -> Response:
    """Remove a name, and the blobs that no other name needs."""
    if not body.model_name.strip():
        raise HTTPError("model is required")
    parsed = _parse(stored_name(body.model_name), "name", body.model_name)
    try:
        await asyncio.to_thread(store_of(request).delete, parsed)
    except ModelMissing:
        raise ModelNotFound(body.model_name) from None
    return empty_response()


@router.head("/api/blobs/{digest}", response_class=Response)
async def has_blob(request: Request, digest: str) -> Response:
    """Whether a blob is stored. A truncated one counts as missing, so the client sends it again."""
    if not await asyncio.to_thread(store_of(request).seems_whole, Digest.parse(digest)):
        raise NotFound(f"blob {quote(cut(digest))} not found")
    return empty_response()


@router.post(
    "/api/blobs/{digest}",
    response_class=Response,
    responses={200: {"description": "Was stored already"}, 201: {"description": "Stored"}},
    openapi_extra=takes("application/octet-stream", BINARY),
)
async def put_blob(request: Request, digest: str) -> Response:
    """Store a blob: it is written as it arrives, and published once its digest is verified.

    A stored blob is compared with the upload, and replaced if its bytes are damaged.
    """
    parsed = Digest.parse(digest)
    store = store_of(request)
    exists = await asyncio.to_thread(store.has_blob, parsed)
    opened: AbstractContextManager[BlobRepair | BlobWriter] = (store.repair_blob if exists else store.put_blob)(parsed)
    try:
        async with held(opened) as blob:
            async for part in _pieces(request):
                await asyncio.to_thread(blob.write, part)
            await asyncio.to_thread(blob.commit)
    except DigestMismatch as error:
        raise HTTPError(str(error)) from None
    return empty_response(200 if exists else 201)


async def _pieces(request: Request) -> AsyncGenerator[bytes, None]:
    """The body in pieces of at least 1 MiB, as each costs a call of a thread."""
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size >= _PIECE:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


def _parse(text: str, role: str, sent: str) -> ModelName:
    """The name in `text`. Raises HTTPError, which quotes what was `sent` as this `role`."""
    try:
        return ModelName.parse(text)
    except InvalidName:
        raise HTTPError(f"{role} {quote(cut(sent))} is invalid") from None
