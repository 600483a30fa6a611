"""httpx transport that checks the address of every connection, with a connection pool for each host.

The checked address itself is connected to, so that DNS rebinding is no way around the check. A proxy resolves names
itself; then the addresses are checked as far as this machine can resolve them.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import httpcore
import httpx
from httpcore import SOCKET_OPTION
from socksio import ProtocolError

from registry.errors import Untrusted
from registry.remote.addresses import Reach, Resolver, is_address, is_public
from registry.remote.proxies import Proxies, Proxy

REACH = "reach"
"""Request extension: the `Reach` of the request."""
PUBLIC = "public"
"""Response extension: whether it came from a public address."""
_PORTS = {"http": 80, "https": 443}
_PLAIN_HTTP = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST")  # OpenSSL's words for an answer that is no TLS
_NUMBER = re.compile(r"^\[Errno -?\d+\] ")

PoolMaker = Callable[[ssl.SSLContext, Proxy | None], httpx.AsyncBaseTransport]
"""Creates the connection pool for one host, through a proxy if given."""


class Connections(httpx.AsyncBaseTransport):
    """httpx's transport. Belongs to one event loop. Raises Untrusted, and httpx's own errors."""

    def __init__(self, proxies: Proxies, resolve: Resolver, tls: ssl.SSLContext, make_pool: PoolMaker) -> None:
        self._proxies = proxies
        self._resolve = resolve
        self._tls = tls
        self._make_pool = make_pool
        self._pools: dict[tuple[str, str, int], httpx.AsyncBaseTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the first address that answers. Raises Untrusted if any address is not allowed."""
        url = request.url
        port = url.port or _PORTS[url.scheme]
        proxy = self._proxies.of(url.scheme, url.host, port)
        pool = self._pool(url, port, proxy)
        addresses = await self._look_up(url.host, port, known=proxy is None)
        _check(addresses, request.extensions[REACH])
        if proxy is not None:
            response = await _answer_through(proxy, pool, request)
        else:
            response, addresses = await _first_answer(pool, request, addresses)
        response.extensions[PUBLIC] = all(is_public(address) for address in addresses)
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            await pool.aclose()

    def _pool(self, url: httpx.URL, port: int, proxy: Proxy | None) -> httpx.AsyncBaseTransport:
        key = (url.scheme, url.host, port)
        if key not in self._pools:
            self._pools[key] = self._make_pool(self._tls, proxy)
        return self._pools[key]

    async def _look_up(self, host: str, port: int, *, known: bool) -> list[str]:
        """The addresses of a host; empty if only the proxy can resolve it (`known` is false)."""
        if is_address(host):
            return [host]
        try:
            return await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            if not known:
                return []
            raise httpx.ConnectError(f"lookup {host}: {getattr(error, 'strerror', None) or 'no such host'}") from None


def reason(error: BaseException) -> str:
    """The text of the system error at the root, else the error's own text."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return _tls_reason(cause)
        if isinstance(cause, OSError) and (cause.errno or 0) > 0:
            return os.strerror(cause.errno or 0).lower()
        cause = cause.__cause__ or cause.__context__
    return str(error) or "the connection was closed"


def _tls_reason(error: ssl.SSLError) -> str:
    """In the words of Go's clients, which people search for; an answer in plain HTTP calls for `insecure`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: {error.verify_message}"
    if error.reason in _PLAIN_HTTP:
        return "http: server gave HTTP response to HTTPS client"
    return f"tls: {(error.reason or str(error)).replace('_', ' ').lower()}"


