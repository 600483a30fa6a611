"""A layer of the model in the making."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from registry.gguf import GGUFHeader
from registry.manifest import Layer
from registry.names import Digest


@dataclass(frozen=True, slots=True)
class Part:
    """A layer, the line that tells of it, and the header if it is a GGUF that matters for what the model is."""

    layer: Layer
    status: str
    header: GGUFHeader | None = None


def existing(layer: Layer, header: GGUFHeader | None = None) -> Part:
    """A layer whose blob was there before."""
    return Part(layer, f"using existing layer {layer.digest}", header)


def created(layer: Layer, header: GGUFHeader | None = None) -> Part:
    """A layer whose blob has just been made."""
    return Part(layer, f"creating new layer {layer.digest}", header)


def of_type(parts: Iterable[Part], media_type: str) -> list[Part]:
    """The parts of one media type, in order."""
    return [part for part in parts if part.layer.media_type == media_type]


def digests(parts: Iterable[Part]) -> set[Digest]:
    """The blobs of these parts."""
    return {part.layer.digest for part in parts}
