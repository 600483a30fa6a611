"""Byte ranges of a blob, from registries that redirect or not, and that honour ranges or not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager, nullcontext
from typing import Final, Protocol

import httpx

from registry.errors import BadAnswer, BadStatus
from registry.names import Digest
from registry.remote.transport import Body, Network, Transport, byte_range

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-\d{1,19}/(?:\d{1,19}|\*)")
_EXPIRED: Final = frozenset({401, 403, 404, 410})


class BlobHost(Protocol):
    """An open connection that serves blobs. Methods raise RegistryError."""

    @property
    def transport(self) -> Transport:
        """The HTTP transport."""

    async def blob_size(self, digest: Digest) -> int:
        """The size of a blob in bytes, 0 if unknown."""

    def blob(self, digest: Digest, first: int, last: int) -> AbstractAsyncContextManager[httpx.Response]:
        """A response with bytes `first` to `last` (included) of a blob, or with the whole blob."""


class Origin(Protocol):
    """Where blobs come from."""

    def connect(self, network: Network) -> AbstractAsyncContextManager[BlobHost]:
        """Connections that close with the context."""


class BlobSource:
    """One blob at its origin. Remembers the redirect target for as long as it works.

    `whole` is set once the server has ignored a range and sent the whole blob.
    """

    def __init__(self, connection: BlobHost, digest: Digest) -> None:
        self._connection = connection
        self._digest = digest
        self._direct: httpx.URL | None = None
        self._asking = asyncio.Lock()
        self._asked = False
        self.whole = False

    async def size(self) -> int:
        """Bytes of the whole blob, 0 if unknown."""
        return await self._connection.blob_size(self._digest)

    @asynccontextmanager
    async def bytes(self, first: int, last: int) -> AsyncIterator[tuple[int, Body]]:
        """The offset of the first byte (`first`, or 0 if ranges are ignored) and the body. Raises RegistryError."""
        async with self._open(first, last) as response:
            place = _place(response, first)
            self.whole |= response.status_code == 200
            async with aclosing(self._connection.transport.pieces(response)) as body:
                yield place, body

    @asynccontextmanager
    async def _open(self, first: int, last: int) -> AsyncIterator[httpx.Response]:
        """The first request goes to the registry alone; the others then know the redirect target."""
        async with AsyncExitStack() as stack:
            async with nullcontext() if self._asked else self._asking:
                response = await self._ask_direct(stack, first, last) or await self._ask(stack, first, last)
            yield response

    async def _ask_direct(self, stack: AsyncExitStack, first: int, last: int) -> httpx.Response | None:
        """The response of the redirect target; None if unknown or expired."""
        if (url := self._direct) is None:
            return None
        response = await stack.enter_async_context(self._connection.transport.send("GET", url, byte_range(first, last)))
        if response.status_code in _EXPIRED:
            self._direct = None
            return None
        await self._connection.transport.require_success(response)
        return response

    async def _ask(self, stack: AsyncExitStack, first: int, last: int) -> httpx.Response:
        response = await stack.enter_async_context(self._connection.blob(self._digest, first, last))
        self._asked = True
        if not self._connection.transport.is_home(response.url):
            self._direct = response.url
        return response


def _place(response: httpx.Response, first: int) -> int:
    if response.status_code == 200:
        return 0
    if response.status_code != 206:
        raise BadStatus(response.status_code, "unexpected status code")
    match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if match is None or int(match[1]) != first:
        raise BadAnswer("the registry sent another range than the one asked for")
    return first
