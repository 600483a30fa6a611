"""The files that llama.cpp loads for a model: the stored ones, or derived from them before the first load."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.errors import EngineStopped, LoadFailed, ModelNotFound
from engine.model import Model
from engine.spawn import child_environment
from modelfile.published import OllamaLayout, Unloadable, plan
from modelfile.threads import in_thread
from modelfile.watchdog import PATIENCE
from modelfile.worker_client import JobFailed, run_job
from modelfile.worker_protocol import Derive
from registry.gguf import GGUFHeader, read_header
from registry.gguf.raw import Scalar
from registry.logfields import fields
from registry.names import Digest
from registry.storage.store import Store

log = logging.getLogger("pronk.engine")


@dataclass(frozen=True, slots=True)
class Weights:
    """A GGUF file to load, stored or derived. `overrides` replace its metadata (`llama_model_kv_override`).

    `projector` is the file with which the model sees or hears, None if it has none.
    """

    path: Path
    header: GGUFHeader
    overrides: Mapping[str, Scalar] = field(default_factory=dict)
    projector: Path | None = None

    def stamp(self) -> tuple[int, int, int]:
        """(inode, size, modification time in ns), which differ if the file is replaced; zeros if missing. Blocking."""
        try:
            status = self.path.stat()
        except OSError:
            return 0, 0, 0
        return status.st_ino, status.st_size, status.st_mtime_ns


class RepackCache:
    """Has files derived by worker processes, at most one per model at a time. Owned by the event loop; `close` it.

    A file once begun is finished even if no request waits for it any more: the next request uses it.
    """

    def __init__(self, store: Store, environ: Mapping[str, str], watchdog: float = PATIENCE) -> None:
        self._store = store
        self._watchdog = watchdog
        self._environ = child_environment(environ)
        self._weights: dict[Path, Weights] = {}  # of models that are not loaded as stored, by the stored file
        self._making: dict[Path, asyncio.Task[str]] = {}
        self._closed = False

    async def weights(self, model: Model) -> Weights:
        """What to load for a model. Raises LoadFailed, ModelNotFound, EngineStopped or GGUFError."""
        match model.layout:
            case None:
                weights = Weights(model.weights, model.header)
            case Unloadable(reason=reason):
                raise LoadFailed(reason)
            case OllamaLayout() as layout:
                weights = await self._derived(model, layout)
        return replace(weights, projector=model.projectors[0]) if model.projectors else weights

    @staticmethod
    def stored(model: Model) -> Weights:
        """The files as they are stored, which take about as much: for plans, for which nothing is derived."""
        if isinstance(model.layout, Unloadable):
            raise LoadFailed(model.layout.reason)
        return Weights(model.weights, model.header, projector=next(iter(model.projectors), None))

    def makes(self, model: Model) -> bool:
        """Whether files are being derived for a model."""
        return model.weights in self._making

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
                await self._ensure_made(model, layout)
                weights = await asyncio.to_thread(self._find, model, layout)
        except FileNotFoundError:
            raise ModelNotFound(model.name.shortest) from None
        if weights is None:
            raise LoadFailed("failed to load model: it has been removed meanwhile")
        self._weights[model.weights] = weights
        return weights

    def _find(self, model: Model, layout: OllamaLayout) -> Weights | None:
        """What to load; None if a file must be derived first. Blocking."""
        known = self._weights.get(model.weights)
        if known is not None and known.path.is_file() and (known.projector is None or known.projector.is_file()):
            return known
        overrides = plan(layout.text, model.weights, model.header).overrides()
        if overrides is not None:
            return Weights(model.weights, model.header, overrides)
        paths = self._paths(model, layout)
        if not all(path.is_file() for path in paths):
            return None
        projector = paths[0] if len(paths) > 1 else None
        return Weights(paths[-1], read_header(paths[-1]), projector=projector)

    def _paths(self, model: Model, layout: OllamaLayout) -> list[Path]:
        """The derived files of a model; llama.cpp loads the last one."""
        return [self._store.derived.path(_digest(model), form) for form in layout.forms(model.header)]

    async def _ensure_made(self, model: Model, layout: OllamaLayout) -> None:
        """Wait until the files of a model are derived. Cancelling the caller does not cancel it for others."""
        if self._closed:
            raise EngineStopped
        task = self._making.get(model.weights)
        if task is None:
            task = self._making[model.weights] = asyncio.create_task(self._make(model, layout))
            task.add_done_callback(lambda _: self._making.pop(model.weights))
        await asyncio.wait((task,))
        if task.cancelled():
            raise EngineStopped
        if reason := task.result():
            raise LoadFailed(f"failed to load model: {reason}")

    async def _make(self, model: Model, layout: OllamaLayout) -> str:
        """Have the files of a model derived while its blob is leased; returns why that failed, "" if it did not."""
        name, started = model.name.shortest, time.monotonic()
        log.debug("repack starts", extra=fields(model=name))
        job = Derive(blob=str(model.weights), folder=str(self._store.derived.folder))
        lease = ExitStack()
        try:
            await in_thread(lease.enter_context, self._store.lease((_digest(model),)))
            await run_job(job, self._environ, _ignore_progress, self._watchdog)
            size = await asyncio.to_thread(_total_size, self._paths(model, layout))
        except JobFailed as error:
            log.warning("repack failed", extra=fields(model=name, reason=str(error)))
            return str(error)
        finally:
            await in_thread(lease.close)
        log.info("repacked", extra=fields(model=name, bytes=size, seconds=time.monotonic() - started))
        return ""


def _total_size(paths: Iterable[Path]) -> int:
    """Bytes of all files together; one that is missing counts nothing. Blocking."""
    return sum(path.stat().st_size for path in paths if path.is_file())


def _digest(model: Model) -> Digest:
    return Digest.parse(model.weights.name)


def _ignore_progress(_completed: int, _total: int) -> None:
    """The API shows no progress of loads."""
