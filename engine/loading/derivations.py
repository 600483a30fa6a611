"""The file that llama.cpp loads for a model: the stored one, or one that is derived from it the first time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import EngineStopped, LoadFailed, ModelNotFound
from engine.model import Model
from engine.spawn import child_environment
from modelfile.published import OllamaLayout, Unloadable, plan
from modelfile.threads import in_thread
from modelfile.worker_client import JobFailed, run_job
from modelfile.worker_protocol import Derive
from registry.gguf import GGUFHeader, read_header
from registry.gguf.raw import Scalar
from registry.names import Digest
from registry.storage.store import Store

log = logging.getLogger("pronk.engine")


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's GGUF file, stored or derived. `overrides` of its metadata become `llama_model_kv_override`s."""

    path: Path
    header: GGUFHeader
    overrides: Mapping[str, Scalar] = field(default_factory=dict)

    def stamp(self) -> tuple[int, int, int]:
        """Inode, size and modification time, by which a replaced file differs; zeros if it is missing. Blocking."""
        try:
            status = self.path.stat()
        except OSError:
            return 0, 0, 0
        return status.st_ino, status.st_size, status.st_mtime_ns


class RepackCache:
    """Has files derived by worker processes, one for each model at a time. Owned by the event loop; `close` it.

    A file that was begun is finished even if no request waits for it any more: the next one finds it.
    """

    def __init__(self, store: Store, environ: Mapping[str, str]) -> None:
        self._store = store
        self._environ = child_environment(environ)
        self._weights: dict[Path, Weights] = {}  # of derived models, by the stored file
        self._making: dict[Path, asyncio.Task[str]] = {}
        self._closed = False

    async def weights(self, model: Model) -> Weights:
        """What to load for a model. Raises LoadFailed, ModelNotFound, EngineStopped or GGUFError."""
        match model.layout:
            case None:
                return Weights(model.weights, model.header)
            case Unloadable(reason=reason):
                raise LoadFailed(reason)
            case OllamaLayout() as layout:
                return await self._derived(model, layout)

    async def close(self) -> None:
        """Cancel what is being derived; requests that wait for it get EngineStopped."""
        self._closed = True
        making = list(self._making.values())
        for task in making:
            task.cancel()
        await asyncio.gather(*making, return_exceptions=True)

    async def _derived(self, model: Model, layout: OllamaLayout) -> Weights:
        try:
            weights = await asyncio.to_thread(self._find, model, layout)
            if weights is None:
                await self._ensure_made(model)
                weights = await asyncio.to_thread(self._find, model, layout)
        except FileNotFoundError:
            raise ModelNotFound(model.name.shortest) from None
        if weights is None:
            raise LoadFailed("failed to load model: it has been removed meanwhile")
        self._weights[model.weights] = weights
        return weights

    def _find(self, model: Model, layout: OllamaLayout) -> Weights | None:
        """What to load; None if it must be derived first. Blocking."""
        known = self._weights.get(model.weights)
        if known is not None and known.path.is_file():
            return known
        overrides = plan(layout.text, model.weights, model.header).overrides()
        if overrides is not None:
            return Weights(model.weights, model.header, overrides)
        paths = [self._store.derived.path(_digest(model), form) for form in layout.forms(model.header)]
        return Weights(paths[-1], read_header(paths[-1])) if all(path.is_file() for path in paths) else None

    async def _ensure_made(self, model: Model) -> None:
        """Wait until the files of a model are derived. Cancelling the caller does not cancel it for others."""
        if self._closed:
            raise EngineStopped
        task = self._making.get(model.weights)
        if task is None:
            task = self._making[model.weights] = asyncio.create_task(self._make(model))
            task.add_done_callback(lambda _: self._making.pop(model.weights))
        await asyncio.wait((task,))
        if task.cancelled():
            raise EngineStopped
        if reason := task.result():
            raise LoadFailed(f"failed to load model: {reason}")

    async def _make(self, model: Model) -> str:
        """Have the files of a model derived, its blob leased; returns why that failed, or an empty text."""
        name = model.name.shortest
        log.info("making files of %s that llama.cpp can load", name)
        job = Derive(blob=str(model.weights), folder=str(self._store.derived.folder))
        lease = ExitStack()
        try:
            await in_thread(lease.enter_context, self._store.lease((_digest(model),)))
            await run_job(job, self._environ, _ignore_progress)
        except JobFailed as error:
            log.warning("%s: %s", name, error)
            return str(error)
        finally:
            await in_thread(lease.close)
        log.info("made files of %s", name)
        return ""


def _digest(model: Model) -> Digest:
    return Digest.parse(model.weights.name)


def _ignore_progress(_completed: int, _total: int) -> None:
    """The API shows no progress of loads."""
