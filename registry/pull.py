"""Pull: a model from its registry into the store, with progress on the way.

The order is fixed: blobs are fetched, checked, stored; then the manifest is; then goes what only the old one needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path

from registry.auth import Authority
from registry.bundled import MODELS
from registry.download import Policy
from registry.downloads import Downloads, Shared
from registry.errors import RegistryError, StoreError
from registry.manifest import TENSOR, Layer, Manifest, ManifestError
from registry.names import Digest, ModelName
from registry.repository import Repository
from registry.steps import Step, blob_step
from registry.store import Store


class ManifestUnavailable(RegistryError):
    """The registry gives no manifest that can be used; the text has the reason."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(f"pull model manifest: {reason}")


class NeedsMLX(RegistryError):
    """The model is one of those that only MLX runs."""

    def __init__(self) -> None:
        super().__init__("this model requires MLX support, but the MLX runtime is not available")


class Pulls:
    """Pulls models into a store. Those that run at the same time share what they fetch. Belongs to one event loop.

    `keys` is the folder of the key that registries know us by. With `keep_unused`, layers of replaced models stay.
    """

    def __init__(self, store: Store, keys: Path, policy: Policy, *, keep_unused: bool = False) -> None:
        self._store = store
        self._keys = keys
        self._policy = policy
        self._keep_unused = keep_unused
        self._downloads = Downloads(store, policy)

    async def pull(self, name: ModelName, *, insecure: bool = False) -> AsyncGenerator[Step, None]:
        """Fetch a model. Raises RegistryError or StoreError; closing it stops what nobody else waits for."""
        yield {"status": "pulling manifest"}
        if name in MODELS:
            steps = self._pull_bundled(name)
        else:
            repository = Repository.of(name, Authority(self._keys), insecure=insecure)
            steps = self._pull_from(repository)
        async with aclosing(steps):
            async for step in steps:
                yield step
        yield {"status": "success"}

    async def _pull_bundled(self, name: ModelName) -> AsyncGenerator[Step, None]:
        stored = await asyncio.to_thread(self._store.find, name)
        for layer in (*stored.manifest.layers, stored.manifest.config):
            yield blob_step("pulling", layer.digest, layer.size, layer.size)
        yield {"status": "verifying sha256 digest"}
        yield {"status": "writing manifest"}

    async def _pull_from(self, repository: Repository) -> AsyncGenerator[Step, None]:
        old = await asyncio.to_thread(self._store.stored, repository.name)
        if old is not None:
            repository = replace(repository, name=old.name)
        data, manifest = await self._manifest(repository)
        with self._store.lease(manifest.digests):
            async with aclosing(self._fetch(manifest, repository)) as steps:
                async for step in steps:
                    yield step
            yield {"status": "writing manifest"}
            await asyncio.to_thread(self._store.write_manifest, repository.name, data)
        if old is not None and not self._keep_unused:
            async with aclosing(self._remove(old.manifest.digests - manifest.digests)) as steps:
                async for step in steps:
                    yield step

    async def _manifest(self, repository: Repository) -> tuple[bytes, Manifest]:
        try:
            async with repository.connect(self._policy.network) as connection:
                data = await connection.manifest()
            manifest = Manifest.decode(data)
        except (RegistryError, ManifestError) as error:
            raise ManifestUnavailable(error) from error
        if manifest.of_type(TENSOR):
            raise NeedsMLX
        return data, manifest

    async def _fetch(self, manifest: Manifest, repository: Repository) -> AsyncGenerator[Step, None]:
        """Fetch the blobs that are missing, one after the other; each is checked while the next one travels."""
        layers = (*manifest.layers, manifest.config)
        missing = await asyncio.to_thread(self._missing, layers)
        async with AsyncExitStack() as stack:
            watched: list[Shared] = []
            for layer in layers:
                if layer.digest not in missing:
                    yield blob_step("pulling", layer.digest, layer.size, layer.size)
                    continue
                async with aclosing(self._watch(stack, watched, layer, repository)) as steps:
                    async for step in steps:
                        yield step
            yield {"status": "verifying sha256 digest"}
            for shared in watched:
                await shared.finished()

    async def _watch(
        self, stack: AsyncExitStack, watched: list[Shared], layer: Layer, repository: Repository
    ) -> AsyncGenerator[Step, None]:
        """Show a download until everything has arrived; the stack holds on to it. Another's that fails is not ours."""
        shown = 0
        while True:
            shared, ours = await stack.enter_async_context(self._downloads.watch(layer, repository))
            try:
                async with aclosing(shared.progress()) as progress:
                    async for completed, total in progress:
                        shown = max(shown, completed)
                        yield blob_step("pulling", layer.digest, total, shown)
                watched.append(shared)
                return
            except (RegistryError, StoreError):
                if ours:
                    raise

    def _missing(self, layers: Iterable[Layer]) -> set[Digest]:
        """The blobs that are not there, or not as long as they should be. Raises DiskFull if they do not fit."""
        missing = {layer.digest: layer.size for layer in layers if self._store.blob_size(layer.digest) != layer.size}
        kept = sum(self._store.partial(digest).kept for digest in missing)
        self._store.require_space(sum(missing.values()) - kept)
        return set(missing)

    async def _remove(self, digests: Iterable[Digest]) -> AsyncGenerator[Step, None]:
        """Remove what only the replaced model needed. That this fails is no failure of the pull."""
        try:
            if unused := await asyncio.to_thread(self._store.unused, digests):
                yield {"status": "removing unused layers"}
                await asyncio.to_thread(self._store.remove_unused, unused)
        except StoreError as error:
            yield {"status": f"couldn't remove unused layers: {error}"}
