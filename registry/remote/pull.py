"""Pull: download a model from its registry into the store, step by step.

Order: blobs are downloaded, verified and stored; then the manifest; then blobs that only the old one needed go.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from registry.bundled import MODELS
from registry.errors import BadStatus, RegistryError, StoreError
from registry.manifest import TENSOR, Layer, Manifest, ManifestError
from registry.names import Digest, ModelName
from registry.progress import Step, blob_step
from registry.remote.auth import Authority
from registry.remote.download import Downloads, Policy, SharedDownload
from registry.remote.huggingface import HuggingFace
from registry.remote.ranges import Origin
from registry.remote.repository import Repository
from registry.remote.retries import Waiting, WatchedOperation
from registry.storage.leases import held
from registry.storage.store import Store, StoredModel


class RemoteModel(Protocol):
    """A model at a registry or hub: the blobs to fetch, and the manifest that joins them."""

    @property
    def origin(self) -> Origin:
        """Where the blobs come from."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The blobs to fetch, in this order."""

    @property
    def digests(self) -> frozenset[Digest]:
        """The blobs to lease meanwhile, so that nobody removes them."""

    @property
    def extra_bytes(self) -> int:
        """Disk space needed besides the blobs."""

    @property
    def post_fetch_step(self) -> str:
        """The status line for slow work after the download; empty if there is none."""

    async def manifest(self, store: Store) -> bytes:
        """The manifest, once the blobs are stored. Raises GGUFError or StoreError."""


@dataclass(frozen=True, slots=True)
class RegistryModel:
    """A model of a registry; its manifest is stored byte for byte."""

    origin: Origin
    data: bytes
    decoded: Manifest
    extra_bytes: int = 0
    post_fetch_step: str = ""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The manifest's layers, the config last."""
        return (*self.decoded.layers, self.decoded.config)

    @property
    def digests(self) -> frozenset[Digest]:
        """All that the manifest names."""
        return self.decoded.digests

    async def manifest(self, store: Store) -> bytes:
        """The manifest as it came."""
        return self.data


