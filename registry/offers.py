"""What a place elsewhere offers under a name: blobs to fetch, and the manifest that they make up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from registry.manifest import Layer, Manifest
from registry.names import Digest
from registry.ranges import Origin
from registry.store import Store


class Offer(Protocol):
    """A model that can be fetched."""

    @property
    def origin(self) -> Origin:
        """Where the blobs come from."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The blobs to fetch, in this order."""

    @property
    def digests(self) -> frozenset[Digest]:
        """The blobs to keep from being removed meanwhile."""

    @property
    def extra_size(self) -> int:
        """Bytes that are needed besides those of the blobs."""

    @property
    def work(self) -> str:
        """What there is to do once the blobs are there, for people; empty if there is nothing that takes time."""

    async def manifest(self, store: Store) -> bytes:
        """Make the manifest, once the blobs are there. Raises GGUFError or StoreError."""


@dataclass(frozen=True, slots=True)
class ManifestOffer:
    """A model whose manifest is there already, and is kept as it stands."""

    origin: Origin
    data: bytes
    decoded: Manifest
    extra_size: int = 0
    work: str = ""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All that the manifest names, the config last."""
        return (*self.decoded.layers, self.decoded.config)

    @property
    def digests(self) -> frozenset[Digest]:
        """All that the manifest names."""
        return self.decoded.digests

    async def manifest(self, store: Store) -> bytes:
        """The manifest as it came."""
        return self.data
