"""What a model gets from the one that it is derived from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from modelfile.create.transaction import Part, Workspace, existing
from registry import blob_json
from registry import manifest as media_types
from registry.gguf import GGUFHeader, read_header
from registry.manifest import Layer, ManifestError, ModelConfig
from registry.names import ModelName
from registry.storage.store import StoredModel

_WITH_HEADER = (media_types.MODEL, media_types.DRAFT)


@dataclass(frozen=True, slots=True)
class Base:
    """The layers, the parameters and the config of the model below; of no model, nothing."""

    parts: tuple[Part, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    config: ModelConfig = field(default_factory=ModelConfig)


def inherit(workspace: Workspace, stored: StoredModel) -> Base:
    """Everything that `stored` hands on; blocking.

    Raises BlobMissing, BlobTooLarge, StoreError, ManifestError or GGUFError if it is damaged.
    """
    manifest = stored.manifest
    workspace.keep(manifest.digests)
    config = ModelConfig.decode(workspace.store.read_blob(manifest.config.digest, media_types.MAX_BYTES))
    parameters: dict[str, Any] = {}
    for layer in manifest.of_type(media_types.PARAMS):
        parameters |= _parameters(workspace.store.read_blob(layer.digest, media_types.MAX_BYTES))
    parts = tuple(_part(workspace, layer, stored.name) for layer in manifest.layers)
    return Base(parts, parameters, config)


def _part(workspace: Workspace, layer: Layer, source: ModelName) -> Part:
    header = _header(workspace, layer) if layer.media_type in _WITH_HEADER else None
    return existing(Layer(layer.media_type, layer.digest, layer.size, source.shortest, layer.name), header)


def _header(workspace: Workspace, layer: Layer) -> GGUFHeader:
    return read_header(workspace.store.blob_path(layer.digest))


def _parameters(data: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(blob_json.without_lone_surrogates(data), type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"invalid parameters: {error}") from None
