"""HTTP requests to a registry: redirects checked one by one, sizes and stalls bounded.

All requests to registries and hubs go through `Transport`.
"""

from __future__ import annotations

import asyncio
import platform
import re
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final, Self

import httpx

from registry.errors import BadAnswer, BadStatus, NotFound, RegistryError, Stalled, Unreachable, Untrusted
from registry.remote.addresses import Reach, Resolver, resolve
from registry.remote.connections import PUBLIC, REACH, Connections, Pool, PoolMaker, reason
from registry.remote.proxies import Proxies
from registry.remote.tls import system_tls

MAX_REDIRECTS: Final = 10
MAX_JSON: Final = 4 << 20
"""Bytes of a response that is read as a whole."""
SLOWEST: Final = 1 << 10
"""Bytes that a body must bring within `stall` seconds."""
_MOST_TEXT: Final = 4 << 10
"""Bytes of a response that become part of an error."""
_RESET = re.compile(r"\br=0\s*;\s*t=(\d{1,9})\b")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SYSTEMS = {"x86_64": "amd64", "aarch64": "arm64"}

Body = AsyncGenerator[bytes, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """How registries are reached. A connection may be silent for `stall` seconds.

    `version` is the Ollama version in the User-Agent: registries refuse old ones.
    """

    proxies: Proxies = field(default_factory=Proxies)
    version: str = "0.33.0"
    stall: float = 30.0
    resolve: Resolver = resolve
    tls: ssl.SSLContext = field(default_factory=system_tls)
    make_pool: PoolMaker = Pool

    @property
    def user_agent(self) -> str:
        """The `User-Agent` header."""
        machine = platform.machine()
        return f"ollama/{self.version} ({_SYSTEMS.get(machine, machine)} {platform.system().lower()}) Pronk"


class Transport:
    """Requests to one registry and its redirects. Belongs to one event loop; use it as a context.

    `answered` is set by the first response from any host.
    """

    def __init__(self, home: httpx.URL, network: Network) -> None:
        self.answered = False
        self._home = home
        self._home_is_public = False
        self._stall = network.stall
        self._client = httpx.AsyncClient(
            transport=Connections(network.proxies, network.resolve, network.tls, network.make_pool),
            trust_env=False,
            headers={"User-Agent": network.user_agent, "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(network.stall, pool=None),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    def is_home(self, url: httpx.URL) -> bool:
        """Whether a URL is on the registry's host."""
        return url.host == self._home.host

    @asynccontextmanager
    async def send(
        self,
        method: str,
        url: httpx.URL,
        headers: Mapping[str, str],
        *,
        content: bytes | Body = b"",
        redirects: int = MAX_REDIRECTS,
    ) -> AsyncIterator[httpx.Response]:
        """Send a request and follow up to `redirects` redirects (0 returns them to the caller).

        `Authorization` goes to the host of `url` only. Raises RegistryError, also while the body is read inside.
        """
        with _explained(method, url):
            response = await self._follow(method, url, headers, content, redirects)
            try:
                yield response
            finally:
                await response.aclose()

    async def read(self, response: httpx.Response) -> bytes:
        """The whole body. Raises BadAnswer if it is larger than MAX_JSON."""
        data = bytearray()
        async for piece in self.pieces(response):
            data += piece
            if len(data) > MAX_JSON:
                raise BadAnswer(f"the registry's answer is larger than {MAX_JSON} bytes")
        return bytes(data)

    async def require_success(self, response: httpx.Response) -> None:
        """Raise NotFound or BadStatus for a status of 400 and above."""
        if response.status_code == 404:
            raise NotFound
        if response.status_code >= 400:
            text = (await self.read(response))[:_MOST_TEXT].decode("utf-8", "replace")
            raise BadStatus(response.status_code, text, retry_after(response.headers))

    async def pieces(self, response: httpx.Response) -> Body:
        """The body as it arrives. Raises Stalled if it trickles, BadAnswer if it is compressed."""
        if response.headers.get("content-encoding", "identity") != "identity":
            raise BadAnswer("the registry sent a compressed answer that nobody asked for")
        since, received = time.monotonic(), 0
        async for piece in response.aiter_raw():
            received += len(piece)
            if (now := time.monotonic()) - since > self._stall:
                if received < SLOWEST:
                    raise Stalled(f"only {received} bytes came in {self._stall:g} seconds")
                since, received = now, 0
            yield piece

    async def _follow(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes | Body, redirects: int
    ) -> httpx.Response:
        reach = self._reach(url)
        left = redirects
        while True:
            response = await self._request(method, url, headers, content, reach)
            self.answered = True
            if self.is_home(url):
                self._home_is_public |= response.extensions[PUBLIC]
            if response.status_code not in _REDIRECTS or "location" not in response.headers or not redirects:
                return response
            await response.aclose()
            if not left:
                raise Untrusted(f"maximum redirects exceeded ({redirects})")
            left -= 1
            following = parse_url(response.headers["location"], url)
            if origin(following) != origin(url):
                headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
            reach = Reach.PUBLIC if response.extensions[PUBLIC] else self._reach(following)
            url = following

    async def _request(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes | Body, reach: Reach
    ) -> httpx.Response:
        extensions: dict[str, Any] = {REACH: reach}
        request = self._client.build_request(method, url, headers=headers, content=content, extensions=extensions)
        # An upload may take as long as it needs; a request without a body must be answered within `stall`.
        limit = None if content else self._stall
        try:
            async with asyncio.timeout(limit):
                return await self._client.send(request, stream=True)
        except TimeoutError:
            raise Stalled(f"no answer for {self._stall:g} seconds") from None

    def _reach(self, url: httpx.URL) -> Reach:
        """The reach of a URL that the registry names."""
        if self._home_is_public:
            return Reach.PUBLIC
        return Reach.ANYWHERE if self.is_home(url) else Reach.NEAR


def retry_after(headers: Mapping[str, str], now: Callable[[], float] = time.time) -> float | None:
    """Seconds to wait, from `Retry-After` (seconds or a date), else from the reset time in `RateLimit`; else None."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    with suppress(ValueError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - now()) if text else _rate_limit(headers)
    return None


def _rate_limit(headers: Mapping[str, str]) -> float | None:
    match = _RESET.search(headers.get("ratelimit", ""))
    return float(match[1]) if match else None


def byte_range(first: int, last: int) -> dict[str, str]:
    """The `Range` header for bytes `first` to `last`, included."""
    return {"Range": f"bytes={first}-{last}"}


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """Scheme, host and port: URLs that share these may get the same credentials."""
    return url.scheme, url.host, url.port


def parse_url(text: str, base: httpx.URL) -> httpx.URL:
    """Resolve a `Location`, absolute or relative to `base`. Raises BadAnswer or Untrusted."""
    try:
        url = base.join(text)
    except (httpx.InvalidURL, ValueError):
        raise BadAnswer("the registry's answer holds an invalid URL") from None
    if base.scheme == "https" and url.scheme == "http" and url.netloc == base.netloc:
        url = url.copy_with(scheme="https")  # the registry does not know that it is behind TLS
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise Untrusted("the registry redirects to a URL that is not followed")
    if base.scheme == "https" and url.scheme == "http":
        raise Untrusted("the registry redirects from https to http")
    return url


@contextmanager
def _explained(method: str, url: httpx.URL) -> Iterator[None]:
    """Turn httpx's errors into ours. The query may hold a secret and is left out."""
    request = f'{method.title()} "{url.copy_with(query=None, fragment=None)}"'
    try:
        yield
    except httpx.TimeoutException:
        raise Stalled(f"{request}: the connection stood still for too long") from None
    except httpx.HTTPError as error:
        raise Unreachable(f"{request}: {reason(error)}") from None


async def answered(url: str, network: Network, seconds: float) -> int:
    """The status that a registry or hub answers within `seconds`, by the way that pulls take. Raises RegistryError."""
    try:
        target = httpx.URL(url)
    except httpx.InvalidURL:
        raise RegistryError("this is no URL") from None
    if target.scheme not in ("http", "https") or not target.host:
        raise RegistryError("this is no URL of a registry")
    try:
        async with (
            asyncio.timeout(seconds),
            Transport(target, network) as transport,
            transport.send("GET", target, {}, redirects=0) as response,
        ):
            return response.status_code
    except TimeoutError:
        raise Stalled(f"no answer within {seconds:g} seconds") from None
    except OSError as error:
        raise Unreachable(error.strerror or str(error)) from None