async def _answer_through(proxy: Proxy, pool: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
    """Send a request through a proxy; errors name the proxy."""
    try:
        return await pool.handle_async_request(request)
    except httpx.ConnectTimeout:
        failure = "no connection for too long"
    except (httpx.NetworkError, httpx.ProtocolError, httpx.ProxyError) as error:
        failure = _NUMBER.sub("", reason(error))
    raise httpx.ProxyError(f"through the proxy {proxy.url}: {failure}")


def _check(addresses: Sequence[str], reach: Reach) -> None:
    """Raise Untrusted if any address is forbidden: public and private ones for one name mean DNS rebinding."""
    for address in addresses:
        if not reach.allows(address):
            raise Untrusted("the registry sent us to an address that is not public")


async def _first_answer(
    pool: httpx.AsyncBaseTransport, request: httpx.Request, addresses: Sequence[str]
) -> tuple[httpx.Response, list[str]]:
    *others, last = addresses
    for address in others:
        try:
            return await pool.handle_async_request(_addressed(request, address)), [address]
        except (httpx.ConnectError, httpx.ConnectTimeout):
            continue
    return await pool.handle_async_request(_addressed(request, last)), [last]


def _addressed(request: httpx.Request, address: str) -> httpx.Request:
    """The same request to an address; TLS still checks the certificate against the name."""
    assert isinstance(request.stream, AsyncIterable)
    host = request.url.host
    named = {} if is_address(host) else {"sni_hostname": host}
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, **named},
    )


# ruff: noqa: ASYNC109 - the signatures below are httpcore's


_MOST_BYTES: Final = 64 << 10  # read at once


class EarlyResponseBackend(httpcore.AsyncNetworkBackend):
    """httpcore backend that reads while writing, so an early 307 or 4xx stops an upload. Belongs to one event loop."""

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
        """Open a connection. Raises httpcore's errors."""
        stream = await self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        self._open.add(stream)
        return EarlyResponseStream(stream, lambda: self._open.discard(stream))

    async def aclose(self) -> None:
        """Close what is still open: httpcore forgets connections to proxies that refuse the tunnel."""
        for stream in list(self._open):
            await stream.aclose()
        self._open.clear()

    async def sleep(self, seconds: float) -> None:
        """Wait between two attempts to connect."""
        await self._inner.sleep(seconds)


class EarlyResponseStream(httpcore.AsyncNetworkStream):
    """One connection. From the second write in a row on, data to read ends the writing.

    `closed` is called on close.
    """

    def __init__(self, inner: httpcore.AsyncNetworkStream, closed: Callable[[], None]) -> None:
        self._inner = inner
        self._closed = closed
        self._wrote = False
        self._early: asyncio.Task[bytes] | None = None
        self._writing: asyncio.Task[None] | None = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next bytes; empty at the end. Raises httpcore.ReadTimeout."""
        self._wrote = False
        if self._early is None:
            return await self._inner.read(max_bytes, timeout)
        await asyncio.wait((self._early,), timeout=timeout)
        if not self._early.done():
            raise httpcore.ReadTimeout
        early, self._early = self._early, None
        return early.result()

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of `buffer`. Raises httpcore.WriteError if a response arrives first; `read` then returns it."""
        if not self._wrote:
            self._wrote = True
            await self._inner.write(buffer, timeout)
        elif buffer:
            await self._write_listening(buffer, timeout)

    async def _write_listening(self, buffer: bytes, timeout: float | None) -> None:
        if self._early is None:
            self._early = asyncio.create_task(self._inner.read(_MOST_BYTES))
        # Never cancelled by a response: TLS cannot be read any more once a record is missing.
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
        """The same connection under TLS."""
        return EarlyResponseStream(await self._inner.start_tls(ssl_context, server_hostname, timeout), self._closed)

    def get_extra_info(self, info: str) -> Any:
        """Pass through to the connection."""
        return self._inner.get_extra_info(info)


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
    """Connection pool for one host, through a proxy if given; the only place that opens sockets.

    Belongs to one event loop.
    """

    def __init__(self, tls: ssl.SSLContext, proxy: Proxy | None) -> None:
        self._backend = EarlyResponseBackend()
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
            response.status, headers=response.headers, stream=_ResponseBody(response), extensions=response.extensions
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()
        await self._backend.aclose()


class _ResponseBody(httpx.AsyncByteStream):
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
    """Turn httpcore's errors into httpx's."""
    try:
        yield
    except tuple(kind for kind, _ in _ERRORS) as error:
        kind = next(other for kind, other in _ERRORS if isinstance(error, kind))
        raise kind(str(error)) from error
