"""Downloads that several clients watch: one for each blob, started by the first, stopped when the last has gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from registry.download import Download, Policy
from registry.manifest import Layer
from registry.names import Digest
from registry.ranges import Origin
from registry.store import Store

TICK: Final = 0.06
"""Seconds between two looks at a download."""


@dataclass(slots=True)
class Shared:
    """A running download and how many watch it."""

    download: Download
    task: asyncio.Task[None] = field(init=False)
    watchers: int = 0

    def __post_init__(self) -> None:
        self.task = asyncio.create_task(self.download.run())

    async def progress(self) -> AsyncGenerator[tuple[int, int], None]:
        """Bytes completed and in total, again and again until all have arrived. Raises what the download raises."""
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
    """All running downloads into a store. Belongs to one event loop."""

    def __init__(self, store: Store, policy: Policy) -> None:
        self._store = store
        self._policy = policy
        self._running: dict[Digest, Shared] = {}

    @asynccontextmanager
    async def watch(self, layer: Layer, origin: Origin) -> AsyncIterator[tuple[Shared, bool]]:
        """The download of a blob, and whether it was started for this watcher. Whoever leaves last stops it."""
        shared = self._running.get(layer.digest)
        while shared is not None and not shared.watchers:
            shared = await self._end(shared)
        started = shared is None or shared.task.done()
        if shared is None or started:
            shared = Shared(Download(self._store, self._policy, origin, layer.digest, layer.size))
            self._running[layer.digest] = shared
        shared.watchers += 1
        try:
            yield shared, started
        finally:
            shared.watchers -= 1
            if not shared.watchers:
                shared.task.cancel()
                await self._end(shared)

    async def _end(self, shared: Shared) -> Shared | None:
        """Wait for a download that is being stopped. Returns the one that somebody else has started since."""
        await asyncio.gather(shared.task, return_exceptions=True)
        digest = shared.download.digest
        if self._running.get(digest) is shared:
            del self._running[digest]
        return self._running.get(digest)
