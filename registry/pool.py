"""Connections to one host, as httpx wants them: this is where sockets are opened."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

import httpcore
import httpx
from socksio import ProtocolError

from registry.duplex import DuplexBackend
from registry.proxies import Proxy

_MOST_CONNECTIONS: Final = 64
_ERRORS: Final = (
    (httpcore.ConnectTimeout, httpx.ConnectTimeout),
    (httpcore.TimeoutException, httpx.TimeoutException),
    (httpcore.ConnectError, httpx.ConnectError),
    (httpcore.NetworkError, httpx.NetworkError),
    (httpcore.ProxyError, httpx.ProxyError),
    (httpcore.ProtocolError, httpx.ProtocolError),
    (ProtocolError, httpx.ProxyError),
)


class Pool(httpx.AsyncBaseTransport):
    """Connections to one host, perhaps through a proxy. Belongs to one event loop."""

    def __init__(self, tls: ssl.SSLContext, proxy: Proxy | None) -> None:
        self._backend = DuplexBackend()
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            proxy=None if proxy is None else _proxy(proxy),
            max_connections=_MOST_CONNECTIONS,
            network_backend=self._backend,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises httpx.TransportError."""
        assert isinstance(request.stream, AsyncIterable)
        url = request.url
        with _translated():
            response = await self._pool.handle_async_request(
                httpcore.Request(
                    request.method,
                    httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx.Response(
            response.status, headers=response.headers, stream=_Body(response), extensions=response.extensions
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()
        await self._backend.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated():
            async for piece in self._response.aiter_stream():
                yield piece

    async def aclose(self) -> None:
        await self._response.aclose()


def _proxy(proxy: Proxy) -> httpcore.Proxy:
    auth = None if proxy.auth is None else (proxy.auth[0].encode(), proxy.auth[1].encode())
    url = httpcore.URL(scheme=proxy.scheme, host=proxy.host, port=proxy.port, target="/")
    return httpcore.Proxy(url, auth=auth)


@contextmanager
def _translated() -> Iterator[None]:
    """httpcore's errors as those of httpx."""
    try:
        yield
    except tuple(kind for kind, _ in _ERRORS) as error:
        kind = next(other for kind, other in _ERRORS if isinstance(error, kind))
        raise kind(str(error)) from error
