"""A model's repository at an OCI registry: requests for manifests and blobs, with a token if asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import httpx

from registry.errors import AccessDenied, BadAnswer, NotFound, RegistryError
from registry.manifest import MANIFEST
from registry.names import Digest, ModelName
from registry.remote.auth import Authority
from registry.remote.transport import MAX_REDIRECTS, Body, Network, Transport, byte_range, origin

Content = Callable[[], bytes | Body]
"""Makes the body of a request, anew for each attempt."""


def no_content() -> bytes:
    """An empty body."""
    return b""


class InsecureProtocol(RegistryError):
    """A name begins with `http://`, but `insecure` was not set."""

    def __init__(self) -> None:
        super().__init__("insecure protocol http")


@dataclass(frozen=True, slots=True)
class Repository:
    """A model's name, its registry's base URL, and the token that connections share."""

    name: ModelName
    base: httpx.URL
    authority: Authority

    @classmethod
    def of(cls, name: ModelName, authority: Authority, *, insecure: bool) -> Self:
        """The repository of a name; `insecure` means http. Raises InsecureProtocol, or RegistryError."""
        if name.scheme == "http" and not insecure:
            raise InsecureProtocol
        if name.scheme not in ("", "http", "https"):
            raise RegistryError(f'unsupported protocol scheme "{name.scheme}"')
        try:
            base = httpx.URL(f"{'http' if insecure else 'https'}://{name.host}")
        except (httpx.InvalidURL, ValueError):
            raise RegistryError(f"invalid registry host {name.host}") from None
        return cls(name, base, authority)

    @asynccontextmanager
    async def connect(self, network: Network) -> AsyncIterator[Connection]:
        """Connections that close with the context."""
        async with Transport(self.base, network) as transport:
            yield Connection(self, transport)


class Connection:
    """Requests to one repository. Belongs to one event loop. Every method raises RegistryError."""

    def __init__(self, repository: Repository, transport: Transport) -> None:
        self.repository = repository
        self.transport = transport

    async def manifest(self) -> bytes:
        """The bytes of the manifest."""
        tag = self.repository.name.tag
        async with self.request("GET", self.url(f"manifests/{tag}"), {"Accept": MANIFEST}) as response:
            return await self.transport.read(response)

    async def blob_size(self, digest: Digest) -> int:
        """The size of a blob in bytes, 0 if the registry does not say."""
        async with self.request("HEAD", self.blob_url(digest), {}) as response:
            return _length(response)

    @asynccontextmanager
    async def blob(self, digest: Digest, first: int, last: int) -> AsyncIterator[httpx.Response]:
        """Bytes of a blob, from the registry or a redirect (`response.url`)."""
        async with self.request("GET", self.blob_url(digest), byte_range(first, last)) as response:
            yield response

    async def has_blob(self, digest: Digest) -> bool:
        """Whether the registry has a blob."""
        try:
            async with self.request("HEAD", self.blob_url(digest), {}):
                return True
        except NotFound:
            return False

    async def put_manifest(self, data: bytes) -> None:
        """Upload the manifest, which publishes the model."""
        url = self.url(f"manifests/{self.repository.name.tag}")
        async with self.request("PUT", url, {"Content-Type": MANIFEST}, content=lambda: data):
            pass

    def url(self, path: str) -> httpx.URL:
        """The URL of something in the repository."""
        name = self.repository.name
        return self.repository.base.join(f"/v2/{name.namespace}/{name.model}/{path}")

    def blob_url(self, digest: Digest) -> httpx.URL:
        """The URL of a blob."""
        return self.url(f"blobs/{digest}")

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: httpx.URL,
        headers: Mapping[str, str],
        *,
        content: Content = no_content,
        redirects: int = MAX_REDIRECTS,
    ) -> AsyncIterator[httpx.Response]:
        """Send a request, once more with a token on 401. Raises RegistryError unless it succeeds."""
        authority = self.repository.authority
        used = authority.token
        async with self._send(method, url, headers, content, redirects) as response:
            if not self._is_challenge(response):
                await self.transport.require_success(response)
                yield response
                return
            challenge = response.headers.get("www-authenticate", "")
        await authority.renew(self.transport, self.repository.base, challenge, used)
        async with self._send(method, url, headers, content, redirects) as response:
            if self._is_challenge(response):
                raise AccessDenied
            await self.transport.require_success(response)
            yield response

    @asynccontextmanager
    async def _send(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], content: Content, redirects: int
    ) -> AsyncIterator[httpx.Response]:
        home = origin(url) == origin(self.repository.base)
        shown = {**headers, **self.repository.authority.headers} if home else headers
        async with self.transport.send(method, url, shown, content=content(), redirects=redirects) as response:
            yield response

    def _is_challenge(self, response: httpx.Response) -> bool:
        return response.status_code == 401 and self.transport.is_home(response.url)


def _length(response: httpx.Response) -> int:
    text = response.headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise BadAnswer("the registry's answer has an invalid length")
    return int(text)
