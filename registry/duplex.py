"""Connections that listen while they speak: whoever is answered in the middle of sending need not send the rest.

Registries that want a part elsewhere, or that refuse it, say so at once and may read no further.
"""

# ruff: noqa: ASYNC109 - the signatures are httpcore's

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Final

import httpcore
from httpcore import SOCKET_OPTION

_MOST_BYTES: Final = 64 << 10


class DuplexBackend(httpcore.AsyncNetworkBackend):
    """Where httpcore gets its connections from. Belongs to one event loop."""

    def __init__(self) -> None:
        self._inner = httpcore.AnyIOBackend()
        self._open: set[httpcore.AsyncNetworkStream] = set()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection; raises httpcore's errors."""
        stream = await self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        self._open.add(stream)
        return DuplexStream(stream, lambda: self._open.discard(stream))

    async def aclose(self) -> None:
        """Close what is still open: httpcore forgets connections to proxies that do not let it through."""
        for stream in list(self._open):
            await stream.aclose()
        self._open.clear()

    async def sleep(self, seconds: float) -> None:
        """Wait between two tries to connect."""
        await self._inner.sleep(seconds)


class DuplexStream(httpcore.AsyncNetworkStream):
    """One connection. From the second write in a row on, something that can be read ends the writing.

    `closed` is called when it is closed.
    """

    def __init__(self, inner: httpcore.AsyncNetworkStream, closed: Callable[[], None]) -> None:
        self._inner = inner
        self._closed = closed
        self._wrote = False
        self._early: asyncio.Task[bytes] | None = None
        self._writing: asyncio.Task[None] | None = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What has come; empty at the end."""
        self._wrote = False
        if self._early is None:
            return await self._inner.read(max_bytes, timeout)
        await asyncio.wait((self._early,), timeout=timeout)
        if not self._early.done():
            raise httpcore.ReadTimeout
        early, self._early = self._early, None
        return early.result()

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send. Raises WriteError when there is an answer already, which can then be read."""
        if not self._wrote:
            self._wrote = True
            await self._inner.write(buffer, timeout)
        elif buffer:
            await self._write_listening(buffer, timeout)

    async def _write_listening(self, buffer: bytes, timeout: float | None) -> None:
        if self._early is None:
            self._early = asyncio.create_task(self._inner.read(_MOST_BYTES))
        # Not ended when there is an answer: an encrypted connection of which a record is missing cannot be read either.
        self._writing = asyncio.create_task(self._inner.write(buffer, timeout))
        await asyncio.wait((self._writing, self._early), return_when=asyncio.FIRST_COMPLETED)
        if not self._writing.done():
            raise httpcore.WriteError("answered before everything was sent")
        self._writing.result()

    async def aclose(self) -> None:
        """Close the connection."""
        tasks = [task for task in (self._early, self._writing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._closed()
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """The same connection, encrypted from now on."""
        return DuplexStream(await self._inner.start_tls(ssl_context, server_hostname, timeout), self._closed)

    def get_extra_info(self, info: str) -> Any:
        """What the connection knows about itself."""
        return self._inner.get_extra_info(info)
