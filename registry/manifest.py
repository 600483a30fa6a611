"""Manifests, layers and config blobs: decoded with bounds, encoded to the same bytes.

Manifests come from untrusted registries, so their size is bounded and every digest is parsed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

import msgspec

from registry import blob_json
from registry.gguf import GGUFHeader
from registry.names import Digest, InvalidDigest

T = TypeVar("T")

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
MODEL = "application/vnd.ollama.image.model"
PROJECTOR = "application/vnd.ollama.image.projector"
ADAPTER = "application/vnd.ollama.image.adapter"
DRAFT = "application/vnd.ollama.image.draft"
TEMPLATE = "application/vnd.ollama.image.template"
PROMPT = "application/vnd.ollama.image.prompt"
"""The old media type of templates."""
SYSTEM = "application/vnd.ollama.image.system"
LICENSE = "application/vnd.ollama.image.license"
PARAMS = "application/vnd.ollama.image.params"
MESSAGES = "application/vnd.ollama.image.messages"
TENSOR = "application/vnd.ollama.image.tensor"
JSON = "application/vnd.ollama.image.json"

MAX_LAYERS: Final = 256
"""Layers of a manifest, not counting tensor layers, which MAX_BYTES bounds."""
MAX_BYTES: Final = 4 << 20
"""Bytes of a manifest, and of a config blob."""


class ManifestError(ValueError):
    """A manifest or a config blob cannot be read; `str()` says why."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One blob of a model; `size` is in bytes.

    `from_` names the model that it was taken from, `name` its original file.
    """

    media_type: str
    digest: Digest
    size: int
    from_: str = ""
    name: str = ""


class _LayerFile(msgspec.Struct, omit_defaults=True):
    media_type: str = msgspec.field(name="mediaType")
    digest: str
    size: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
    from_: str = msgspec.field(name="from", default="")
    name: str = ""

    @classmethod
    def of(cls, layer: Layer) -> _LayerFile:
        return cls(layer.media_type, str(layer.digest), layer.size, layer.from_, layer.name)

    def parse(self) -> Layer:
        return Layer(self.media_type, Digest.parse(self.digest), self.size, self.from_, self.name)


class _ManifestFile(msgspec.Struct, kw_only=True):
    schema: int = msgspec.field(name="schemaVersion", default=2)
    media_type: str = msgspec.field(name="mediaType", default=MANIFEST)
    config: _LayerFile
    layers: tuple[_LayerFile, ...] | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A model's config and layers, in order."""

    config: Layer
    layers: tuple[Layer, ...]

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Read a manifest. Unknown fields are ignored. Raises ManifestError."""
        file = _decode(data, _ManifestFile, "manifest")
        layers = file.layers or ()
        if sum(layer.media_type != TENSOR for layer in layers) > MAX_LAYERS:
            raise ManifestError(f"invalid manifest: more than {MAX_LAYERS} layers")
        try:
            return cls(file.config.parse(), tuple(layer.parse() for layer in layers))
        except InvalidDigest:
            raise ManifestError("invalid manifest: invalid digest format") from None

    def encode(self) -> bytes:
        """The bytes of the manifest file."""
        layers = tuple(_LayerFile.of(layer) for layer in self.layers) or None
        file = _ManifestFile(config=_LayerFile.of(self.config), layers=layers)
        return blob_json.encode(msgspec.to_builtins(file)) + b"\n"

    @property
    def size(self) -> int:
        """Bytes of all layers and the config; a repeated blob counts each time."""
        return self.config.size + sum(layer.size for layer in self.layers)

    @property
    def digests(self) -> frozenset[Digest]:
        """The blobs that this manifest needs."""
        return frozenset(layer.digest for layer in (self.config, *self.layers))

    def of_type(self, media_type: str) -> tuple[Layer, ...]:
        """The layers of one media type, in order."""
        return tuple(layer for layer in self.layers if layer.media_type == media_type)


class DraftConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The config's entry on a draft model for speculative decoding."""

    model_format: str = ""
    architecture: str = ""
    tensor_prefix: str = ""
    config: str = ""


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The config blob: what a model is. Fields are in file order."""

    model_format: str = ""
    model_family: str = ""
    model_families: tuple[str, ...] | None = None
    model_type: str = ""
    file_type: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    remote_host: str = ""
    remote_model: str = ""
    capabilities: tuple[str, ...] | None = None
    context_length: int = 0
    embedding_length: int = 0
    base_name: str = ""
    draft: DraftConfig | None = None
    architecture: str = "amd64"
    os: str = "linux"

    @classmethod
    def decode(cls, data: bytes) -> ModelConfig:
        """Read a config blob. Unknown fields are ignored. Raises ManifestError."""
        return _decode(data, cls, "model config")

    def encode(self) -> bytes:
        """The bytes of the config blob."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        fields["model_families"] = self.model_families or None
        kept = {name: value for name, value in fields.items() if value or name in _ALWAYS}
        return blob_json.encode(kept) + b"\n"


_ALWAYS = {"model_format", "model_family", "model_families", "model_type", "file_type", "architecture", "os"}


def _decode(data: bytes, kind: type[T], what: str) -> T:
    if len(data) > MAX_BYTES:
        raise ManifestError(f"invalid {what}: larger than {MAX_BYTES} bytes")
    try:
        return msgspec.json.decode(blob_json.without_lone_surrogates(data), type=kind)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"invalid {what}: {error}") from None


def config_of(header: GGUFHeader) -> ModelConfig:
    """The config of a model made of one GGUF file."""
    return ModelConfig(
        model_format="gguf",
        model_family=header.architecture,
        model_families=(header.architecture,),
        model_type=header.parameter_size,
        file_type=header.file_type,
    )
