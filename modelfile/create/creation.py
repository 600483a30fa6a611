"""The creation of a model, step by step: check, inherit, convert, store."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from modelfile.create.checks import check
from modelfile.create.config import make_config, own_stops
from modelfile.create.files import Uploads, open_uploads
from modelfile.create.layers import replaced_types, text_parts
from modelfile.create.request import CreateError, CreateRequest
from modelfile.create.transaction import ModelPart, Transaction, existing, of_type
from modelfile.create.weights import WeightJobs, WeightLayers
from modelfile.quantize import Quantization, quantization
from modelfile.threads import in_thread
from modelfile.watchdog import PATIENCE
from registry import blob_json
from registry import manifest as media_types
from registry.gguf import GGUFHeader, read_header
from registry.manifest import Layer, Manifest, ManifestError, ModelConfig
from registry.names import ModelName
from registry.progress import OnStep, Step, progress_of
from registry.storage.leases import held
from registry.storage.store import ModelMissing, Store, StoredModel

Pull = Callable[[ModelName], AsyncGenerator[Step, None]]
"""Pulls a model; the last step says `success`."""

_SUCCESS = "success"
_TEXT_LAYERS = 4
"""Layers that a request adds besides licenses, at most: template, system, parameters, messages."""


def create(
    store: Store,
    request: CreateRequest,
    environ: Mapping[str, str],
    *,
    pull: Pull | None = None,
    prune: bool = True,
    watchdog: float = PATIENCE,
) -> AsyncGenerator[Step, None]:
    """Create a model; yields progress steps.

    `environ` is the environment of worker processes, which are killed if they give no sign of life for `watchdog`
    seconds. A missing base is pulled if `pull` is given. With `prune`, blobs that only the replaced model needed are
    removed. Raises CreateError, QuantizeError, OptionError, JobFailed, ModelMissing, or what the store or the pull
    raises, without any change. Closed early, the model exists or not.
    """

    stopping = threading.Event()

    async def make(on_step: OnStep) -> None:
        await in_thread(check, request)
        before = await in_thread(store.stored, request.name)
        replaced = before.manifest.digests if prune and before is not None else frozenset()
        transaction = Transaction(store, stopping)
        async with held(store.doomed(replaced)):
            try:
                jobs = WeightJobs(transaction, environ, on_step, watchdog)
                await Creation(transaction, request, jobs, on_step, pull).run(prune=prune)
            finally:
                await in_thread(transaction.close)
            await in_thread(store.remove_unused, replaced)
        on_step({"status": _SUCCESS})

    return progress_of(make, stopping.set)


class Creation:
    """One creation. `run` it once; it raises what `create` documents."""

    def __init__(
        self, transaction: Transaction, request: CreateRequest, jobs: WeightJobs, on_step: OnStep, pull: Pull | None
    ) -> None:
        self._transaction = transaction
        self._request = request
        self._weights = WeightLayers(transaction.store, jobs, on_step)
        self._on_step = on_step
        self._pull = pull

    async def run(self, *, prune: bool) -> None:
        """Create the model; with `prune`, remove blobs that only the replaced model needed."""
        request = self._request
        uploads = await in_thread(open_uploads, self._transaction, request)
        base = await self._inherit()
        parts = await self._model_parts(base, uploads)
        parameters = {**base.parameters, **self._stops(parts, base.config), **request.parameters}
        replaced = replaced_types(request, parameters)
        kept = [part for part in parts if part.layer.media_type not in replaced]
        _check_layers(len(kept) + len(request.licenses) + _TEXT_LAYERS)
        texts = await in_thread(text_parts, self._transaction, request, parameters)
        await self._publish([*kept, *texts], make_config(request, parts, base.config), prune=prune)

    async def _inherit(self) -> Base:
        name = self._request.base
        return Base() if name is None else await in_thread(inherit, self._transaction, await self._base_model(name))

    async def _base_model(self, name: ModelName) -> StoredModel:
        """The base model, pulled first if it is missing."""
        find = self._transaction.store.find
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

    async def _model_parts(self, base: Base, uploads: Uploads) -> list[ModelPart]:
        """All layers from the base and from files, with weights in the requested type."""
        target = _target(self._request.quantize)
        parts = [await self._requantized(part, target) for part in base.parts]
        if uploads.model is not None:
            parts += await self._weights.model(uploads.model, target)
        weights = self._path(parts)
        parts += [await self._weights.adapter(files, weights) for files in uploads.adapters]
        if uploads.drafts is not None:
            parts += await self._weights.drafts(uploads.drafts, _target(self._request.draft_quantize))
        return parts

    async def _requantized(self, part: ModelPart, target: Quantization | None) -> ModelPart:
        return await self._weights.requantized(part, target) if part.layer.media_type == media_types.MODEL else part

    def _path(self, parts: list[ModelPart]) -> Path | None:
        """The path of the weights that adapters apply to."""
        models = of_type(parts, media_types.MODEL)
        return self._transaction.store.blob_path(models[0].layer.digest) if models else None

    def _stops(self, parts: list[ModelPart], inherited: ModelConfig) -> dict[str, list[str]]:
        stops = own_stops(self._request, parts, inherited)
        return {"stop": stops} if stops else {}

    async def _publish(self, parts: list[ModelPart], config: ModelConfig, *, prune: bool) -> None:
        for part in parts:
            self._on_step({"status": part.status})
        about = await in_thread(self._transaction.add, media_types.CONFIG, config.encode())
        self._on_step({"status": "writing manifest"})
        manifest = Manifest(about.layer, tuple(part.layer for part in parts))
        await in_thread(self._transaction.store.write_manifest, self._request.name, manifest, prune=prune)


def _check_layers(count: int) -> None:
    """Raise CreateError for too many layers: every derived model adds licenses to those of its base."""
    if count > media_types.MAX_LAYERS:
        raise CreateError(f"too many layers: {count}, at most {media_types.MAX_LAYERS} are accepted")


def _target(kind: str) -> Quantization | None:
    return quantization(kind) if kind else None


_WITH_HEADER = (media_types.MODEL, media_types.DRAFT)


@dataclass(frozen=True, slots=True)
class Base:
    """The layers, parameters and config of the base model; empty without one."""

    parts: tuple[ModelPart, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    config: ModelConfig = field(default_factory=ModelConfig)


def inherit(transaction: Transaction, stored: StoredModel) -> Base:
    """Read the base model. Blocking. Raises BlobMissing, BlobTooLarge, StoreError, ManifestError or GGUFError."""
    manifest = stored.manifest
    transaction.keep(manifest.digests)
    config = ModelConfig.decode(transaction.store.read_blob(manifest.config.digest, media_types.MAX_BYTES))
    parameters: dict[str, Any] = {}
    for layer in manifest.of_type(media_types.PARAMS):
        parameters |= _stored_parameters(transaction.store.read_blob(layer.digest, media_types.MAX_BYTES))
    parts = tuple(_inherited_part(transaction, layer, stored.name) for layer in manifest.layers)
    return Base(parts, parameters, config)


def _inherited_part(transaction: Transaction, layer: Layer, source: ModelName) -> ModelPart:
    header = _read_header(transaction, layer) if layer.media_type in _WITH_HEADER else None
    return existing(Layer(layer.media_type, layer.digest, layer.size, source.shortest, layer.name), header)


def _read_header(transaction: Transaction, layer: Layer) -> GGUFHeader:
    return read_header(transaction.store.blob_path(layer.digest))


def _stored_parameters(data: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(blob_json.without_lone_surrogates(data), type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"invalid parameters: {error}") from None
