"""Request bodies that are compressed: Codex and others send long conversations as zstd."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request

from server.http.errors import InvalidBody, UnknownEncoding
from server.http.json_input import SLICE

_WINDOW_LOG = 23  # as in Ollama: a frame may need 8 MiB to be read


async def parts_of(request: Request) -> AsyncIterator[bytes]:
    """The pieces of a body as they arrive, decompressed if `Content-Encoding` is zstd.

    Raises UnknownEncoding for another one, and InvalidBody. No piece of a compressed body is larger than SLICE, so one
    who counts them can stop in time.
    """
    parts = request.stream()
    encoding = ", ".join(request.headers.getlist("content-encoding")).strip().lower()
    if encoding not in ("", "identity", "zstd"):
        raise UnknownEncoding(encoding)
    if encoding != "zstd":
        async for part in parts:
            yield part
        return
    zstd = _library()
    try:
        async for part in _decompressed(zstd, parts):
            yield part
            await asyncio.sleep(0)  # a few bytes can be a large body, and others want their turn
    except zstd.ZstdError:
        raise InvalidBody("failed to decompress request body") from None


async def _decompressed(zstd: Any, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The content of all frames. Raises ZstdError."""
    options = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
    frame: Any = None
    async for part in parts:
        data = part
        while data or (frame is not None and not frame.needs_input):
            frame = frame or zstd.ZstdDecompressor(options=options)
            if piece := frame.decompress(data, max_length=SLICE):
                yield piece
            data = b""
            if frame.eof:
                data, frame = frame.unused_data, None
    if frame is not None:
        raise zstd.ZstdError("the last frame is not complete")


def _library() -> Any:
    """The library, which is loaded for the first such request only."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
