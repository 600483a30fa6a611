"""The models directory: names, manifests and blobs kept consistent.

Works on an Ollama directory, also while Ollama uses it. Blobs are stored before the manifest that needs them and
removed after it; each appears complete or not at all.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from registry.bundled import MODELS
from registry.errors import BlobMissing, BlobTooLarge, DigestMismatch, ModelMissing, StoreError, raise_if_stopped
from registry.logfields import fields
from registry.manifest import CONFIG, MODEL, PROJECTOR, Layer, Manifest, ManifestError
from registry.names import Digest, ModelName
from registry.storage.blobs import Blob, BlobRepair, Blobs, BlobWriter, Check, digest_of, owner_of
from registry.storage.catalog import Catalog
from registry.storage.derived import DerivedFiles
from registry.storage.files import Scratch, Stamp
from registry.storage.leases import FolderLock, Leases
from registry.storage.partials import Partial

__all__ = [
    "Blob",
    "BlobMissing",
    "BlobRepair",
    "BlobTooLarge",
    "BlobWriter",
    "BrokenManifest",
    "Check",
    "DigestMismatch",
    "ModelMissing",
    "Partial",
    "Store",
    "StoreError",
    "StoredModel",
]

GRACE = 3600
"""Seconds for which an unused blob is kept: another program may be about to write its manifest."""
_PIECE = 1 << 20
log = logging.getLogger("pronk.registry")


class BrokenManifest(ManifestError):
    """A stored manifest cannot be read; `str()` says why and what to do, `reason` only why."""

    def __init__(self, name: ModelName, reason: str) -> None:
        super().__init__(
            f"model '{name.shortest}' is broken, its manifest cannot be read ({reason}): "
            "pull or create it again, or delete it"
        )
        self.reason = reason


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A stored model: `digest` is the manifest's SHA-256 in hexadecimal, `modified_at` Unix nanoseconds."""

    name: ModelName
    manifest: Manifest
    digest: str
    modified_at: int

    @property
    def second(self) -> int:
        """`modified_at` in whole Unix seconds."""
        return self.modified_at // 10**9

    @property
    def size(self) -> int:
        """Bytes of all layers and the config."""
        return self.manifest.size


