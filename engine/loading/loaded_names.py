"""Keeps loaded models in step with the names in the store.

Once no stored name leads to a loaded model it is unloaded: no client can ask for it any more. If only the name under
which it was loaded is gone, it is shown under another name of the same weights.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from engine.api import RunningModel
from engine.loading.pool import RunnerPool
from engine.model import Model
from engine.unloading import UnloadReason
from registry.manifest import ManifestError
from registry.names import ModelName
from registry.storage.store import Store, StoreError

_Loaded = tuple[str, str]
"""A model as `/api/ps` shows it: its full name, and the digest of its manifest."""


class LoadedNames:
    """Unloads models whose weights belong to no stored model, once they are idle. Owned by the event loop."""

    def __init__(self, store: Store, pool: RunnerPool) -> None:
        self._store = store
        self._pool = pool
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._used: dict[_Loaded, str] = {}  # by the names under which models were loaded: the path of the weights
        self._others: Mapping[_Loaded, _Loaded] = {}  # by names that are gone: those to show instead

    def start(self) -> None:
        """Begin to watch the store for changes."""
        loop = asyncio.get_running_loop()

        def changed() -> None:
            loop.call_soon_threadsafe(self._changed.set)

        self._store.changed = changed
        self._changed.set()  # what went while no server ran has left states on disk
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Stop watching."""
        self._store.changed = lambda: None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def loaded(self, model: Model) -> None:
        """Note the name under which a model is used; it may be gone already."""
        used = model.name.full, model.digest
        if used not in self._used:
            self._used[used] = str(model.weights)
            self._changed.set()

    def current(self, running: list[RunningModel]) -> list[RunningModel]:
        """The same models under the names that they have now."""
        return [self._current(model) for model in running]

    def _current(self, running: RunningModel) -> RunningModel:
        """A model under the name last asked for that there still is, else another one of the same weights."""
        names = ((running.name, running.digest), *running.others)
        first, *others = [name for name in names if name not in self._others] or [self._others[names[0]]]
        return replace(running, name=first[0], digest=first[1], others=tuple(others))

    async def _watch(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            keys = self._pool.keys()
            self._used = {used: key for used, key in self._used.items() if key in keys}
            if not keys and self._pool.states is None:
                continue
            named = await asyncio.to_thread(self._named)
            for key in keys - set(named):
                self._pool.expire(key, UnloadReason.DELETED)
            self._others = await asyncio.to_thread(self._replacements, dict(self._used), named)

    def _named(self) -> dict[str, set[ModelName]]:
        """The names of the models that need a blob, by its path. States on disk of others are removed. Blocking."""
        states = self._pool.states
        kept = set() if states is None else states.digests
        users = {digest: names for digest, names in self._store.digests().items() if names}
        if states is not None:
            states.forget(kept - {digest.hex for digest in users})
        return {str(self._store.blob_path(digest)): names for digest, names in users.items()}

    def _replacements(self, used: Mapping[_Loaded, str], named: Mapping[str, set[ModelName]]) -> dict[_Loaded, _Loaded]:
        """The names to show for models whose own name leads to other weights or is gone. Blocking."""
        replacements = {}
        for loaded, key in used.items():
            names = sorted(named.get(key, ()), key=lambda name: name.full)
            if names and all(name.full != loaded[0] for name in names):
                try:
                    replacements[loaded] = names[0].full, self._store.find(names[0], install=False).digest
                except (StoreError, ManifestError):  # it is gone too: the store will report that next
                    continue
        return replacements
