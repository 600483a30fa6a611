"""A registry in memory: blobs by digest, manifests by path, answered as the tests want them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from registry.manifest import CONFIG, MODEL, Layer, Manifest
from registry.names import Digest
from tests.registry.servers.http import Answer, Request

_BLOB = re.compile(r"/v2/.+/blobs/(sha256:[0-9a-f]{64})")
_MANIFEST = re.compile(r"/v2/(.+)/manifests/(.+)")

Fault = Callable[[Request, Answer], Answer]


@dataclass(slots=True)
class MemoryRegistry:
    """Models to be pulled. `fault` may change any answer before it is sent."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    fault: Fault = field(default=lambda _, answer: answer)

    def add(self, path: str, *layers: bytes, config: bytes = b"{}") -> Manifest:
        """Offer a model of these layers as `namespace/model:tag`."""
        self.blobs |= {str(Digest.of(data)): data for data in (*layers, config)}
        manifest = Manifest(
            Layer(CONFIG, Digest.of(config), len(config)),
            tuple(Layer(MODEL, Digest.of(data), len(data)) for data in layers),
        )
        self.manifests[path] = manifest.encode()
        return manifest

    def __call__(self, request: Request) -> Answer:
        """The answer to a request."""
        return self.fault(request, self._answer(request))

    def _answer(self, request: Request) -> Answer:
        if match := _BLOB.fullmatch(request.path):
            data = self.blobs.get(match[1])
            return Answer(404) if data is None else ranged(request, data)
        if match := _MANIFEST.fullmatch(request.path):
            manifest = self.manifests.get(f"{match[1]}:{match[2]}")
            return Answer(404) if manifest is None else Answer(body=manifest)
        return Answer(404)


def ranged(request: Request, data: bytes) -> Answer:
    """The bytes that a request asks for."""
    if request.range is None:
        return Answer(body=data)
    first, last = request.range
    return Answer(206, data[first : last + 1], {"content-range": f"bytes {first}-{last}/{len(data)}"})
