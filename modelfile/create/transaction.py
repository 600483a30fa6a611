"""The blobs of one creation: leased until its end, removed if it fails."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from modelfile.create.request import CreateError
from registry.gguf import GGUFHeader
from registry.manifest import Layer
from registry.names import Digest
from registry.storage.store import BlobMissing, Store


@dataclass(frozen=True, slots=True)
class ModelPart:
    """A layer of the new model, its status line, and the header if it is a GGUF that describes the model."""

    layer: Layer
    status: str
    header: GGUFHeader | None = None


def existing(layer: Layer, header: GGUFHeader | None = None) -> ModelPart:
    """A layer whose blob existed before."""
    return ModelPart(layer, f"using existing layer {layer.digest}", header)


def created(layer: Layer, header: GGUFHeader | None = None) -> ModelPart:
    """A layer with a new blob."""
    return ModelPart(layer, f"creating new layer {layer.digest}", header)


def of_type(parts: Iterable[ModelPart], media_type: str) -> list[ModelPart]:
    """The parts of one media type, in order."""
    return [part for part in parts if part.layer.media_type == media_type]


def digests(parts: Iterable[ModelPart]) -> set[Digest]:
    """The blobs of these parts."""
    return {part.layer.digest for part in parts}


class Transaction:
    """Leases the blobs that a creation uses or adds; `close` removes added ones that no manifest needs.

    Methods block and may be called from any thread, one at a time. Once `stopping` is set, long ones raise Stopped.
    """

    def __init__(self, store: Store, stopping: threading.Event | None = None) -> None:
        self.store = store
        self._stopping = stopping or threading.Event()
        self._leases = ExitStack()
        self._added: set[Digest] = set()
        self._folder: Path | None = None

    def close(self) -> None:
        """End the leases, and remove added blobs that no manifest needs."""
        with self.store.doomed(self._added):
            self._leases.close()
            self.store.remove_unused(self._added)

    def new_folder(self) -> Path:
        """An empty folder for files that become blobs."""
        if self._folder is None:
            self._folder = self._leases.enter_context(self.store.scratch())
        return Path(tempfile.mkdtemp(dir=self._folder))

    def keep(self, digests: Iterable[Digest]) -> None:
        """Lease existing blobs. Raises BlobMissing."""
        blobs = frozenset(digests)
        self._leases.enter_context(self.store.lease(blobs))
        for digest in blobs:
            if not self.store.has_blob(digest):
                raise BlobMissing(digest)

    def take(self, source: Digest | Path) -> Digest:
        """Lease an uploaded blob, or store a local file as one. Raises CreateError if it is missing."""
        if isinstance(source, Path):
            return self._copied(source)
        try:
            self.keep((source,))
        except BlobMissing:
            raise CreateError(f"open {source.filename}: no such file or directory") from None
        return source

    def add(self, media_type: str, data: bytes) -> ModelPart:
        """Store bytes as a layer."""
        digest = Digest.of(data)
        known = self.store.has_blob(digest)
        self._leases.enter_context(self.store.lease((digest,), made=not known))
        return self._part(Layer(media_type, *self.store.add_blob(data)), known=known)

    def adopt(self, media_type: str, path: Path, header: GGUFHeader) -> ModelPart:
        """Move a file from a `new_folder` into the store as a layer."""
        blob, known = self.store.adopt(path, self._leases, self._stopping)
        return self._part(Layer(media_type, *blob), header, known=known)

    def _copied(self, path: Path) -> Digest:
        try:
            if not path.is_file():  # a device or a pipe might never end
                raise CreateError(f"open {path.name}: not a regular file")
            digest = self.store.add_file(path, self._leases, self._stopping).digest
        except OSError as error:
            raise CreateError(f"open {path.name}: {error.strerror}") from None
        self._added.add(digest)
        return digest

    def _part(self, layer: Layer, header: GGUFHeader | None = None, *, known: bool) -> ModelPart:
        if known:
            return existing(layer, header)
        self._added.add(layer.digest)
        return created(layer, header)
