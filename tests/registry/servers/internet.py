"""An internet of one machine: addresses of the tests' choosing lead to servers on loopback, others to nobody."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field

import httpx

from registry.remote.connections import Pool
from registry.remote.proxies import Proxy

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For networks without TLS: trusts nobody, so there are no certificates to load."""


@dataclass(slots=True)
class Internet:
    """Names with their addresses, and where each address really is. Remembers every address that was connected to."""

    names: dict[str, list[list[str]]] = field(default_factory=dict)
    """The answers that a name gives one after the other; the last one stays."""
    places: dict[str, str] = field(default_factory=dict)
    connected: list[str] = field(default_factory=list)

    async def resolve(self, host: str, _: int) -> list[str]:
        if host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        answers = self.names[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def make_pool(self, tls: ssl.SSLContext, proxy: Proxy | None) -> httpx.AsyncBaseTransport:
        return _Diverted(self, Pool(tls, proxy))


class _Diverted(httpx.AsyncBaseTransport):
    def __init__(self, internet: Internet, pool: httpx.AsyncBaseTransport) -> None:
        self._internet = internet
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        address = request.url.host
        self._internet.connected.append(address)
        place = self._internet.places.get(address)
        if place is None:
            raise httpx.ConnectError("connection refused")
        host, _, port = place.partition(":")
        return await self._pool.handle_async_request(
            httpx.Request(
                request.method,
                request.url.copy_with(host=host, port=int(port)),
                headers=request.headers,
                stream=request.stream,
                extensions=request.extensions,
            )
        )

    async def aclose(self) -> None:
        await self._pool.aclose()
