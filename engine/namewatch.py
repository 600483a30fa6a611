"""Models go when no name leads to them any more: a deleted or replaced one could not be told to unload by anybody."""

from __future__ import annotations

import asyncio

from engine.pool import RunnerPool
from registry.store import Store


class NameWatch:
    """Unloads models whose weights no stored model has, once nothing runs in them. Owned by the event loop."""

    def __init__(self, store: Store, pool: RunnerPool) -> None:
        self._store = store
        self._pool = pool
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look after each change of the store."""
        loop = asyncio.get_running_loop()

        def changed() -> None:
            loop.call_soon_threadsafe(self._changed.set)

        self._store.changed = changed
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Look no more."""
        self._store.changed = lambda: None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            keys = self._pool.keys()
            for key in keys - await asyncio.to_thread(self._named) if keys else ():
                self._pool.expire(key)

    def _named(self) -> set[str]:
        """The paths of all that models need. Blocking."""
        return {str(self._store.blob_path(digest)) for digest, names in self._store.digests().items() if names}
