"""Creations as they were recorded: what was asked, and everything that came of it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

import registry.bundled
from registry.manifest import Layer, Manifest
from registry.names import ModelName
from tests.golden.compare import fill
from tests.serving import ROOT

Probe = dict[str, Any]

DATA = ROOT / "tests" / "data"
PROBES: list[Probe] = json.loads((DATA / "golden" / "create-probes.json").read_text())
WEIGHTS = {
    "{GGUF}": Path(registry.bundled.__file__).parent / "tinychat.gguf",
    "{F16}": DATA / "tinychat-f16.gguf",
}


ROUNDED = {
    "sha256:f0f68837ec85c61956ff485bfe103b8ca0613d901bff0e991b2e024d7719d041",  # Q8_0
    "sha256:3e175d0db78b4a5c7aa0e6e58962ede93775ea308063c6b50a5c402d4576bfb9",  # Q4_K_S
    "sha256:82a19c3b5a9b0233ab66ef8581251159af2b6c3e237dd44031357e0f9681e4ec",  # Q4_K_M
}
"""Weights that may come out different in the last bit with another compiler."""


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Stores:
    """A models directory that is made anew for every probe: that of a real Ollama, and two uploads."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "models"
        self._fresh = folder / "fresh"
        self.tokens = {token: digest_of(path.read_bytes()) for token, path in WEIGHTS.items()}
        shutil.copytree(DATA / "ollama-store", self._fresh)
        for token, path in WEIGHTS.items():
            shutil.copyfile(path, self._fresh / "blobs" / self.tokens[token].replace(":", "-"))

    def renew(self) -> None:
        """Start over. The files are links: nothing that is stored is ever changed in place."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self._fresh, self.root, copy_function=os.link)

    def blob(self, digest: str) -> Path:
        return self.root / "blobs" / digest.replace(":", "-")

    def path(self, name: str) -> Path:
        """Where the manifest of a model is, spelled like this."""
        return self.root.joinpath("manifests", *ModelName.parse(name).parts)


@dataclass
class Asked:
    """A probe with its uploads done and its tokens filled in."""

    probe: Probe
    tokens: dict[str, str]

    @property
    def request(self) -> dict[str, Any]:
        body: dict[str, Any] = fill(self.probe["request"], self.tokens)
        return body

    @property
    def modelfile(self) -> bytes:
        coded = self.probe.get("modelfile_base64")
        return base64.b64decode(coded) if coded else str(self.probe["modelfile"]).encode()

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = fill(self.probe["result"], self.tokens)
        return found


def prepare(client: httpx.Client, stores: Stores, probe: Probe) -> Asked:
    """Upload the probe's blobs and make the models that it builds on."""
    stores.renew()
    tokens = {**stores.tokens, "{STORE}": str(stores.root)}
    for token, coded in probe.get("blobs", {}).items():
        data = base64.b64decode(coded)
        tokens[token] = digest_of(data)
        client.post(f"/api/blobs/{tokens[token]}", content=data).raise_for_status()
    for body in probe.get("setup", ()):
        client.post("/api/create", json={**fill(body, tokens), "stream": False}).raise_for_status()
    return Asked(probe, tokens)


def config(stores: Stores, name: str) -> str:
    """The text of a model's config blob."""
    return stores.blob(str(Manifest.decode(stores.path(name).read_bytes()).config.digest)).read_text()


def layers(stores: Stores, name: str) -> list[dict[str, Any]]:
    """The layers of a model, as they are recorded."""
    return [_layer(layer) for layer in Manifest.decode(stores.path(name).read_bytes()).layers]


def _layer(layer: Layer) -> dict[str, Any]:
    shown = {"mediaType": layer.media_type, "size": layer.size, "digest": str(layer.digest)}
    return shown | ({"from": layer.from_} if layer.from_ else {})
