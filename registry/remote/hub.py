"""The Hugging Face hub's API: lists and serves the files of a repository."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Final
from urllib.parse import quote

import httpx
import msgspec
from huggingface_hub import hf_hub_url

from registry.errors import BadAnswer, BadStatus, NotFound, Unreachable, Untrusted
from registry.names import Digest, InvalidDigest
from registry.remote.quants import RemoteFile
from registry.remote.transport import Network, Transport, byte_range, origin, parse_url, retry_after

_MOST_PAGES: Final = 1000
_MISSING: Final = frozenset({"RepoNotFound", "RevisionNotFound"})
_Size = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


@dataclass(frozen=True, slots=True)
class HubListing:
    """The files of a repository: large ones with digests, and the names of small ones in its root."""

    large: tuple[RemoteFile, ...]
    small: frozenset[str]


class _Large(msgspec.Struct):
    oid: str


class _Entry(msgspec.Struct):
    type: str
    path: str
    size: _Size = 0
    lfs: _Large | None = None


class _Refusal(msgspec.Struct):
    error: str = ""


async def list_files(repository: HubRepository, network: Network) -> HubListing:
    """List the files of a repository. Raises RegistryError.

    Not with huggingface_hub: on 429 it sleeps by itself, and cannot be cancelled.
    """
    try:
        async with repository.connect(network) as connection:
            entries = [entry async for entry in connection.entries() if entry.type == "file"]
        return HubListing(
            tuple(RemoteFile(entry.path, entry.size, Digest(entry.lfs.oid)) for entry in entries if entry.lfs),
            frozenset(entry.path for entry in entries if not entry.lfs and "/" not in entry.path),
        )
    except (msgspec.DecodeError, InvalidDigest, RecursionError):
        raise BadAnswer("the hub's list of files cannot be read") from None


@dataclass(frozen=True, slots=True)
class HubRepository:
    """A repository on the hub as an `Origin` of blobs. The token is sent to the hub only."""

    endpoint: str
    repository: str
    token: str = field(repr=False)
    files: Mapping[Digest, RemoteFile]

    @classmethod
    def of(cls, endpoint: str, repository: str, token: str, files: Iterable[RemoteFile] = ()) -> HubRepository:
        """A repository with the files known so far. Raises Unreachable if the endpoint is no URL."""
        try:
            url = httpx.URL(endpoint)
        except (httpx.InvalidURL, ValueError):
            url = httpx.URL("")
        if url.scheme not in ("http", "https") or not url.host:
            raise Unreachable(f"{endpoint}: not the address of a hub")
        return cls(endpoint, repository, token, {file.digest: file for file in files})

    @asynccontextmanager
    async def connect(self, network: Network) -> AsyncIterator[HubConnection]:
        """Connections that close with the context."""
        async with Transport(httpx.URL(self.endpoint), network) as transport:
            yield HubConnection(self, transport)


class HubConnection:
    """Requests to one repository. Belongs to one event loop. Every method raises RegistryError."""

    def __init__(self, repository: HubRepository, transport: Transport) -> None:
        self.transport = transport
        self._repository = repository

    async def blob_size(self, digest: Digest) -> int:
        """The size of a blob in bytes."""
        return self._repository.files[digest].size

    @asynccontextmanager
    async def blob(self, digest: Digest, first: int, last: int) -> AsyncIterator[httpx.Response]:
        """Bytes of a blob, usually from a redirect of the hub."""
        async with self._get(self._repository.files[digest].path, byte_range(first, last)) as response:
            yield response

    async def entries(self) -> AsyncIterator[_Entry]:
        """All files and folders of the repository, page by page. Also raises msgspec.DecodeError."""
        repository = self._repository
        path = f"/api/models/{quote(repository.repository)}/tree/main?recursive=true&expand=false"
        url: httpx.URL | None = httpx.URL(f"{repository.endpoint}{path}")
        for _ in range(_MOST_PAGES):
            if url is None:
                return
            async with self.transport.send("GET", url, self._shown) as response:
                data = await self.transport.read(response)
            if response.status_code >= 400:
                raise _refusal(response, data)
            for entry in msgspec.json.decode(data, type=list[_Entry]):
                yield entry
            url = self._next_page(response)

    def _next_page(self, response: httpx.Response) -> httpx.URL | None:
        """The URL of the next page. Raises Untrusted if it is on another host, because the token goes there too."""
        following = response.links.get("next", {}).get("url")
        if following is None:
            return None
        url = parse_url(following, response.url)
        if origin(url) != origin(httpx.URL(self._repository.endpoint)):
            raise Untrusted("the hub's list of files goes on at another host")
        return url

    @property
    def _shown(self) -> Mapping[str, str]:
        token = self._repository.token
        return {"Authorization": f"Bearer {token}"} if token else {}

    async def text(self, path: str) -> bytes:
        """The bytes of a small file."""
        async with self._get(path, {}) as response:
            return await self.transport.read(response)

    @asynccontextmanager
    async def _get(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        repository = self._repository
        url = httpx.URL(hf_hub_url(repository.repository, path, endpoint=repository.endpoint))
        async with self.transport.send("GET", url, {**headers, **self._shown}) as response:
            await self.transport.require_success(response)
            yield response


def _refusal(response: httpx.Response, data: bytes) -> BadStatus:
    """The error for a refused listing. The hub answers 401 or 404 for a private repository, too."""
    code = response.headers.get("x-error-code", "")
    if code in _MISSING or (response.status_code in (401, 404) and code != "GatedRepo"):
        return NotFound()
    try:
        text = msgspec.json.decode(data, type=_Refusal).error
    except (msgspec.DecodeError, RecursionError):
        text = data[:200].decode("utf-8", "replace")
    return BadStatus(response.status_code, text, retry_after(response.headers))
