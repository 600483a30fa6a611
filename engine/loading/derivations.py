"""From a stored model to a file that llama.cpp loads: the same one, or one that is made of it the first time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import EngineStopped, LoadFailed, ModelNotFound
from engine.loading.spawn import child_environment
from engine.model import Model
from modelfile.published import OllamaLayout, Unloadable, plan
from modelfile.threads import in_thread
from modelfile.worker_client import JobFailed, run_job
from modelfile.worker_protocol import Derive
from registry.gguf import GGUFHeader, read_header
from registry.gguf.raw import Scalar
from registry.names import Digest
from registry.storage.store import Store

# The file that llama.cpp is given for a model.


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's file: the stored one, or one that was made of it; `overrides` count in place of its metadata."""

    path: Path
    header: GGUFHeader
    overrides: Mapping[str, Scalar] = field(default_factory=dict)

    def stamp(self) -> tuple[int, int, int]:
        """What changes when the file is replaced by another; zeros where there is none."""
        try:
            found = self.path.stat()
        except OSError:
            return 0, 0, 0
        return found.st_ino, found.st_size, found.st_mtime_ns


log = logging.getLogger("pronk.engine")


class RepackCache:
    """Has files made, by processes of their own, one for each model at a time. Owned by the event loop; `close` it.

    What has been begun is finished also when nobody waits for it any more: the next request finds it.
    """

    def __init__(self, store: Store, environ: Mapping[str, str]) -> None:
        self._store = store
        self._environ = child_environment(environ)
        self._found: dict[Path, Weights] = {}  # by the stored file
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
        """Give up what is being made; whoever waits for it gets EngineStopped."""
        self._closed = True
        making = list(self._making.values())
        for task in making:
            task.cancel()
        await asyncio.gather(*making, return_exceptions=True)

    async def _derived(self, model: Model, layout: OllamaLayout) -> Weights:
        try:
            found = await asyncio.to_thread(self._look, model, layout)
            if found is None:
                await self._made(model)
                found = await asyncio.to_thread(self._look, model, layout)
        except FileNotFoundError:
            raise ModelNotFound(model.name.shortest) from None
        if found is None:
            raise LoadFailed("failed to load model: it has been removed meanwhile")
        self._found[model.weights] = found
        return found

    def _look(self, model: Model, layout: OllamaLayout) -> Weights | None:
        """What there is to load; None if it must be made first. Blocking."""
        known = self._found.get(model.weights)
        if known is not None and known.path.is_file():
            return known
        overrides = plan(layout.text, model.weights, model.header).overrides()
        if overrides is not None:
            return Weights(model.weights, model.header, overrides)
        paths = [self._store.derived.path(_digest(model), form) for form in layout.forms(model.header)]
        return Weights(paths[-1], read_header(paths[-1])) if all(path.is_file() for path in paths) else None

    async def _made(self, model: Model) -> None:
        """Wait until the files of a model are made; who is cancelled does not end that for others."""
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
        """Have the files of a model made; why that failed, or nothing. Its blob is kept meanwhile."""
        name = model.name.shortest
        log.info("making files of %s that llama.cpp can load", name)
        job = Derive(blob=str(model.weights), folder=str(self._store.derived.folder))
        lease = ExitStack()
        try:
            await in_thread(lease.enter_context, self._store.lease((_digest(model),)))
            await run_job(job, self._environ, _tell_nobody)
        except JobFailed as error:
            log.warning("%s: %s", name, error)
            return str(error)
        finally:
            await in_thread(lease.close)
        log.info("made files of %s", name)
        return ""


def _digest(model: Model) -> Digest:
    return Digest.parse(model.weights.name)


def _tell_nobody(_completed: int, _total: int) -> None:
    """Loads say nothing of how far they are."""
