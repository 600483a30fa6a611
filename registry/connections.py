"""Connections to addresses that have been looked at first, one pool of them for each host.

The address that was found good is the one that is connected to: a name that means something else a moment later has no
second chance. Where a proxy stands between, it looks names up itself; ours are looked at as far as we know them.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import AsyncIterable, Callable, Sequence

import certifi
import httpx

from registry.addresses import Reach, Resolver, is_address, is_public
from registry.errors import Untrusted
from registry.proxies import Proxies, Proxy

REACH = "reach"
"""A request's extension: the `Reach` that it has."""
PUBLIC = "public"
"""A response's extension: whether it came from a public address."""
_PORTS = {"http": 80, "https": 443}
_NUMBER = re.compile(r"^\[Errno -?\d+\] ")

PoolMaker = Callable[[ssl.SSLContext, Proxy | None], httpx.AsyncBaseTransport]
"""Makes the pool of connections to one host, perhaps through a proxy."""


class Connections(httpx.AsyncBaseTransport):
    """What httpx sends requests through. Belongs to one event loop. Raises Untrusted, and httpx's own."""

    def __init__(self, proxies: Proxies, resolve: Resolver, tls: ssl.SSLContext, make_pool: PoolMaker) -> None:
        self._proxies = proxies
        self._resolve = resolve
        self._tls = tls
        self._make_pool = make_pool
        self._pools: dict[tuple[str, str, int], httpx.AsyncBaseTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the first address that answers, of those that it may go to."""
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
        """The addresses of a host; none if only the proxy knows them."""
        if is_address(host):
            return [host]
        try:
            return await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            if not known:
                return []
            raise httpx.ConnectError(f"lookup {host}: {getattr(error, 'strerror', None) or 'no such host'}") from None


def system_tls() -> ssl.SSLContext:
    """Certificates that the system trusts, and those of certifi for a system that has none."""
    try:
        context = ssl.create_default_context()
    except OSError:  # SSLKEYLOGFILE names a file that cannot be written
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_default_certs()
    context.load_verify_locations(certifi.where())
    return context


def reason(error: BaseException) -> str:
    """What the system said in the first place, else the error's own text."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) and (cause.errno or 0) > 0:
            return os.strerror(cause.errno or 0).lower()
        cause = cause.__cause__ or cause.__context__
    return str(error) or "the connection was closed"


async def _answer_through(proxy: Proxy, pool: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
    """Send a request through a proxy; errors name it, for it may well be what is wrong."""
    try:
        return await pool.handle_async_request(request)
    except httpx.ConnectTimeout:
        failure = "no connection for too long"
    except (httpx.NetworkError, httpx.ProtocolError, httpx.ProxyError) as error:
        failure = _NUMBER.sub("", reason(error))
    raise httpx.ProxyError(f"through the proxy {proxy.url}: {failure}")


def _check(addresses: Sequence[str], reach: Reach) -> None:
    """One bad address is enough: an honest name does not have both kinds."""
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
    """The same request, to an address; certificates are checked against the name all the same."""
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
