"""Upload of one blob: parts in sequence to the registry, or in parallel to the URLs that it redirects to."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import BinaryIO, Final

import httpx

from registry.errors import BadAnswer, BadStatus, StoreError, Unreachable, without_paths
from registry.manifest import Layer
from registry.names import InvalidName, ModelName
from registry.remote.download import Policy
from registry.remote.repository import Connection
from registry.remote.retries import Waiting
from registry.remote.transport import Body, parse_url
from registry.storage.partials import Part
from registry.tasks import Tasks, task_group

_PIECE: Final = 256 << 10
_BINARY: Final = {"Content-Type": "application/octet-stream"}
_TEMPORARY_REDIRECT: Final = 307
_LOST: Final = frozenset({404, 416})


class UploadLost(Unreachable):
    """The registry has dropped the upload session, as distribution/distribution does when a connection breaks."""

    def __init__(self) -> None:
        super().__init__("the registry has lost the upload")


class Upload:
    """One blob, from a file to a registry. Belongs to one event loop; `run` it once.

    `completed` is in bytes and never shrinks, even if some must be sent again. `waiting` tells why no bytes go.
    """

    def __init__(self, connection: Connection, policy: Policy, layer: Layer, file: BinaryIO) -> None:
        self.layer = layer
        self.completed = 0
        self.waiting = Waiting()
        self._connection = connection
        self._policy = policy
        self._file = file
        self._tried = False
        self._parts: list[Part] = []
        self._hashes: dict[int, bytes] = {}
        self._places = asyncio.Semaphore(policy.parallel)

    async def run(self) -> None:
        """Upload the blob, which the registry lacks. Raises RegistryError or StoreError."""
        await self._policy.retries.run(self._attempt, self.waiting)

    async def _attempt(self) -> None:
        """Upload, unless an earlier attempt arrived although its response was lost."""
        if self._tried and await self._connection.has_blob(self.layer.digest):
            return
        self._tried = True
        await self._send()

    async def _send(self) -> None:
        url = await self._begin()
        if url is None:
            return
        self._parts = self._policy.division.of(self.layer.size)
        try:
            async with task_group() as tasks:
                for part in self._parts:
                    url = await self._send_part(url, part, tasks)
            await self._commit(url)
        except BadStatus as error:
            if error.status in _LOST:
                raise UploadLost from error
            raise

    async def _begin(self) -> httpx.URL | None:
        """The URL to upload to; None if the registry mounted the blob from the model that it comes from."""
        url = self._connection.url("blobs/uploads/")
        async with self._connection.request("POST", url.copy_merge_params(self._mount()), {}) as response:
            return None if response.status_code == 201 else _next_url(response)

    def _mount(self) -> dict[str, str]:
        if not self.layer.from_:
            return {}
        with suppress(InvalidName):
            source = ModelName.parse(self.layer.from_)
            return {"from": f"{source.namespace}/{source.model}", "mount": str(self.layer.digest)}
        return {}

    async def _send_part(self, url: httpx.URL, part: Part, tasks: Tasks) -> httpx.URL:
        """Upload a part; on a redirect, start a task for it. Returns the URL for the next part."""
        headers = {
            **self._headers(part),
            "Content-Range": f"{part.offset}-{part.end - 1}",
            "X-Redirect-Uploads": "1",
        }
        sending = self._connection.request("PATCH", url, headers, content=lambda: self._read(part), redirects=0)
        async with self._places, sending as response:
            following = _next_url(response)
        if response.status_code == _TEMPORARY_REDIRECT:
            elsewhere = parse_url(response.headers.get("location", ""), url)
            tasks.append(asyncio.create_task(self._put(elsewhere, part)))
        elif response.is_redirect:
            raise BadStatus(response.status_code, "unexpected status code")
        return following

    async def _put(self, url: httpx.URL, part: Part) -> None:
        """Upload a part to a redirect target, with retries."""
        async with self._places:
            await self._policy.retries.run(lambda: self._put_once(url, part), self.waiting)

    async def _put_once(self, url: httpx.URL, part: Part) -> None:
        transport = self._connection.transport
        async with transport.send("PUT", url, self._headers(part), content=self._read(part), redirects=0) as response:
            await transport.require_success(response)

    async def _commit(self, url: httpx.URL) -> None:
        hashes = b"".join(self._hashes[part.number] for part in self._parts)
        etag = f"{hashlib.md5(hashes, usedforsecurity=False).hexdigest()}-{len(self._parts)}"
        url = url.copy_merge_params({"digest": str(self.layer.digest), "etag": etag})
        async with self._connection.request("PUT", url, _BINARY):
            pass

    def _headers(self, part: Part) -> Mapping[str, str]:
        return {**_BINARY, "Content-Length": str(part.size)}

    async def _read(self, part: Part) -> Body:
        """The bytes of a part; counted and hashed as they are sent."""
        md5 = hashlib.md5(usedforsecurity=False)
        part.completed = 0
        while part.left:
            yield (piece := await asyncio.to_thread(self._read_piece, part, md5))
            self._policy.traffic.sent += len(piece)
            self.completed = max(self.completed, sum(part.completed for part in self._parts))
        self._hashes[part.number] = md5.digest()

    def _read_piece(self, part: Part, md5: hashlib._Hash) -> bytes:
        with without_paths("read a blob"):
            data = os.pread(self._file.fileno(), min(_PIECE, part.left), part.start)
        if not data:
            raise StoreError(f"blob {self.layer.digest} is shorter than its manifest says")
        md5.update(data)
        part.completed += len(data)
        return data


def _next_url(response: httpx.Response) -> httpx.URL:
    """The URL for the next request of an upload."""
    headers = response.headers
    location = headers.get("docker-upload-location") or headers.get("location")
    if not location:
        raise BadAnswer("the registry does not say where to send the blob")
    return parse_url(location, response.url)
