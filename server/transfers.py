"""Pulls and pushes. Clients that pull the same model at the same time share one download."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from registry.logfields import fields
from registry.names import ModelName
from registry.progress import Step, Traffic
from registry.storage.store import Store
from server.http.errors import KNOWN, message_of, one_line
from server.metrics import ServerMetrics
from server.settings import Settings

if TYPE_CHECKING:
    from registry.remote.download import Policy
    from registry.remote.pull import Pulls

log = logging.getLogger("pronk.server")
_SUCCESS = {"pull": "pulled", "push": "pushed", "create": "created"}
_FAILURE = {"pull": "pull failed", "push": "push failed", "create": "create failed"}


async def logged(
    store: Store,
    name: ModelName,
    verb: Literal["pull", "push", "create"],
    steps: AsyncGenerator[Step, None],
    metrics: ServerMetrics,
) -> AsyncGenerator[Step, None]:
    """Pass the steps on, and log and count their end: model, bytes or reason of failure, seconds."""
    started, result = time.monotonic(), "cancelled"
    try:
        async with aclosing(steps):
            async for step in steps:
                if step.get("status") == "success":  # logged first: the client may leave once it has the step
                    result = "success"
                    size = await asyncio.to_thread(_stored_bytes, store, name)
                    seconds = time.monotonic() - started
                    log.info(_SUCCESS[verb], extra=fields(model=name.shortest, bytes=size, seconds=seconds))
                yield step
    except KNOWN as error:
        reason, seconds = one_line(message_of(error)), time.monotonic() - started
        log.info(_FAILURE[verb], extra=fields(model=name.shortest, reason=reason, seconds=seconds))
        result = "failed"
        raise
    finally:
        metrics.transfer_ended(verb, result)


def _stored_bytes(store: Store, name: ModelName) -> int | None:
    """The size of a stored model in bytes; None if it is gone."""
    try:
        return store.find(name, install=False).size
    except KNOWN:
        return None


class Transfers:
    """Pulls into and pushes from one store. Call it on the event loop.

    `registry.remote` is imported at first use, as it would double the time of the server's start.
    """

    def __init__(self, store: Store, settings: Settings, traffic: Traffic, metrics: ServerMetrics) -> None:
        self._traffic = traffic
        self._metrics = metrics
        self._store = store
        self._settings = settings

    def pull(self, name: ModelName, *, insecure: bool) -> AsyncGenerator[Step, None]:
        """The steps of a pull. Iterating raises RegistryError or StoreError."""
        return logged(self._store, name, "pull", self._pulls.pull(name, insecure=insecure), self._metrics)

    def push(self, name: ModelName, *, insecure: bool) -> AsyncGenerator[Step, None]:
        """The steps of a push. Iterating raises ModelMissing, RegistryError or StoreError."""
        from registry.remote.auth import Authority
        from registry.remote.push import push

        steps = push(self._store, name, Authority(self._settings.keys_folder), self._policy, insecure=insecure)
        return logged(self._store, name, "push", steps, self._metrics)

    async def require(self, name: ModelName) -> None:
        """Raise ModelMissing if no model has this name."""
        await asyncio.to_thread(self._store.find, name)

    @cached_property
    def _policy(self) -> Policy:
        from registry.remote.download import Policy
        from registry.remote.proxies import Proxies
        from registry.remote.transport import Network

        settings = self._settings
        network = Network(proxies=Proxies.from_env(settings.environ), version=settings.version)
        return Policy(network=network, traffic=self._traffic)

    @cached_property
    def _pulls(self) -> Pulls:
        from registry.remote.huggingface import HuggingFace
        from registry.remote.pull import Pulls

        settings = self._settings
        hub = HuggingFace.from_env(settings.environ)
        return Pulls(self._store, settings.keys_folder, self._policy, hub=hub, keep_unused=settings.no_prune)