class Store:
    """Owns a models directory. Thread-safe; every method blocks.

    `derived` is the cache of files made from blobs. Methods raise StoreError, and BrokenManifest for a model whose
    manifest cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self.derived = DerivedFiles(root / "derived")
        self._catalog = Catalog(root / "manifests")
        self._blobs = Blobs(root / "blobs")
        self._scratch = Scratch(root)
        self._known: dict[ModelName, tuple[Stamp, StoredModel]] = {}
        """Manifests read so far; valid while their stamps are the same, because Ollama may write them, too."""
        self.changed: Callable[[], None] = lambda: None
        """Called after a name was added, removed or changed, from the thread that did it."""
        self._leases = Leases(root)
        self._lock = FolderLock(root)
        """Held while manifests and leases change, and while unused blobs are found and removed."""
        try:
            self._blobs.rename_legacy()
        except StoreError as error:
            log.warning("blobs are not renamed: %s", error)

    def find(self, name: ModelName, *, install: bool = True) -> StoredModel:
        """The model stored under a name, ignoring case. With `install`, a missing bundled model is stored first.

        Raises ModelMissing.
        """
        stored = self._catalog.spelling(name)
        if stored is None and name in MODELS and install:
            stored = self._install(name)
        if stored is None:
            raise ModelMissing(name)
        return self._read(stored)

    def seed(self) -> None:
        """Store the bundled models in a folder that never had a model. One that is deleted later stays away."""
        if not self._catalog.exists:
            for name in MODELS:
                self._install(name)

    def bundled(self, name: ModelName) -> StoredModel:
        """A bundled model; stored anew if it is missing or damaged."""
        return self._whole(name) or self._read(self._install(name))

    def stored(self, name: ModelName) -> StoredModel | None:
        """The model stored under a name, ignoring case; None if missing or unreadable."""
        stored = self._catalog.spelling(name)
        try:
            return None if stored is None else self._read(stored)
        except (ModelMissing, ManifestError):
            return None

    def list(self) -> list[StoredModel]:
        """All readable models, newest first. Unchanged ones are the same objects as in the last call."""
        stamps, blobs = dict(self._catalog.stamps()), self._blobs.stored()
        for gone in set(self._known).difference(stamps):
            self._known.pop(gone, None)
        models = []
        for name, stamp in stamps.items():
            known = self._known.get(name)
            model = known[1] if known is not None and known[0] == stamp else self._listed(name)
            if model is not None and model.manifest.config.digest.filename in blobs:
                models.append(model)
        return sorted(models, key=lambda model: (-model.second, model.name.full))

    def blobs(self) -> frozenset[str]:
        """The file names in the blobs folder; the same object as before if nothing has changed."""
        return self._blobs.stored()

    def write_manifest(self, name: ModelName, manifest: Manifest | bytes, *, prune: bool = False) -> StoredModel:
        """Store a model whose blobs exist; bytes are stored verbatim. Raises BlobMissing or ManifestError.

        With `prune`, blobs that only the replaced model needed are removed.
        """
        data = manifest if isinstance(manifest, bytes) else manifest.encode()
        needed = Manifest.decode(data).digests
        with self.lease(needed), self._lock:
            for digest in needed:
                if not self._blobs.has(digest):
                    raise BlobMissing(digest)
            stored = self._catalog.spelling(name) or name
            modified_at = self._write(stored, data, prune=prune)
        self.changed()
        return StoredModel(stored, Manifest.decode(data), hashlib.sha256(data).hexdigest(), modified_at)

    def copy(self, source: ModelName, destination: ModelName, *, prune: bool = False) -> None:
        """Store a model under a second name, replacing what has it. Raises ModelMissing.

        With `prune`, blobs that only the replaced model needed are removed.
        """
        with self._lock:
            model = self.find(source)
            target = self._catalog.spelling(destination) or destination
            if target != model.name:
                with self.lease(model.manifest.digests):
                    self._write(target, self._catalog.read(model.name).data, prune=prune)
        self.changed()

    def delete(self, name: ModelName) -> None:
        """Remove a name and the blobs that nothing else needs. Raises ModelMissing.

        The blobs of a broken manifest are unknown: `prune` removes them later.
        """
        with self._lock:
            stored = self._catalog.spelling(name)
            if stored is None:
                raise ModelMissing(name)
            try:
                digests = self._read(stored).manifest.digests
            except ModelMissing:
                raise
            except (BrokenManifest, StoreError):
                digests = frozenset()
            note = self._leases.note(digests, made=True)
            try:
                self._catalog.remove(stored)
                self._known.pop(stored, None)
                self.remove_unused(digests)
            finally:
                self._leases.forget(note)
        self.changed()

    def unused(self, digests: Iterable[Digest]) -> set[Digest]:
        """The blobs among these that no model needs and nobody has leased."""
        with self._lock:
            needed = self._needed()
            return set() if needed is None else set(digests) - needed - self._leases.held()

    def remove_unused(self, digests: Iterable[Digest]) -> None:
        """Remove the blobs among these that no model needs and nobody has leased."""
        with self._lock:
            unused = self.unused(digests)
            note = self._leases.note(unused, made=True)
            try:
                for digest in unused:
                    try:
                        self._blobs.remove(digest)
                        self.derived.remove(digest)
                    except StoreError as error:  # go on with the others
                        log.warning("blob %s is not removed: %s", digest, error)
            finally:
                self._leases.forget(note)

    def prune(self, now: float) -> None:
        """Remove files that no model needs and nobody touched for GRACE seconds; `now` is in Unix seconds.

        Unfinished files of dead programs go at once; partial downloads and uploads stay for GRACE. Does nothing if a
        manifest cannot be read, because its blobs are unknown.
        """
        # Without the lock, because it takes long: blobs that new manifests need have been touched meanwhile.
        needed = self._needed()
        if needed is None:
            return
        before = now - GRACE
        self._remove_abandoned()
        removed = 0
        for filename in self._blobs.filenames():
            if digest_of(filename) not in needed:
                with self._lock:
                    leased = owner_of(filename) in self._leases.held()
                    try:
                        removed += not leased and self._blobs.remove_older(filename, before)
                    except StoreError as error:  # go on with the others
                        log.warning("file %s is not removed: %s", filename, error)
        self._scratch.remove_abandoned(before)
        with self._lock:
            self.derived.prune(needed | self._leases.held(), before)
            self._catalog.tidy(before)
        if removed:
            log.info("unused files removed", extra=fields(files=removed))

    @contextmanager
    def lease(self, digests: Iterable[Digest], *, made: bool = False) -> Iterator[None]:
        """Protect blobs, stored or to come, from removal by any program before a manifest names them.

        `made` blobs are of use to the holder only: if its program dies, they are removed.
        """
        leased = frozenset(digests)
        with self._lock:
            file = self._leases.take(leased, made=made)
            for digest in leased:
                self._blobs.touch(digest)
        try:
            yield
        finally:
            with self._lock:
                self._leases.give_back(leased, file)

    @contextmanager
    def doomed(self, digests: Iterable[Digest]) -> Iterator[None]:
        """Mark blobs that are about to be removed: if this program dies, others remove the unused ones."""
        with self._lock:
            note = self._leases.note(digests, made=True)
        try:
            yield
        finally:
            with self._lock:
                self._leases.forget(note)

    def has_blob(self, digest: Digest) -> bool:
        """Whether a blob exists."""
        return self._blobs.has(digest)

    def seems_whole(self, digest: Digest) -> bool:
        """Whether a blob exists with the size that manifests state. Only small blobs are read."""
        sizes = set()
        for name in self._catalog.names():
            with suppress(StoreError, ManifestError):
                manifest = self._read(name).manifest
                sizes |= {layer.size for layer in (*manifest.layers, manifest.config) if layer.digest == digest}
        return self._blobs.seems_whole(digest, sizes)

    def blob_size(self, digest: Digest) -> int | None:
        """The size of a blob in bytes, None if it is missing."""
        return self._blobs.size(digest)

    def blob_path(self, digest: Digest) -> Path:
        """The path of a blob, whether it exists or not. Read only."""
        return self._blobs.path(digest)

    def read_blob(self, digest: Digest, limit: int) -> bytes:
        """The bytes of a blob of up to `limit` bytes. Raises BlobMissing or BlobTooLarge."""
        return self._blobs.read(digest, limit)

    def digests(self) -> dict[Digest, set[ModelName]]:
        """All blobs that exist or that a model needs, each with the models that need it, except broken models."""
        users: dict[Digest, set[ModelName]] = {digest: set() for digest in self._blobs.digests()}
        for name in self._catalog.names():
            with suppress(StoreError, ManifestError):
                for digest in self._read(name).manifest.digests:
                    users.setdefault(digest, set()).add(name)
        return users

    def unreadable(self) -> dict[ModelName, str]:
        """The models whose manifest cannot be read, with the reasons."""
        reasons = {}
        for name in self._catalog.names():
            try:
                self._read(name)
            except ModelMissing:
                continue
            except (ManifestError, StoreError) as error:
                reasons[name] = error.reason if isinstance(error, BrokenManifest) else str(error)
        return reasons

    def verify(self, digests: Iterable[Digest]) -> Iterator[Check]:
        """Verify blobs against their digests, one after the other, with a step every few megabytes.

        The last step of each blob is `done` and has its fault: missing, unreadable or changed.
        """
        for digest in digests:
            yield from self._blobs.check(digest)

    def partial(self, digest: Digest) -> Partial:
        """A blob to download in parts. The caller holds a lease; the blob exists once it is committed."""
        return self._blobs.partial(digest)

    def require_space(self, needed: int) -> None:
        """Raise DiskFull if `needed` bytes do not fit."""
        self._blobs.require_space(needed)

    @contextmanager
    def put_blob(self, digest: Digest) -> Iterator[BlobWriter]:
        """A writer for a blob with a known digest. Without a commit nothing is left."""
        with self.lease((digest,)), self._blobs.put(digest) as writer:
            yield writer

    @contextmanager
    def repair_blob(self, digest: Digest) -> Iterator[BlobRepair]:
        """A writer for a stored blob that is uploaded again: the upload replaces damaged bytes."""
        with self.lease((digest,)), self._blobs.repair(digest) as repair:
            yield repair
            if repair.repaired:
                log.warning("blob %s had changed, and was replaced by what was uploaded", digest)
                with self._lock:
                    self.derived.remove(digest)

    @contextmanager
    def new_blob(self, holder: ExitStack | None = None) -> Iterator[BlobWriter]:
        """A writer for a blob of unknown digest. Once committed, `holder` has a lease on it."""
        with ExitStack() as own, self._blobs.put(lease=self._lessor(holder or own)) as writer:
            yield writer

    def add_blob(self, data: bytes) -> Blob:
        """Store these bytes as a blob, unless it exists."""
        blob = Blob(Digest.of(data), len(data))
        with self.lease((blob.digest,)):
            if not self._blobs.has(blob.digest):
                with self._blobs.put(blob.digest) as writer:
                    writer.write(data)
                    writer.commit()
        return blob

    def add_file(self, path: Path, holder: ExitStack | None = None, stopping: threading.Event | None = None) -> Blob:
        """Store a copy of a file as a blob; `holder` gets a lease on it.

        Raises OSError if the file cannot be read, Stopped once `stopping` is set.
        """
        with path.open("rb") as file, self.new_blob(holder) as writer:
            while data := file.read(_PIECE):
                raise_if_stopped(stopping)
                writer.write(data)
            return writer.commit()

    def scratch(self) -> AbstractContextManager[Path]:
        """A temporary folder for files that become blobs; removed at the end of the context."""
        return self._scratch.folder()

    def adopt(
        self, path: Path, holder: ExitStack | None = None, stopping: threading.Event | None = None
    ) -> tuple[Blob, bool]:
        """Move a complete file from a scratch folder into the blobs. Returns the blob, and whether it existed.

        `holder` gets a lease on it. Raises Stopped once `stopping` is set.
        """
        with ExitStack() as own:
            return self._blobs.adopt(path, self._lessor(holder or own), stopping)

    def _lessor(self, holder: ExitStack) -> Callable[[Digest], None]:
        """A function that leases a new blob to its holder."""
        return lambda digest: holder.enter_context(self.lease((digest,), made=True))

    def _remove_abandoned(self) -> None:
        """Remove blobs that dead programs made for nothing, and their leases."""
        with self._lock:
            for lease in self._leases.abandoned():
                if lease.made:
                    self.remove_unused(lease.digests)
                lease.path.unlink(missing_ok=True)

    def _write(self, name: ModelName, data: bytes, *, prune: bool) -> int:
        """Write a manifest; with `prune`, remove blobs that only the replaced one needed. Returns its mtime (ns)."""
        old = self.stored(name) if prune else None
        replaced = frozenset() if old is None else old.manifest.digests
        note = self._leases.note(replaced, made=True)
        try:
            modified_at = self._catalog.write(name, data)
            if replaced:
                with suppress(StoreError):  # the new model is stored, whatever happens to the old one's blobs
                    self.remove_unused(replaced)
        finally:
            self._leases.forget(note)
        return modified_at

    def _install(self, name: ModelName) -> ModelName:
        model = MODELS[name]
        with self._lock:
            if self._whole(name) is None:
                with ExitStack() as holder:
                    layers = [Layer(MODEL, *self.add_file(model.path, holder))]
                    if model.projector is not None:
                        layers.append(Layer(PROJECTOR, *self.add_file(model.projector, holder)))
                    config = self.add_blob(model.config().encode())
                    self.write_manifest(model.name, Manifest(Layer(CONFIG, *config), tuple(layers)))
        return model.name

    def _whole(self, name: ModelName) -> StoredModel | None:
        """The model stored under a name, if all its blobs exist with the sizes in its manifest."""
        model = self.stored(name)
        if model is None:
            return None
        layers = (*model.manifest.layers, model.manifest.config)
        return model if all(self._blobs.size(layer.digest) == layer.size for layer in layers) else None

    def _read(self, name: ModelName) -> StoredModel:
        known = self._known.get(name)
        if known is not None and known[0] == self._catalog.stamp(name):
            return known[1]
        try:
            entry = self._catalog.read(name)
            manifest = Manifest.decode(entry.data)
        except ManifestError as error:
            raise BrokenManifest(name, str(error).removeprefix("invalid manifest: ")) from None
        model = StoredModel(name, manifest, hashlib.sha256(entry.data).hexdigest(), entry.modified_at)
        if entry.stamp is not None:
            self._known[name] = (entry.stamp, model)
        return model

    def _listed(self, name: ModelName) -> StoredModel | None:
        """Read a model for `list`; None if it is gone or unreadable."""
        try:
            return self._read(name)
        except ModelMissing:
            return None
        except (ManifestError, StoreError) as error:
            log.warning("model %s is not listed: %s", name.shortest, error)
            return None

    def _needed(self) -> set[Digest] | None:
        """The blobs that models need; None if a manifest cannot be read."""
        needed: set[Digest] = set()
        try:
            for name in self._catalog.names(strict=True):
                with suppress(ModelMissing):
                    needed |= self._read(name).manifest.digests
        except (ManifestError, StoreError) as error:
            log.warning("what models need cannot be known, so nothing is removed: %s", error)
            return None
        return needed
