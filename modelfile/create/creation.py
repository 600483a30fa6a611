"""The workflow: what is asked for, checked, brought together, written."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path

from modelfile.create.checks import check
from modelfile.create.config import make_config, own_stops
from modelfile.create.files import Uploads, open_uploads
from modelfile.create.inherit import Base, inherit
from modelfile.create.layers import replaced_types, text_parts
from modelfile.create.request import CreateError, CreateRequest
from modelfile.create.transaction import Part, Workspace, of_type
from modelfile.create.weights import Weights, Workbench
from modelfile.quantize import Quantization, quantization
from modelfile.threads import in_thread
from registry import manifest as media_types
from registry.manifest import Manifest, ModelConfig
from registry.names import ModelName
from registry.progress import OnStep, Step, progress_of
from registry.storage.leases import held
from registry.storage.store import ModelMissing, Store, StoredModel

Pull = Callable[[ModelName], AsyncGenerator[Step, None]]
"""Fetches a model, step by step; the last one says `success`."""

_SUCCESS = "success"
_TEXT_LAYERS = 4
"""The most that a request adds besides licenses: template, system, parameters, messages."""


def create(
    store: Store, request: CreateRequest, environ: Mapping[str, str], *, pull: Pull | None = None, prune: bool = True
) -> AsyncGenerator[Step, None]:
    """Make a model, step by step.

    `environ` is all that processes started for it see of the environment. A base that is not there is pulled, if that
    can be done. With `prune`, what only the model needed that had the name goes. Raises CreateError, QuantizeError,
    OptionError, JobFailed, ModelMissing, or what the store or the pull raises; nothing is changed then. Closed early,
    it ends with the model made or not made.
    """

    stopping = threading.Event()

    async def make(on_step: OnStep) -> None:
        await in_thread(check, request)
        before = await in_thread(store.stored, request.name)
        replaced = before.manifest.digests if prune and before is not None else frozenset()
        workspace = Workspace(store, stopping)
        async with held(store.doomed(replaced)):
            try:
                await Creation(workspace, request, Workbench(workspace, environ, on_step), on_step, pull).run(
                    prune=prune
                )
            finally:
                await in_thread(workspace.close)
            await in_thread(store.remove_unused, replaced)
        on_step({"status": _SUCCESS})

    return progress_of(make, stopping.set)


class Creation:
    """One model on its way into the store. `run` once; what it raises, `create` says."""

    def __init__(
        self, workspace: Workspace, request: CreateRequest, bench: Workbench, on_step: OnStep, pull: Pull | None
    ) -> None:
        self._workspace = workspace
        self._request = request
        self._weights = Weights(workspace.store, bench, on_step)
        self._on_step = on_step
        self._pull = pull

    async def run(self, *, prune: bool) -> None:
        """Make the model; with `prune`, what only the model needed goes that had the name."""
        request = self._request
        uploads = await in_thread(open_uploads, self._workspace, request)
        base = await self._inherit()
        parts = await self._weigh(base, uploads)
        parameters = {**base.parameters, **self._stops(parts, base.config), **request.parameters}
        replaced = replaced_types(request, parameters)
        kept = [part for part in parts if part.layer.media_type not in replaced]
        _check_layers(len(kept) + len(request.licenses) + _TEXT_LAYERS)
        texts = await in_thread(text_parts, self._workspace, request, parameters)
        await self._publish([*kept, *texts], make_config(request, parts, base.config), prune=prune)

    async def _inherit(self) -> Base:
        name = self._request.base
        return Base() if name is None else await in_thread(inherit, self._workspace, await self._found(name))

    async def _found(self, name: ModelName) -> StoredModel:
        """The model below, pulled first if need be."""
        find = self._workspace.store.find
        try:
            return await in_thread(find, name)
        except ModelMissing:
            if self._pull is None:
                raise
        async with aclosing(self._pull(name)) as steps:
            async for step in steps:
                if step.get("status") != _SUCCESS:
                    self._on_step(step)
        return await in_thread(find, name)

    async def _weigh(self, base: Base, uploads: Uploads) -> list[Part]:
        """All layers that come from the model below and from files, the weights in the type that is asked for."""
        target = _target(self._request.quantize)
        parts = [await self._requantized(part, target) for part in base.parts]
        if uploads.model is not None:
            parts += await self._weights.model(uploads.model, target)
        weights = self._path(parts)
        parts += [await self._weights.adapter(files, weights) for files in uploads.adapters]
        if uploads.drafts is not None:
            parts += await self._weights.drafts(uploads.drafts, _target(self._request.draft_quantize))
        return parts

    async def _requantized(self, part: Part, target: Quantization | None) -> Part:
        return await self._weights.requantized(part, target) if part.layer.media_type == media_types.MODEL else part

    def _path(self, parts: list[Part]) -> Path | None:
        """The weights that adapters are for."""
        models = of_type(parts, media_types.MODEL)
        return self._workspace.store.blob_path(models[0].layer.digest) if models else None

    def _stops(self, parts: list[Part], inherited: ModelConfig) -> dict[str, list[str]]:
        stops = own_stops(self._request, parts, inherited)
        return {"stop": stops} if stops else {}

    async def _publish(self, parts: list[Part], config: ModelConfig, *, prune: bool) -> None:
        for part in parts:
            self._on_step({"status": part.status})
        about = await in_thread(self._workspace.add, media_types.CONFIG, config.encode())
        self._on_step({"status": "writing manifest"})
        manifest = Manifest(about.layer, tuple(part.layer for part in parts))
        await in_thread(self._workspace.store.write_manifest, self._request.name, manifest, prune=prune)


def _check_layers(count: int) -> None:
    """Licenses are added to those of the model below, time and again."""
    if count > media_types.MAX_LAYERS:
        raise CreateError(f"too many layers: {count}, at most {media_types.MAX_LAYERS} are accepted")


def _target(kind: str) -> Quantization | None:
    return quantization(kind) if kind else None