class ManifestUnavailable(RegistryError):
    """The registry gives no manifest that can be used; the text has the reason."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(f"pull model manifest: {reason}")


class NeedsMLX(RegistryError):
    """The model is one of those that only MLX runs."""

    def __init__(self) -> None:
        super().__init__("this model requires MLX support, but the MLX runtime is not available")


class Pulls:
    """Pulls models into a store; concurrent pulls share downloads. Belongs to one event loop.

    `keys` is the folder of our key. With `keep_unused`, layers of replaced models stay.
    """

    def __init__(
        self,
        store: Store,
        keys: Path,
        policy: Policy,
        *,
        hub: HuggingFace = HuggingFace(),  # noqa: B008 - a constant
        keep_unused: bool = False,
    ) -> None:
        self._store = store
        self._keys = keys
        self._policy = policy
        self._hub = hub
        self._keep_unused = keep_unused
        self._downloads = Downloads(store, policy)

    async def pull(self, name: ModelName, *, insecure: bool = False) -> AsyncGenerator[Step, None]:
        """Pull a model. Raises RegistryError or StoreError. Closing it stops downloads that nobody else waits for."""
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
        stored = await asyncio.to_thread(self._store.bundled, name)
        for layer in (*stored.manifest.layers, stored.manifest.config):
            yield blob_step("pulling", layer.digest, layer.size, layer.size)
        yield {"status": "verifying sha256 digest"}
        yield {"status": "writing manifest"}

    async def _pull_from(self, repository: Repository) -> AsyncGenerator[Step, None]:
        old = await asyncio.to_thread(self._store.stored, repository.name)
        if old is not None:
            repository = replace(repository, name=old.name)
        waiting = Waiting()
        asking = WatchedOperation(self._find(repository, old, waiting), waiting)
        async with aclosing(asking.steps()) as steps:
            async for step in steps:
                yield step
        remote_model = asking.result
        replaced = old.manifest.digests if old is not None and not self._keep_unused else frozenset()
        async with held(self._store.doomed(replaced)), held(self._store.lease(remote_model.digests)):
            async with aclosing(self._fetch(remote_model)) as steps:
                async for step in steps:
                    yield step
            if remote_model.post_fetch_step:
                yield {"status": remote_model.post_fetch_step}
            data = await remote_model.manifest(self._store)
            yield {"status": "writing manifest"}
            new = await asyncio.to_thread(self._store.write_manifest, repository.name, data)
        async with aclosing(self._remove((replaced | remote_model.digests) - new.manifest.digests)) as steps:
            async for step in steps:
                yield step

    async def _find(self, repository: Repository, old: StoredModel | None, waiting: Waiting) -> RemoteModel:
        """The model at the registry, or at the hub behind it if the registry refuses. Raises ManifestUnavailable."""
        try:
            return await self._ask(repository, old, waiting)
        except (RegistryError, ManifestError) as error:
            raise ManifestUnavailable(error) from error

    async def _ask(self, repository: Repository, old: StoredModel | None, waiting: Waiting) -> RemoteModel:
        hub = self._hub
        if not hub.serves(repository.name):
            return await self._ask_registry(repository, waiting)
        if not hub.mirrored:
            try:
                return await self._ask_registry(repository, waiting)
            except RegistryError as error:
                if not hub.may_help(error):
                    raise
        network = self._policy.network
        return await self._policy.retries.run(
            lambda: hub.find(repository.name, network, self._store, old), waiting, _is_refusal
        )

    async def _ask_registry(self, repository: Repository, waiting: Waiting) -> RemoteModel:
        async with repository.connect(self._policy.network) as connection:
            data = await self._policy.retries.run(connection.manifest, waiting, _is_refusal)
        return RegistryModel(repository, data, Manifest.decode(data))

    async def _fetch(self, remote_model: RemoteModel) -> AsyncGenerator[Step, None]:
        """Download missing blobs one after the other; each is verified while the next one downloads."""
        if any(layer.media_type == TENSOR for layer in remote_model.layers):
            raise NeedsMLX
        missing = await asyncio.to_thread(self._missing, remote_model)
        async with AsyncExitStack() as stack:
            watched: list[SharedDownload] = []
            for layer in remote_model.layers:
                if layer.digest not in missing:
                    yield blob_step("pulling", layer.digest, layer.size, layer.size)
                    continue
                async with aclosing(self._watch(stack, watched, layer, remote_model.origin)) as steps:
                    async for step in steps:
                        yield step
            yield {"status": "verifying sha256 digest"}
            for shared in watched:
                await shared.finished()

    async def _watch(
        self, stack: AsyncExitStack, watched: list[SharedDownload], layer: Layer, origin: Origin
    ) -> AsyncGenerator[Step, None]:
        """Report a download until all bytes have arrived; the stack keeps it watched.

        If a download that another pull started fails, it is tried again as our own.
        """
        shown = shown_waits = 0
        while True:
            shared, ours = await stack.enter_async_context(self._downloads.watch(layer, origin))
            try:
                async with aclosing(shared.progress()) as progress:
                    async for completed, total in progress:
                        if shared.download.waiting.count != shown_waits:
                            shown_waits = shared.download.waiting.count
                            yield {"status": shared.download.waiting.status}
                        shown = max(shown, completed)
                        yield blob_step("pulling", layer.digest, total, shown)
                watched.append(shared)
                return
            except (RegistryError, StoreError):
                if ours:
                    raise

    def _missing(self, remote_model: RemoteModel) -> set[Digest]:
        """The blobs that are missing or have the wrong size. Raises DiskFull if they do not fit."""
        store = self._store
        missing = {
            layer.digest: layer.size for layer in remote_model.layers if store.blob_size(layer.digest) != layer.size
        }
        kept = sum(store.partial(digest).kept for digest in missing)
        store.require_space(sum(missing.values()) - kept + remote_model.extra_bytes)
        return set(missing)

    async def _remove(self, digests: Iterable[Digest]) -> AsyncGenerator[Step, None]:
        """Remove blobs that only the replaced model needed. A failure here does not fail the pull."""
        try:
            if unused := await asyncio.to_thread(self._store.unused, digests):
                yield {"status": "removing unused layers"}
                await asyncio.to_thread(self._store.remove_unused, unused)
        except StoreError as error:
            yield {"status": f"couldn't remove unused layers: {error}"}


def _is_refusal(error: RegistryError) -> bool:
    """Whether the registry answered: one that cannot be reached at all is not retried."""
    return isinstance(error, BadStatus)
