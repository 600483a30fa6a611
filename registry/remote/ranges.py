"""Bytes of a blob, from a registry that answers itself or sends us elsewhere, with or without respect for ranges."""

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
    """What is connected to, as far as it gives out blobs. Methods raise RegistryError."""

    @property
    def transport(self) -> Transport:
        """What requests are sent through."""

    async def blob_size(self, digest: Digest) -> int:
        """The size of a blob in bytes, 0 if it is not told."""

    def blob(self, digest: Digest, first: int, last: int) -> AbstractAsyncContextManager[httpx.Response]:
        """An answer with bytes of a blob, both ends included, or with all of it."""


class Origin(Protocol):
    """Where blobs come from."""

    def connect(self, network: Network) -> AbstractAsyncContextManager[BlobHost]:
        """Connections for as long as they are needed."""


class BlobSource:
    """Where one blob comes from. Remembers where the registry sent us, for as long as that works.

    `whole` is set once it has turned out that only the whole blob is to be had, whatever is asked for.
    """

    def __init__(self, connection: BlobHost, digest: Digest) -> None:
        self._connection = connection
        self._digest = digest
        self._direct: httpx.URL | None = None
        self._asking = asyncio.Lock()
        self._asked = False
        self.whole = False

    async def size(self) -> int:
        """Bytes of the whole blob, 0 if the registry does not say."""
        return await self._connection.blob_size(self._digest)

    @asynccontextmanager
    async def bytes(self, first: int, last: int) -> AsyncIterator[tuple[int, Body]]:
        """A body, and the place of its first byte: `first`, or 0 if ranges are ignored. Raises RegistryError."""
        async with self._open(first, last) as response:
            place = _place(response, first)
            self.whole |= response.status_code == 200
            async with aclosing(self._connection.transport.pieces(response)) as body:
                yield place, body

    @asynccontextmanager
    async def _open(self, first: int, last: int) -> AsyncIterator[httpx.Response]:
        """One of many parts asks the registry first, the others then know where to go."""
        async with AsyncExitStack() as stack:
            async with nullcontext() if self._asked else self._asking:
                response = await self._ask_direct(stack, first, last) or await self._ask(stack, first, last)
            yield response

    async def _ask_direct(self, stack: AsyncExitStack, first: int, last: int) -> httpx.Response | None:
        """The answer from where the registry sent us; None if that is not known, or no longer good."""
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
