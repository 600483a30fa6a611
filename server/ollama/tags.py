"""`GET /api/tags`: the list of stored models."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, NamedTuple

from fastapi import APIRouter, Request, Response

from engine.model import Model, Models
from registry.names import Digest, ModelName
from registry.storage.store import StoredModel
from server.http.body import JSON
from server.http.errors import KNOWN, message_of
from server.http.json_output import encode
from server.ollama import clock
from server.ollama.details import details
from server.ollama.schemas import ERRORS, TagsAnswer

log = logging.getLogger("pronk.server")
router = APIRouter(responses=ERRORS)


class _Line(NamedTuple):
    """The JSON of one model, valid while `stored` and `missing` (its blobs that are not there) are the same."""

    stored: StoredModel
    missing: frozenset[Digest]
    json: bytes


class Listing:
    """A cache of the list: only changed models are read again. Call it on the event loop; it works in threads."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._lines: dict[ModelName, _Line] = {}
        self._made_of: tuple[list[StoredModel], frozenset[str]] = ([], frozenset())
        self._json = b'{"models":[]}'
        self._running = asyncio.Lock()
        self._next: asyncio.Task[bytes] | None = None

    async def json(self) -> bytes:
        """The current list. Callers that come while one is being made share the next one."""
        if self._next is None:
            self._next = asyncio.create_task(self._run())
        return await asyncio.shield(self._next)

    async def _run(self) -> bytes:
        async with self._running:
            self._next = None
            return await asyncio.to_thread(self._list)

    def _list(self) -> bytes:
        """The list. Blocks. Leaves out models that cannot be read."""
        made_of = self._models.store.list(), self._models.store.blobs()
        if made_of != self._made_of:
            lines = [line for stored in made_of[0] if (line := self._line(stored, made_of[1])) is not None]
            self._json = b'{"models":[' + b",".join(line.json for line in lines) + b"]}"
            self._lines = {line.stored.name: line for line in lines}
            self._made_of = made_of if len(lines) == len(made_of[0]) else ([], frozenset())
        return self._json

    def _line(self, stored: StoredModel, blobs: frozenset[str]) -> _Line | None:
        known = self._lines.get(stored.name)
        missing = frozenset(digest for digest in stored.manifest.digests if digest.filename not in blobs)
        if known is not None and known.stored == stored and known.missing == missing:
            return known
        try:
            return _Line(stored, missing, encode(_tag(stored, self._models.read(stored))))
        except KNOWN as error:
            log.warning("model %s is not listed: %s", stored.name.shortest, message_of(error))
            return None


def _tag(stored: StoredModel, model: Model) -> dict[str, Any]:
    name = stored.name.shortest
    lengths = {"context_length": model.context_length, "embedding_length": _embedding_length(model)}
    entry = {
        "name": name,
        "model": name,
        "modified_at": clock.written(stored.modified_at),
        "size": stored.size,
        "digest": stored.digest,
        "details": details(model) | {key: value for key, value in lengths.items() if value},
    }
    capabilities = sorted(model.capabilities)
    return entry | ({"capabilities": capabilities} if capabilities else {})


def _embedding_length(model: Model) -> int:
    length = model.header.field("embedding_length")
    return model.config.embedding_length or (length if isinstance(length, int) else 0)


@router.head("/api/tags", include_in_schema=False)
@router.get("/api/tags", response_model=TagsAnswer)
async def tags(request: Request) -> Response:
    """The stored models, newest first."""
    listing: Listing = request.app.state.listing
    return Response(await listing.json(), headers={"content-type": JSON})
