"""Models from Hugging Face that its registry does not serve: split, private, or on a mirror.

Files are chosen as llama.cpp and the registry choose them, and downloaded like any other blob; the manifest is made
here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from registry import blob_json
from registry.errors import AccessDenied, BadAnswer, BadStatus, NotFound, RegistryError, Untrusted, without_paths
from registry.gguf import read_header
from registry.gguf.merge import merged
from registry.manifest import CONFIG, MODEL, PARAMS, PROJECTOR, SYSTEM, TEMPLATE, Layer, Manifest, config_of
from registry.names import Digest, ModelName
from registry.remote.quants import Candidate, choose_model, choose_projector
from registry.remote.transport import Network
from registry.storage.blobs import Blob
from registry.storage.partials import PartialClosed
from registry.storage.store import Store, StoredModel

if TYPE_CHECKING:
    from registry.remote.hub import HubListing, HubRepository

ENDPOINT: Final = "https://huggingface.co"
_HOSTS: Final = frozenset({"hf.co", "huggingface.co"})
_TEXTS: Final = (("template", TEMPLATE), ("system", SYSTEM), ("params", PARAMS))
"""Files in the root of a repository that become layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HuggingFace:
    """The hub's address and the user's token. A mirror has no registry, so everything goes through its API."""

    endpoint: str = ENDPOINT
    token: str = field(default="", repr=False)
    mirrored: bool = False

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> HuggingFace:
        """Read HF_ENDPOINT and HF_TOKEN."""
        endpoint = environ.get("HF_ENDPOINT", "").strip().rstrip("/")
        return cls(endpoint=endpoint or ENDPOINT, token=environ.get("HF_TOKEN", "").strip(), mirrored=bool(endpoint))

    def serves(self, name: ModelName) -> bool:
        """Whether a name belongs to Hugging Face."""
        return name.host.lower() in _HOSTS

    def may_help(self, error: RegistryError) -> bool:
        """Whether the hub's API may serve what its registry refused with this error."""
        if isinstance(error, AccessDenied | Untrusted) or (isinstance(error, BadStatus) and error.status in (401, 403)):
            return bool(self.token)
        return isinstance(error, BadStatus) and error.status < 500

    async def find(self, name: ModelName, network: Network, store: Store, old: StoredModel | None) -> HubModel:
        """The model that a name stands for on the hub. `old` is what is stored under it. Raises RegistryError."""
        from registry.remote import hub  # the import takes a quarter of a second, and most servers never need it

        path = f"{name.namespace}/{name.model}"
        listing = await hub.list_files(hub.HubRepository.of(self.endpoint, path, self.token), network)
        model = choose_model(listing.large, name.tag)
        if model is None:
            raise NotFound
        projector = choose_projector(listing.large, model)
        origin = hub.HubRepository.of(self.endpoint, path, self.token, listing.large)
        async with origin.connect(network) as connection:
            texts = [(kind, _checked(kind, await connection.text(text))) for text, kind in _present(listing)]
        layers = await asyncio.to_thread(_model_layers, model, old, store)
        if projector is not None:
            layers = (*layers, Layer(PROJECTOR, projector.digest, projector.size))
        return HubModel(origin, layers, tuple(texts))


@dataclass(frozen=True, slots=True)
class HubModel:
    """A RemoteModel made of files. Several model layers are the parts of a split model."""

    origin: HubRepository
    layers: tuple[Layer, ...]
    texts: tuple[tuple[str, bytes], ...]

    @property
    def digests(self) -> frozenset[Digest]:
        """The digests of files and texts."""
        return frozenset(layer.digest for layer in self.layers) | {Digest.of(text) for _, text in self.texts}

    @property
    def extra_bytes(self) -> int:
        """While parts are merged, their bytes are on disk twice."""
        return sum(part.size for part in self._parts) if self.post_fetch_step else 0

    @property
    def post_fetch_step(self) -> str:
        """The status line for merging; empty if the model is one file."""
        return f"merging {len(self._parts)} parts" if len(self._parts) > 1 else ""

    async def manifest(self, store: Store) -> bytes:
        """Merge a split model, store config and texts, and return the manifest."""
        model = await _merge(store, self._parts) if self.post_fetch_step else self._parts[0]
        return await asyncio.to_thread(self._assemble, store, model)

    @property
    def _parts(self) -> list[Layer]:
        return [layer for layer in self.layers if layer.media_type == MODEL]

    def _assemble(self, store: Store, model: Layer) -> bytes:
        config = store.add_blob(config_of(read_header(store.blob_path(model.digest))).encode())
        others = [layer for layer in self.layers if layer.media_type != MODEL]
        texts = [Layer(kind, *store.add_blob(text)) for kind, text in self.texts]
        return Manifest(Layer(CONFIG, *config), (model, *others, *texts)).encode()


def _model_layers(model: Candidate, old: StoredModel | None, store: Store) -> tuple[Layer, ...]:
    """The parts of a model, or the file that an earlier pull merged them into."""
    parts = tuple(Layer(MODEL, file.digest, file.size) for file in model.files)
    known = old.manifest.of_type(MODEL) if old is not None else ()
    for layer in known:
        if layer.name == _merged_name(parts) and store.blob_size(layer.digest) == layer.size:
            return (layer,)
    return parts


async def _merge(store: Store, parts: list[Layer]) -> Layer:
    stopping = threading.Event()
    paths = [store.blob_path(part.digest) for part in parts]
    try:
        blob = await asyncio.to_thread(_write_merged, store, paths, stopping)
    finally:
        stopping.set()
    return Layer(MODEL, *blob, name=_merged_name(parts))


def _write_merged(store: Store, paths: list[Path], stopping: threading.Event) -> Blob:
    with without_paths("merge a split model"), store.new_blob() as writer:
        for piece in merged(paths):
            if stopping.is_set():
                raise PartialClosed
            writer.write(piece)
        return writer.commit()


def _merged_name(parts: Sequence[Layer]) -> str:
    """The layer name that marks a merge of exactly these parts."""
    return f"merged-{Digest.of(''.join(part.digest.hex for part in parts).encode()).hex}"


def _present(listing: HubListing) -> list[tuple[str, str]]:
    return [(path, kind) for path, kind in _TEXTS if path in listing.small]


def _checked(kind: str, text: bytes) -> bytes:
    """The bytes to store. Raises BadAnswer for params that are no JSON object."""
    if kind != PARAMS:
        return text
    try:
        params: dict[str, Any] = msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, RecursionError):
        raise BadAnswer("the repository's params are not a JSON object") from None
    return blob_json.encode(dict(sorted(params.items()))) + b"\n"
