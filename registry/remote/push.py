"""Push: upload a model from the store to its registry, step by step. The manifest goes last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import BinaryIO

from registry.errors import BlobMissing, RegistryError, Unreachable, without_paths
from registry.manifest import Layer
from registry.names import Digest, ModelName
from registry.progress import Step, blob_step
from registry.remote.auth import Authority
from registry.remote.download import Policy
from registry.remote.repository import Connection, Repository
from registry.remote.retries import TICK, Waiting, WatchedOperation
from registry.remote.upload import Upload
from registry.storage.leases import held
from registry.storage.store import Store
from registry.tasks import task_group


async def push(
    store: Store, name: ModelName, authority: Authority, policy: Policy, *, insecure: bool = False
) -> AsyncGenerator[Step, None]:
    """Push a model. Raises ModelMissing before the first step, RegistryError or StoreError. Closing it stops it."""
    model = await asyncio.to_thread(store.find, name)
    yield {"status": "retrieving manifest"}
    repository = Repository.of(replace(model.name, scheme=name.scheme), authority, insecure=insecure)
    layers = (*model.manifest.layers, model.manifest.config)
    async with held(store.lease(model.manifest.digests)), repository.connect(policy.network) as connection:
        for layer in layers:
            async with aclosing(_send(store, layer, connection, policy)) as steps:
                async for step in steps:
                    yield step
        yield {"status": "pushing manifest"}
        data = model.manifest.encode().removesuffix(b"\n")
        waiting = Waiting()
        putting = WatchedOperation(policy.retries.run(lambda: connection.put_manifest(data), waiting), waiting)
        async with aclosing(putting.steps()) as steps:
            async for step in steps:
                yield step
    yield {"status": "success"}


async def _send(store: Store, layer: Layer, connection: Connection, policy: Policy) -> AsyncGenerator[Step, None]:
    """Upload a blob unless the registry has it. Closing it ends the upload."""
    waiting = Waiting()
    asking = WatchedOperation(_is_there(layer.digest, connection, policy, waiting), waiting)
    async with aclosing(asking.steps()) as steps:
        async for step in steps:
            yield step
    if not asking.result:
        with await asyncio.to_thread(_open, store, layer.digest) as file:
            async with aclosing(_progress(Upload(connection, policy, layer, file))) as steps:
                async for step in steps:
                    yield step
    yield blob_step("pushing", layer.digest, layer.size, layer.size)


async def _is_there(digest: Digest, connection: Connection, policy: Policy, waiting: Waiting) -> bool:
    """Whether the registry has a blob. A registry that has never answered is not retried."""

    def should_retry(error: RegistryError) -> bool:
        return connection.transport.answered or not isinstance(error, Unreachable)

    return await policy.retries.run(lambda: connection.has_blob(digest), waiting, should_retry)


async def _progress(upload: Upload) -> AsyncGenerator[Step, None]:
    """Run an upload; yields its progress and what it waits for."""
    layer, shown_waits = upload.layer, 0
    async with task_group() as tasks:
        tasks.append(task := asyncio.create_task(upload.run()))
        while not task.done():
            if upload.waiting.count != shown_waits:
                shown_waits = upload.waiting.count
                yield {"status": upload.waiting.status}
            yield blob_step("pushing", layer.digest, layer.size, upload.completed)
            await asyncio.wait((task,), timeout=TICK)


def _open(store: Store, digest: Digest) -> BinaryIO:
    with without_paths("read a blob"):
        try:
            return store.blob_path(digest).open("rb")
        except FileNotFoundError:
            raise BlobMissing(digest) from None
