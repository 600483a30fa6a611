"""Download of one blob in parallel ranges with retries; then verified and stored. Concurrent pulls share downloads."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Final, ParamSpec, TypeVar

from registry.errors import BadStatus, NotFound, RegistryError, Unreachable
from registry.manifest import Layer
from registry.names import Digest
from registry.progress import Traffic
from registry.remote.ranges import BlobSource, Origin
from registry.remote.retries import TICK, Attempts, Retries, Waiting
from registry.remote.transport import Body, Network
from registry.storage.partials import DIVISION, Division, Part, Partial
from registry.storage.store import Store
from registry.tasks import task_group

P = ParamSpec("P")
T = TypeVar("T")

_PIECE: Final = 256 << 10
"""Bytes to collect before a write in the thread."""
_PATIENCE: Final = 0.1
"""Seconds after which fewer bytes are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How blobs are transferred: the network, the size of parts, how many run in parallel, and retries.

    `traffic` counts their bytes.
    """

    network: Network = field(default_factory=Network)
    division: Division = DIVISION
    parallel: int = 16
    retries: Retries = field(default_factory=Retries)
    traffic: Traffic = field(default_factory=Traffic)


class Download:
    """One blob, from a registry into the store. Belongs to one event loop; `run` it once.

    `total` and `completed` are bytes. `arrived` is set once all bytes are there, before they are verified.
    `waiting` tells why no bytes come.
    """

    def __init__(self, store: Store, policy: Policy, origin: Origin, digest: Digest, size: int) -> None:
        self.digest = digest
        self.total = size
        self.completed = 0
        self.arrived = asyncio.Event()
        self.waiting = Waiting()
        self._store = store
        self._policy = policy
        self._origin = origin
        self._alone = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="download")

    async def run(self) -> None:
        """Fetch, verify and store. Raises RegistryError or StoreError. Bytes so far are kept, also on cancellation."""
        try:
            async with self._origin.connect(self._policy.network) as connection:
                await self._fetch(BlobSource(connection, self.digest))
        finally:
            self._thread.shutdown(wait=False)

    async def _fetch(self, source: BlobSource) -> None:
        if await self._blocking(self._store.blob_size, self.digest) == self.total:  # another pull just stored it
            self.arrived.set()
            return
        partial = self._store.partial(self.digest)
        try:
            if not await self._blocking(lambda: partial.kept):
                await self._ask_size(source)
            await self._blocking(partial.open, self.total, self._policy.division)
            self.completed = partial.completed
            await self._fill(partial, source)
            self.arrived.set()
            await self._blocking(partial.commit)
        finally:
            partial.stop()
            await self._blocking(partial.close)

    async def _ask_size(self, source: BlobSource) -> None:
        """Take the registry's size over the manifest's if the two differ. Raises DiskFull if it does not fit."""
        try:
            size = await self._policy.retries.run(source.size, self.waiting)
        except NotFound:
            raise
        except BadStatus:
            return
        if size not in (0, self.total):
            await self._blocking(self._store.require_space, size)
            self.total = size

    async def _fill(self, partial: Partial, source: BlobSource) -> None:
        waiting = deque(part for part in partial.parts if part.left)
        async with task_group() as tasks:
            for _ in range(min(self._policy.parallel, len(waiting))):
                tasks.append(asyncio.create_task(self._work(waiting, partial, source)))

    async def _work(self, waiting: deque[Part], partial: Partial, source: BlobSource) -> None:
        while waiting:
            await self._complete(waiting.popleft(), partial, source)

    async def _complete(self, part: Part, partial: Partial, source: BlobSource) -> None:
        """Fetch a part until it is complete. Only attempts that bring no bytes count as failures."""
        attempts = Attempts(self._policy.retries, self.waiting)
        while part.left:
            before = part.completed
            try:
                await self._attempt(part, partial, source)
            except RegistryError as error:
                if part.completed > before:
                    attempts.succeeded()
                await attempts.failed(error)

    async def _attempt(self, part: Part, partial: Partial, source: BlobSource) -> None:
        """One response for a part. If the registry ignores ranges, one response at a time fills all parts."""
        whole = source.whole
        async with self._alone if whole else nullcontext():
            if not part.left:
                return
            async with source.bytes(part.start, part.end - 1) as (place, body):
                if place == part.start or whole:
                    await self._take(partial, partial.parts if whole else [part], body, place)
                    if part.left:
                        raise Unreachable("the registry's answer ended too early")

    async def _take(self, partial: Partial, parts: Sequence[Part], body: Body, place: int) -> None:
        """Write the body until the parts are complete or the body ends. `place` is the offset of its first byte."""
        waiting = bytearray()
        since = time.monotonic()
        try:
            async for piece in body:
                waiting += piece
                self._policy.traffic.received += len(piece)
                now = time.monotonic()
                if len(waiting) >= _PIECE or now - since > _PATIENCE:
                    data, waiting, since = waiting, bytearray(), now
                    place = await self._write(partial, parts, data, place)
                    if not any(part.left for part in parts):
                        return
        finally:
            await self._write(partial, parts, waiting, place)

    async def _write(self, partial: Partial, parts: Sequence[Part], data: bytearray, place: int) -> int:
        """Write the bytes that the parts still lack. Returns the offset behind `data`."""
        end = place + len(data)
        for part in parts:
            if place <= part.start < min(end, part.end):
                await self._blocking(partial.write, part, data[part.start - place :])
        self.completed = partial.completed
        return end

    async def _blocking(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run disk work in the one thread of this download, so that calls never overlap."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*args, **kwargs))


@dataclass(slots=True)
class SharedDownload:
    """A running download and the number of its watchers."""

    download: Download
    task: asyncio.Task[None] = field(init=False)
    watchers: int = 0

    def __post_init__(self) -> None:
        self.task = asyncio.create_task(self.download.run())

    async def progress(self) -> AsyncGenerator[tuple[int, int], None]:
        """Yield (completed, total) bytes every TICK until all have arrived. Raises what the download raises."""
        arrived = asyncio.create_task(self.download.arrived.wait())
        try:
            while not (self.task.done() or arrived.done()):
                yield self.download.completed, self.download.total
                await asyncio.wait((self.task, arrived), timeout=TICK, return_when=asyncio.FIRST_COMPLETED)
        finally:
            arrived.cancel()
        if self.task.done():
            await self.finished()
        yield self.download.total, self.download.total

    async def finished(self) -> None:
        """Wait until the blob is stored. Raises what the download raises."""
        await asyncio.shield(self.task)


class Downloads:
    """The running downloads of a store, one per blob. Belongs to one event loop."""

    def __init__(self, store: Store, policy: Policy) -> None:
        self._store = store
        self._policy = policy
        self._running: dict[Digest, SharedDownload] = {}

    @asynccontextmanager
    async def watch(self, layer: Layer, origin: Origin) -> AsyncIterator[tuple[SharedDownload, bool]]:
        """The download of a blob, and whether this call started it. The last watcher to leave stops it."""
        shared = self._running.get(layer.digest)
        while shared is not None and not shared.watchers:
            shared = await self._end(shared)
        started = shared is None or shared.task.done()
        if shared is None or started:
            shared = SharedDownload(Download(self._store, self._policy, origin, layer.digest, layer.size))
            self._running[layer.digest] = shared
        shared.watchers += 1
        try:
            yield shared, started
        finally:
            shared.watchers -= 1
            if not shared.watchers:
                shared.task.cancel()
                await self._end(shared)

    async def _end(self, shared: SharedDownload) -> SharedDownload | None:
        """Wait for a stopping download. Returns the one that another watcher has started since, if any."""
        await asyncio.gather(shared.task, return_exceptions=True)
        digest = shared.download.digest
        if self._running.get(digest) is shared:
            del self._running[digest]
        return self._running.get(digest)
