"""The API of the Hugging Face hub: which files a repository has, and their bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import httpx
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile

from registry.errors import BadAnswer, BadStatus, NotFound, Unreachable
from registry.names import Digest
from registry.quants import RemoteFile
from registry.transport import Network, Transport, byte_range

_NETWORK_ERRORS: Final = tuple(kind for kind in HfHubHTTPError.__bases__ if issubclass(kind, Exception))
"""What the library raises for itself and for the HTTP library that it uses, whichever that is."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a repository holds: large files with their digests, and the names of small ones in its root."""

    large: tuple[RemoteFile, ...]
    small: frozenset[str]


def list_files(endpoint: str, repository: str, token: str) -> Listing:
    """The files of a repository. Blocking. Raises RegistryError."""
    api = HfApi(endpoint=endpoint, token=token or False)
    try:
        files = [entry for entry in api.list_repo_tree(repository, recursive=True) if isinstance(entry, RepoFile)]
        return Listing(
            tuple(RemoteFile(file.path, file.size, Digest(file.lfs.sha256)) for file in files if file.lfs),
            frozenset(file.path for file in files if not file.lfs and "/" not in file.path),
        )
    except GatedRepoError as error:
        raise BadStatus(403, _message(error)) from None
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise NotFound from None
    except HfHubHTTPError as error:
        raise BadStatus(error.response.status_code, _message(error)) from None
    except _NETWORK_ERRORS as error:
        raise Unreachable(f"{endpoint}: {error}") from None
    except (ValueError, KeyError, TypeError):
        raise BadAnswer("the hub's list of files cannot be read") from None


@dataclass(frozen=True, slots=True)
class HubRepository:
    """A repository on the hub, as a place to fetch blobs from. The token is shown to the hub alone."""

    endpoint: str
    repository: str
    token: str = field(repr=False)
    files: Mapping[Digest, RemoteFile]

    @classmethod
    def of(cls, endpoint: str, repository: str, token: str, files: Iterable[RemoteFile]) -> HubRepository:
        """A repository with these files."""
        return cls(endpoint, repository, token, {file.digest: file for file in files})

    @asynccontextmanager
    async def connect(self, network: Network) -> AsyncIterator[HubConnection]:
        """Connections for as long as they are needed."""
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
        """Bytes of a blob, most likely from where the hub sends us."""
        async with self._get(self._repository.files[digest].path, byte_range(first, last)) as response:
            yield response

    async def text(self, path: str) -> bytes:
        """All of a small file."""
        async with self._get(path, {}) as response:
            return await self.transport.read(response)

    @asynccontextmanager
    async def _get(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        repository = self._repository
        url = httpx.URL(hf_hub_url(repository.repository, path, endpoint=repository.endpoint))
        shown = {"Authorization": f"Bearer {repository.token}"} if repository.token else {}
        async with self.transport.send("GET", url, {**headers, **shown}) as response:
            await self.transport.require_success(response)
            yield response


def _message(error: HfHubHTTPError) -> str:
    return error.server_message or str(error).strip().splitlines()[0]
